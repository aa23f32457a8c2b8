"""Stages of a pipeline, and the plan that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dynmm_framework.artifacts.store import StageStore
from dynmm_framework.engine.digest import content_key

StageKind = Literal[
    "data",
    "split",
    "candidates",
    "encode",
    "fit",
    "align",
    "evidence",
    "prompt",
    "rank",
    "explain",
    "robustness",
    "stream",
]

TRAINING: tuple[Literal["fit", "align", "prompt"], ...] = ("fit", "align", "prompt")
"""Kinds of stage that train a recommender, each standing on those before it."""

CACHE_FOLDER = ".cache"
"""Folder inside the runs folder that holds finished stages."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of the graph.

    Attributes:
        name: Unique in the plan, such as ``fit/sasrec/seed-7``.
        kind: What the stage does.
        key: Content key; empty if it cannot be known before the data is fetched.
        cached: Whether a finished result is in the store.
        device: Device on which the stage will work.
        seed: The stage's own seed.
        label: The recommender concerned; empty for data stages.
        model_seed: The seed of ``seeds`` concerned.
        protocol: ``full``, ``sampled:N`` or ``cold:N`` for stages that rank or choose candidates.
        workers: Ray workers that compute it together; 0 for this process.
        parts: Components that the stage's own stands on, as ``llm: dist==version/name``.
    """

    name: str
    kind: StageKind
    key: str
    cached: bool
    device: str = "cpu"
    seed: int = 0
    label: str = ""
    model_seed: int = 0
    protocol: str = ""
    workers: int = 0
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All stages of a pipeline in an order in which they can run."""

    name: str
    stages: tuple[PlannedStage, ...]
    notes: tuple[str, ...] = ()
    resolved: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def run_id(self) -> str:
        """Names the run's folder: the same pipeline on the same data has the same one."""
        if not all(stage.key for stage in self.stages):
            return f"{self.name}-unknown"
        # Where a run computes, who watches it and what is searched change none of its numbers.
        aside = ("compute", "tracking", "search")
        settings = {k: v for k, v in self.resolved.items() if k not in aside}
        parts = {"stages": [stage.key for stage in self.stages], "pipeline": settings}
        return f"{self.name}-{content_key(parts)[:8]}"

    def named(self, name: str) -> PlannedStage:
        """Returns the stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)

    def of_kind(self, *kinds: StageKind) -> tuple[PlannedStage, ...]:
        """Returns the stages of some kinds, in order."""
        return tuple(stage for stage in self.stages if stage.kind in kinds)


def store_in(runs_dir: Path) -> StageStore:
    """Returns the stage store of a runs folder."""
    return StageStore(runs_dir / CACHE_FOLDER)
