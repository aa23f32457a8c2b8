"""Epochs that the stages of a trial report, which are what early stopping and people look at."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from dynmm_framework.errors import StoppedError


class Epoch(TypedDict):
    """One epoch of a stage: the followed metric, and the seconds since the trial began."""

    stage: str
    epoch: int
    value: float | None
    seconds: float


Report = Callable[[Epoch], None]
"""Takes an epoch; raises :class:`StoppedError` if the trial is to end there."""


def kind_of(epoch: Epoch) -> str:
    """Returns the kind of an epoch's stage (``fit``, ``align`` …), whose trials are compared.

    Empty for an epoch that cannot be compared: without a value, or of a training within a stage,
    which others need not have.
    """
    kind, _, rest = epoch["stage"].partition("/")
    return kind if epoch["value"] is not None and rest.count("/") <= 1 else ""


@dataclass
class EpochReporter:
    """Hands the epochs of one trial on, and ends the trial when its time is up.

    Args:
        metric: What is followed.
        report: Takes the epochs.
        deadline: Unix time after which the trial ends at its next epoch; 0 for none.
    """

    metric: str
    report: Report
    deadline: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def __call__(self, stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Takes one epoch of a stage.

        Raises:
            StoppedError: If the trial is to end here.
        """
        value = metrics.get(self.metric)
        if value is not None and not math.isfinite(value):
            value = None
        seconds = round(time.monotonic() - self.started, 3)
        self.report({"stage": stage, "epoch": epoch, "value": value, "seconds": seconds})
        if self.deadline and time.time() > self.deadline:
            raise StoppedError("the search's time budget is spent")
