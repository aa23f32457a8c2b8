"""A sample from before the stream that nothing is ever learned from, to see what is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.online.lesson import Lesson, People, Summary
from dynmm_framework.online.memory import Memory, below
from dynmm_framework.online.ranks import Values, metrics_of, ranks_of
from dynmm_framework.online.scene import Scene
from dynmm_framework.online.strategies import Strategy
from dynmm_framework.protocols import IntArray, State

SHARE = 5
"""The sample is at most one in so many of the events that were held out."""


def drawn(n: int, *, most: int, seed: int) -> NDArray[np.bool_]:
    """Draws which of ``n`` events are in the sample.

    Args:
        n: Events that were held out before the stream.
        most: Size of the sample, if there are enough.
        seed: Seed.

    Returns:
        ``(n,)`` bool.
    """
    rng = np.random.default_rng([seed, 5])
    chosen = np.zeros(n, np.bool_)
    chosen[rng.choice(n, min(most, n // SHARE), replace=False)] = True
    return chosen


class Probe:
    """Events of the held-out part, each with its user as known at that time.

    They are in the histories of their users, as what has happened is known; but no weight, no
    prior, no summary, no replay and no guard ever learns from them. So the figures before and after
    a stream differ by what the stream has changed, and the one before is not flattered.
    """

    def __init__(self) -> None:
        self._people: dict[str, People] = {}
        self._targets: IntArray = np.empty(0, np.int32)
        self._last: NDArray[np.int64] = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._targets)

    def fill(self, scenes: Sequence[Scene]) -> None:
        """Takes the sample, as it was met window by window."""
        filled = [scene for scene in scenes if len(scene)]
        if filled:
            self._people["people"] = People.joined([scene.people for scene in filled])
            lately = [scene.lately for scene in filled if scene.lately is not None]
            if lately:
                self._people["lately"] = People.joined(lately)
            self._targets = np.concatenate([scene.targets for scene in filled])
            self._last = np.concatenate([scene.last for scene in filled])

    def values(
        self, memory: Memory, strategies: Mapping[str, Strategy], *, as_present: bool = False
    ) -> dict[str, Values]:
        """Returns NDCG@10 of every event by the present state of every strategy.

        Args:
            memory: Histories, summaries and priors of now.
            strategies: The strategies.
            as_present: Meet the users as if they had just been there, with all of the short-term
                priors and of the correction, instead of as users who have not come since.

        Returns:
            ``(n,)`` by strategy; empty without a sample.
        """
        if not self._people:
            return {}
        people, lately = self._people["people"], self._people.get("lately")
        last = np.full(len(self), memory.histories.place) if as_present else self._last
        found: dict[str, list[Values]] = {name: [] for name in strategies}
        for chunk in memory.renewed(people, lately, self._targets, last).chunks():
            for name, strategy in strategies.items():
                ranks = ranks_of(strategy.score(chunk), chunk.people.known, chunk.targets)
                found[name].append(metrics_of(ranks, [10])["ndcg@10"])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def get_state(self) -> State:
        state: dict[str, NDArray[Any]] = {"targets": self._targets, "last": self._last}
        for name, people in self._people.items():
            arrays = Lesson(_NO_SUMMARY, people, self._targets).get_state()
            state |= {f"{name}.{key}": array for key, array in arrays.items()}
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._targets, self._last = state["targets"], state["last"]
        parts = {name: below(state, name) for name in ("people", "lately")}
        self._people = {
            name: Lesson.from_state(arrays).people for name, arrays in parts.items() if arrays
        }


_NO_SUMMARY = Summary(np.empty(0, np.int32), np.empty((0, 0), np.float32), np.empty(0, np.bool_))
