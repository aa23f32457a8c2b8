"""Epochs of all trials, in a folder that every worker sees, and the decision to stop early.

A worker writes its own epochs and reads those of others when it has to decide, so no process has
to be asked: what a killed worker had reported still counts, and so does what an earlier sitting of
the search left.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.atomic import storage_errors
from dynmm_framework.config.search import Scheduler
from dynmm_framework.errors import StoppedError

Curve = Sequence[tuple[int, float]]
"""Epochs with the followed metric, larger being better, in order."""

LEAST_OTHERS = 3
"""Trials that the median needs."""


def rungs(scheduler: Scheduler, last: int) -> list[int]:
    """Returns ASHA's rungs up to an epoch: grace, grace × factor, …"""
    found, rung = [], scheduler.grace
    while rung <= last:
        found.append(rung)
        rung *= scheduler.factor
    return found


def verdict(scheduler: Scheduler, number: int, curves: Mapping[int, Curve]) -> str:
    """Says why a trial is to be stopped after its newest epoch; empty if it goes on.

    Args:
        scheduler: The rule.
        number: The trial.
        curves: Curves of all trials by number, larger values being better.
    """
    own = curves.get(number, ())
    if scheduler.name == "none" or not own:
        return ""
    newest = own[-1][0]
    before = own[-2][0] if len(own) > 1 else 0
    if scheduler.name == "asha":
        reached = [rung for rung in rungs(scheduler, newest) if rung > before]
        return _behind_at(reached[-1], scheduler, number, curves) if reached else ""
    if newest < scheduler.grace:
        return ""
    averages = [
        statistics.fmean(value for epoch, value in curve if epoch <= newest)
        for other, curve in curves.items()
        if other != number and curve and curve[-1][0] >= newest and curve[0][0] <= newest
    ]
    best = max(value for _, value in own)
    if len(averages) >= LEAST_OTHERS and best < statistics.median(averages):
        return f"median: behind the median of {len(averages)} trials at epoch {newest}"
    return ""


def _behind_at(rung: int, scheduler: Scheduler, number: int, curves: Mapping[int, Curve]) -> str:
    """ASHA's rule: of n trials at a rung, the best n / factor go on, and at least one."""
    values = {other: value for other, curve in curves.items() if (value := _at(curve, rung))}
    ranked = sorted((value[0] for value in values.values()), reverse=True)
    kept = max(1, len(ranked) // scheduler.factor)
    if values[number][0] >= ranked[kept - 1]:
        return ""
    place = ranked.index(values[number][0]) + 1
    return f"asha: {place} of {len(ranked)} at the rung of epoch {rung}, the best {kept} go on"


def _at(curve: Curve, rung: int) -> tuple[float] | None:
    """Returns the best value up to the first epoch at or after a rung."""
    best = -math.inf
    for epoch, value in curve:
        best = max(best, value)
        if epoch >= rung:
            return (best,)
    return None


@dataclass
class EpochReporter:
    """Notes the epochs of one trial and ends it when it is behind or out of time.

    Args:
        folder: Folder of all trials' epochs.
        number: The trial.
        metric: What is followed.
        sign: 1 if more is better, else -1.
        scheduler: When to stop early.
        deadline: Unix time after which the trial ends at its next epoch; 0 for none.
    """

    folder: Path
    number: int
    metric: str
    sign: int
    scheduler: Scheduler
    deadline: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def __call__(self, stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Takes one epoch of a stage.

        Raises:
            StoppedError: If the trial is to end here.
            ArtifactError: If the epoch cannot be written.
        """
        value = metrics.get(self.metric)
        if value is not None and not math.isfinite(value):
            value = None
        path = file_of(self.folder, self.number)
        entry = {
            "stage": stage,
            "epoch": epoch,
            "value": value,
            "seconds": round(time.monotonic() - self.started, 3),
        }
        with storage_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self.deadline and time.time() > self.deadline:
            raise StoppedError("the search's time budget is spent")
        if value is None or self.scheduler.name == "none":
            return
        role = stage.partition("/")[0]
        if stage.count("/") > 2:  # a training within a stage, which others need not have
            return
        due = self.scheduler.name == "median" or epoch in _due(self.scheduler, epoch, path, stage)
        if due and (reason := verdict(self.scheduler, self.number, self._curves(role))):
            raise StoppedError(reason)

    def _curves(self, role: str) -> dict[int, Curve]:
        found: dict[int, Curve] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            curve = [
                (entry["epoch"], self.sign * entry["value"])
                for entry in read_epochs(path)
                if entry["value"] is not None
                and entry["stage"].partition("/")[0] == role
                and entry["stage"].count("/") <= 2
            ]
            if curve:
                found[int(path.stem)] = curve
        return found


def _due(scheduler: Scheduler, epoch: int, path: Path, stage: str) -> set[int]:
    """Returns the epoch if it is the trial's first at or after a rung, for all others are cheap."""
    known = [
        e["epoch"] for e in read_epochs(path) if e["stage"] == stage and e["value"] is not None
    ]
    before = max((other for other in known if other < epoch), default=0)
    return {epoch} if any(rung > before for rung in rungs(scheduler, epoch)) else set()


def file_of(folder: Path, number: int) -> Path:
    """Returns the file of a trial's epochs."""
    return folder / f"{number:05d}.jsonl"


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Returns a trial's epochs; of one that was computed twice the newer."""
    if not path.exists():
        return []
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off when its worker was killed
        found[entry["stage"], entry["epoch"]] = entry
    return list(found.values())
