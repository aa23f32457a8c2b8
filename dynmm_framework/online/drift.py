"""Drift: has what is predicted become harder? ADWIN on the prequential metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.errors import PluginError
from dynmm_framework.protocols import State

REMEMBERED: Final = 20_000
"""Values after which ADWIN starts again from the newest half, so that its state stays small."""


class DriftWatch:
    """ADWIN (Bifet & Gavaldà, SDM 2007) over blocks of events, by river.

    River's detector cannot be stored, so the values since its last alarm are kept, at most
    :data:`REMEMBERED`: a restored watch is fed them again and goes on exactly as it would have.

    Args:
        block: Events whose mean is one value. More make it slow: ADWIN's bound falls with the
            number of values. Fewer give alarms for the many events of one user at one moment.
        delta: ADWIN's confidence; smaller gives fewer alarms.
    """

    def __init__(self, *, block: int = 5, delta: float = 0.002) -> None:
        self.block, self.delta = block, delta
        self.alarms = 0
        self._values: list[float] = []
        self._rest = np.empty(0)
        self._detector = _adwin(delta)

    def observe(self, values: NDArray[np.float64]) -> bool:
        """Takes the metric of a window's events, in order; tells whether there is an alarm."""
        values = np.concatenate([self._rest, values])
        n = len(values) // self.block
        self._rest = values[n * self.block :]
        alarm = False
        for value in values[: n * self.block].reshape(n, self.block).mean(axis=1).tolist():
            alarm |= self._take(value)
        self.alarms += alarm
        return alarm

    def _take(self, value: float) -> bool:
        self._values.append(value)
        self._detector.update(value)
        if self._detector.drift_detected:
            self._values = self._values[-1:]
            self._restart()
            return True
        if len(self._values) >= REMEMBERED:
            self._values = self._values[-REMEMBERED // 2 :]
            self._restart()
        return False

    def _restart(self) -> None:
        self._detector = _adwin(self.delta)
        for value in self._values:
            self._detector.update(value)

    def get_state(self) -> State:
        return {
            "values": np.asarray(self._values, np.float64),
            "rest": self._rest,
            "alarms": np.asarray(self.alarms, np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._values = state["values"].tolist()
        self._rest = np.array(state["rest"])
        self.alarms = int(state["alarms"])
        self._restart()


def _adwin(delta: float) -> Any:
    try:
        from river.drift import ADWIN
    except ImportError as error:
        raise PluginError(
            "watching for drift needs river, which is not installed",
            hint='Install it with pip install "dynmm-framework[online]", or set'
            " online.config.drift to false.",
        ) from error
    return ADWIN(delta=delta)  # type: ignore[no-untyped-call]
