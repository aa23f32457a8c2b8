"""A sample of past lessons, so that new ones do not overwrite what was learned before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.online.lesson import Lesson
from dynmm_framework.protocols import State


class Replay:
    """A reservoir of past windows, every event with the summaries that were its own.

    The events of a window share one summary of all items, which is what costs memory; so the
    reservoir (Vitter's algorithm R) is one of windows, and of each it keeps a random part. Every
    window of the past, and of equally long ones every event, is in it with the same probability.
    Replaying an event with the summaries of today instead would teach what was never seen
    together, and costs more than replay gains.

    Args:
        windows: Windows that are kept.
        events: Most events of a window that are kept.
        seed: Seed of all that is drawn.
    """

    def __init__(self, *, windows: int, events: int, seed: int) -> None:
        self.windows, self.events, self.seed = windows, events, seed
        self.offered = 0
        self.kept: list[Lesson] = []

    def __len__(self) -> int:
        """Number of events kept."""
        return sum(map(len, self.kept))

    def offer(self, lesson: Lesson) -> None:
        """Takes a window that has been learned, or leaves it."""
        self.offered += 1
        rng = np.random.default_rng([self.seed, self.offered])
        if self.windows == 0 or not len(lesson):
            return
        place = len(self.kept)
        if place == self.windows:
            place = int(rng.integers(self.offered))
            if place >= self.windows:
                return
        if len(lesson) > self.events:
            lesson = lesson.take(np.sort(rng.choice(len(lesson), self.events, replace=False)))
        self.kept[place : place + 1] = [lesson]

    def draw(self, n: int, *, step: int) -> Sequence[Lesson]:
        """Draws different windows for one step of learning.

        Args:
            n: Most windows.
            step: Number of the step; the same one draws the same windows.
        """
        if not self.kept or n == 0:
            return ()
        rng = np.random.default_rng([self.seed, 1, step])
        chosen = rng.choice(len(self.kept), min(n, len(self.kept)), replace=False)
        return [self.kept[place] for place in chosen]

    def get_state(self) -> State:
        state: dict[str, NDArray[Any]] = {
            "numbers": np.asarray([self.offered, len(self.kept)], np.int64)
        }
        for place, lesson in enumerate(self.kept):
            state |= {f"{place}.{name}": array for name, array in lesson.get_state().items()}
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.offered, n = map(int, state["numbers"])
        self.kept = [
            Lesson.from_state(
                {
                    name.partition(".")[2]: array
                    for name, array in state.items()
                    if name.startswith(f"{place}.")
                }
            )
            for place in range(n)
        ]
