"""What both sides of a comparison share: split, subsets of users, and the judge of their models."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import read
from numpy.typing import NDArray

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.pipeline import LeaveOneOut
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.evaluation.evaluate import evaluate, expand
from dynmm_framework.evaluation.ranking import as_recommender

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Dataset, EvaluationSet, Histories
    from dynmm_framework.protocols import Scores


def leave_one_out(name: str) -> tuple[Dataset, Split]:
    """Reads a data set and splits it; ids are the same in every process."""
    dataset = read(name)
    return dataset, make_split(dataset, LeaveOneOut(strategy="leave_one_out"), seed=0)


def users_with(split: Split, targets: Sequence[int], most: int) -> NDArray[np.int64]:
    """Returns at most ``most`` users with ``targets[0]`` to ``targets[1]`` training targets."""
    found = split.train.histories().lengths - 1
    users = np.flatnonzero((found >= targets[0]) & (found <= targets[1]))
    return np.sort(np.random.default_rng(0).permutation(users)[:most])


def full_ranking(component: Any, evaluation: EvaluationSet) -> tuple[dict[str, float], float]:
    """Ranks the whole catalogue, histories masked; returns HR@10, NDCG@10 and the seconds."""
    catalogue = load_catalogue()
    requests = expand([catalogue.metric(name) for name in ("hit", "ndcg")], [10])
    started = time.perf_counter()
    result = evaluate(as_recommender(component), evaluation, requests, latency_users=0)
    return dict(result.values), time.perf_counter() - started


class ByFunction:
    """A function that scores all items, as a recommender."""

    def __init__(self, function: Callable[[Histories], Scores]) -> None:
        self.score = lambda histories, candidates=None: function(histories)

    def fit(self, data: object, ctx: object) -> None: ...
    def get_state(self) -> dict: ...
    def load_state(self, state: dict) -> None: ...


class TimeIsUp(Exception):  # noqa: N818 (the wanted end, not an error)
    """All moments have passed."""


class Clock:
    """Counts the seconds of a training and has the model judged at given moments.

    Judging does not count as training. The clock starts when it is made.

    Args:
        moments: Seconds of training after which to judge, ascending.
        evaluation: Test users.
    """

    def __init__(self, moments: Sequence[float], evaluation: EvaluationSet) -> None:
        self.left = list(moments)
        self.evaluation = evaluation
        self.found: list[dict[str, float]] = []
        self._started = time.perf_counter()
        self._judging = 0.0

    def elapsed(self) -> float:
        return time.perf_counter() - self._started - self._judging

    def check(self, component: Any, *, epochs: float, ahead: float = 0.0) -> None:
        """Judges the model if a moment has come.

        Args:
            component: The model.
            epochs: Passes over the data so far.
            ahead: Seconds until the next check; a moment before then is taken now.

        Raises:
            TimeIsUp: After the last moment.
        """
        now = self.elapsed()
        if self.left and now + ahead >= self.left[0]:
            started = time.perf_counter()
            values, _ = full_ranking(component, self.evaluation)
            self._judging += time.perf_counter() - started
            while self.left and now + ahead >= self.left[0]:
                moment = self.left.pop(0)
                self.found.append({"moment": moment, "seconds": now, "epochs": epochs, **values})
        if not self.left:
            raise TimeIsUp
