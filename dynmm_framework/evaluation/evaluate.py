"""One evaluator for every recommender: metrics under a protocol, per user and on average."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation import metrics
from dynmm_framework.evaluation.chance import chance, mean_chance
from dynmm_framework.evaluation.efficiency import measure_latency
from dynmm_framework.evaluation.outcome import Categories, Outcome
from dynmm_framework.evaluation.ranking import rank
from dynmm_framework.evaluation.requests import MetricRequest, expand
from dynmm_framework.evaluation.scoring import Component, name_of
from dynmm_framework.protocols import IntArray, Scores, Validator, Workers

if TYPE_CHECKING:
    from dynmm_framework.data.candidates import Candidates

__all__ = ["Evaluation", "MetricRequest", "chance", "evaluate", "expand", "make_validator"]

OpenProgress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]
"""Opens a progress bar, as :meth:`dynmm_framework.protocols.Context.progress` does."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """The numbers of one recommender under one protocol.

    Attributes:
        name: Name of the recommender.
        evaluation: What was asked: users, histories, targets.
        requests: The metrics that were asked for.
        values: Metric name to mean over users. Metrics that are undefined are absent and have a
            note instead.
        per_user: Metric name to one value for each user of ``evaluation``, NaN where undefined.
        outcome: Ranks and lists.
        seconds: Time that ranking took.
        latency: ``p50_ms``, ``p95_ms`` and number of ``requests`` of single users; see
            :func:`~dynmm_framework.evaluation.efficiency.measure_latency`.
        chance: Metric name to the value of a random ranking, for sampled and cold protocols.
        notes: What a reader of the numbers should know.
    """

    name: str
    evaluation: EvaluationSet
    requests: tuple[MetricRequest, ...]
    values: Mapping[str, float]
    per_user: Mapping[str, NDArray[np.float64]]
    outcome: Outcome
    seconds: float
    latency: Mapping[str, float]
    chance: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def evaluate(
    recommender: Component,
    evaluation: EvaluationSet,
    requests: Sequence[MetricRequest],
    *,
    candidates: Candidates | None = None,
    pool: IntArray | None = None,
    item_counts: NDArray[Any] | None = None,
    items: pa.Table | None = None,
    depth: int = 0,
    name: str = "",
    chunk_users: int | None = None,
    latency_users: int = 100,
    progress: OpenProgress | None = None,
) -> Evaluation:
    """Ranks, computes metrics and measures the time of single requests.

    Under a sampled protocol every target is measured on its own; a user's value is the mean over
    the user's targets, and the result the mean over users.

    Args:
        recommender: A trained recommender or backbone.
        evaluation: The users, their histories and targets.
        requests: Metrics, as made by :func:`expand`.
        candidates: Candidates of a sampled protocol; ``None`` ranks the whole catalogue.
        pool: Rank these items only, all targets among them; see
            :meth:`~dynmm_framework.data.tables.EvaluationSet.asked_for`.
        item_counts: Training interactions of each item, ``(n_items,)``; needed by metrics of
            novelty and popularity.
        items: The item table; its categories are needed by diversity.
        depth: Length of the lists to keep; raised to the largest cut-off that needs them.
        name: Name of the recommender in errors and in the result.
        chunk_users: Users scored at once; chosen by a byte budget if ``None``.
        latency_users: Most single-user requests to time; 0 for none.
        progress: Opens a progress bar.

    Raises:
        StageError: If scores are not finite or have the wrong shape.
        PluginError: If a metric cannot be loaded or fails.
    """
    name = name or name_of(recommender)
    n_rows = len(evaluation) if candidates is None else len(candidates)
    bar = nullcontext() if progress is None else progress(f"ranking {name}", n_rows)
    started = time.perf_counter()
    with bar as advance:
        outcome = rank(
            recommender,
            evaluation,
            candidates=candidates,
            pool=pool,
            depth=max([depth, *(r.k or 0 for r in requests if not r.from_ranks)]),
            item_counts=item_counts,
            categories=Categories.from_items(items),
            chunk_users=chunk_users,
            progress=advance,
            name=name,
        )
    seconds = time.perf_counter() - started
    values: dict[str, float] = {}
    per_user: dict[str, NDArray[np.float64]] = {}
    absent: dict[str, list[str]] = {}
    partial: dict[str, list[str]] = {}
    for request in requests:
        found = request(outcome)
        mean = _mean(found, outcome, len(evaluation))
        if np.isnan(mean):
            absent.setdefault(_reason(request, outcome), []).append(request.name)
            continue
        values[request.name] = mean
        if isinstance(found, np.ndarray):
            per_user[request.name] = outcome.by_user(found, len(evaluation))
            if missing := int(np.isnan(per_user[request.name]).sum()):
                who = f"for {missing:,} of {len(evaluation):,} users, left out of the mean"
                partial.setdefault(who, []).append(request.name)
    levels: dict[str, float] = {}
    if candidates is not None or pool is not None:
        for request in requests:
            level = (
                mean_chance(request, outcome)
                if candidates is None
                else chance(request, candidates.items.shape[1])
            )
            if level is not None and request.name in values:
                levels[request.name] = level
    return Evaluation(
        name=name,
        evaluation=evaluation,
        requests=tuple(requests),
        values=values,
        per_user=per_user,
        outcome=outcome,
        seconds=seconds,
        latency=measure_latency(recommender, evaluation.histories, users=latency_users),
        chance=levels,
        notes=(
            *(f"undefined here{reason}: {', '.join(names)}" for reason, names in absent.items()),
            *(f"undefined {who}: {', '.join(names)}" for who, names in partial.items()),
        ),
    )


def make_validator(
    evaluation: EvaluationSet,
    request: MetricRequest,
    *,
    candidates: Candidates | None = None,
    item_counts: NDArray[Any] | None = None,
    items: pa.Table | None = None,
    chunk_users: int | None = None,
    workers: Workers | None = None,
) -> Validator:
    """Returns a function that scores a model on validation users while it trains.

    It returns ``request``'s metric, and always ``ndcg@10`` and ``hit@10``. Lists are made only
    for a metric that may need them.

    Several workers rank a part of the users each; all get the values of all users, each user
    counted once. A metric with one value for all lists together is computed by every worker.

    Args:
        evaluation: The validation users.
        request: The metric that early stopping follows.
        candidates: Candidates of a sampled protocol; ``None`` ranks the whole catalogue.
        item_counts: Training interactions of each item, for metrics that need them.
        items: The item table, for metrics that need its categories.
        chunk_users: Users scored at once; chosen by a byte budget if ``None``.
        workers: The processes that train together; this one alone if ``None``.
    """
    return _RankValidator(
        evaluation,
        request,
        candidates,
        item_counts,
        Categories.from_items(items),
        chunk_users,
        workers or Workers(),
    )


class _Scorer:
    """A function that scores all items, as a recommender."""

    def __init__(self, function: Callable[[Histories], Scores]) -> None:
        self._function = function

    def score(self, histories: Histories, candidates: IntArray | None = None) -> Scores:
        scores = self._function(histories)
        if candidates is None:
            return scores
        if isinstance(scores, np.ndarray):
            return np.take_along_axis(scores, candidates, axis=1)
        import torch

        return scores.gather(1, torch.from_numpy(candidates.astype(np.int64)).to(scores.device))


class _RankValidator:
    def __init__(
        self,
        evaluation: EvaluationSet,
        request: MetricRequest,
        candidates: Candidates | None,
        item_counts: NDArray[Any] | None,
        categories: Categories | None,
        chunk_users: int | None,
        workers: Workers,
    ) -> None:
        self.metric = request.name
        self.higher_is_better = request.spec.higher_is_better
        self.evaluation = evaluation
        self._request = request
        self._candidates = candidates
        self._item_counts = item_counts
        self._categories = categories
        self._chunk_users = chunk_users
        self._workers = workers
        self._part = evaluation
        if workers.size > 1 and request.spec.per_user and candidates is None:
            # Every n-th user, so that long histories, if they lie together, are shared as well.
            self._part = evaluation.take(np.arange(workers.rank, len(evaluation), workers.size))

    def take(self, rows: NDArray[Any]) -> _RankValidator:
        rows = np.sort(rows)
        candidates = self._candidates
        if candidates is not None:
            kept = np.isin(candidates.rows, rows)
            candidates = replace(
                candidates,
                users=candidates.users[kept],
                items=candidates.items[kept],
                rows=np.searchsorted(rows, candidates.rows[kept]),
            )
        return _RankValidator(
            self.evaluation.take(rows),
            self._request,
            candidates,
            self._item_counts,
            self._categories,
            self._chunk_users,
            self._workers,
        )

    def __call__(self, score: Callable[[Histories], Scores]) -> dict[str, float]:
        scorer: Any = _Scorer(score)
        outcome = rank(
            scorer,
            self._part,
            candidates=self._candidates,
            depth=0 if self._request.from_ranks else self._request.k or 10,
            item_counts=self._item_counts,
            categories=self._categories,
            chunk_users=self._chunk_users,
            name="the model in training",
        )
        found = {
            "ndcg@10": self._mean(metrics.ndcg(outcome, 10), outcome),
            "hit@10": self._mean(metrics.hit(outcome, 10), outcome),
            self.metric: self._mean(self._request(outcome), outcome),
        }
        if np.isnan(found[self.metric]):
            raise StageError(
                f"{self.metric} cannot be followed in training: it is undefined on the"
                f" {len(self.evaluation):,} validation users{_reason(self._request, outcome)}",
                hint="Set evaluate.monitor to another metric, such as ndcg@10.",
            )
        return found

    def _mean(self, found: NDArray[np.float64] | float, outcome: Outcome) -> float:
        """Mean over the validation users of all workers, as :func:`_mean`; the same for each."""
        if self._part is self.evaluation:
            mean = _mean(found, outcome, len(self.evaluation))
            # Machines may round differently, and must not decide differently.
            return float(self._workers.gather(np.array([mean]))[0][0])
        assert isinstance(found, np.ndarray)  # a metric with a value per user
        values = np.empty(len(self.evaluation))
        for rank_, part in enumerate(self._workers.gather(found)):
            values[rank_ :: self._workers.size] = part
        return _mean_of(values)


def _mean(found: NDArray[np.float64] | float, outcome: Outcome, n_users: int) -> float:
    """Mean over users, those for whom it is undefined left out; NaN if it is for all."""
    if not isinstance(found, np.ndarray):
        return found
    return _mean_of(outcome.by_user(found, n_users))


def _mean_of(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _reason(request: MetricRequest, outcome: Outcome) -> str:
    if not len(outcome):
        return ", as there are no users"
    if request.function_name == "diversity" and outcome.categories is None:
        return ", as the items have no categories"
    if outcome.sampled and not request.from_ranks:
        return ", as lists of sampled candidates are mostly random items"
    return ""
