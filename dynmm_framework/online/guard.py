"""How much of a correction is served: as much as the recent past supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.protocols import State

STRENGTHS: Final = (0.0, 0.3, 0.6, 1.0)
"""λ: parts of the correction that may be served."""
PARTS: Final = (0.0, 0.5, 1.0)
"""Parts of popularity's weight that may be served."""


class Guard:
    """Chooses λ by the trailing prequential NDCG of each, so that a bad adapter serves its base.

    Args:
        half_life: Events after which a result counts half.
        strengths: The parts to choose from.
        initial: What is served before anything is known; of equally good parts the one next to it.
    """

    def __init__(
        self,
        *,
        half_life: float,
        strengths: Sequence[float] = STRENGTHS,
        initial: float = 0.0,
    ) -> None:
        self.half_life, self.initial = half_life, initial
        self.strengths = tuple(strengths)
        self._sums = np.zeros(len(self.strengths))
        self._weight = 0.0

    @property
    def strength(self) -> float:
        """λ for what comes next."""
        best = self._sums.max()
        equal = [
            part for part, sum_ in zip(self.strengths, self._sums, strict=True) if sum_ == best
        ]
        return min(equal, key=lambda part: abs(part - self.initial))

    @property
    def trailing(self) -> NDArray[np.float64]:
        """Trailing mean of each strength; zeros before the first window."""
        return self._sums / max(self._weight, 1e-12)

    def observe(self, values: NDArray[np.float64], *, events: int | None = None) -> None:
        """Takes what each strength would have reached in a window.

        Args:
            values: NDCG of every event, or of a sample of them, ``(strengths, n)``.
            events: Events of the window; ``None`` for ``n``.
        """
        n = values.shape[1]
        events = n if events is None else events
        if not n:
            return
        fading = 0.5 ** (events / self.half_life)
        self._sums = self._sums * fading + values.sum(axis=1) * (events / n)
        self._weight = self._weight * fading + events

    def get_state(self) -> State:
        return {"sums": self._sums, "weight": np.asarray(self._weight)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._sums, self._weight = np.array(state["sums"]), float(state["weight"])
