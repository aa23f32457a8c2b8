"""The stage graph of a pipeline, with content keys.

A stage's key covers its slice of the configuration, the provider and code of its component, the
keys of the stages it builds on, and its seed. A stage whose key is found in the store is skipped:
resuming, caching and cheap search are this one mechanism.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dynmm_framework.artifacts.store import StageStore
from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.engine.context import Surroundings, bare_context
from dynmm_framework.engine.device import guess_device
from dynmm_framework.engine.digest import (
    NUMERICAL_ROOMS,
    code_digest,
    component_digest,
    content_key,
)
from dynmm_framework.engine.seeds import spawn_seed
from dynmm_framework.errors import ArtifactError
from dynmm_framework.specs import MetricSpec, split_metric

StageKind = Literal["data", "split", "candidates", "fit", "rank"]

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
        protocol: ``full`` or ``sampled:N`` for stages that rank or draw candidates.
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
        # Where a run computes and who watches it change none of its numbers.
        settings = {k: v for k, v in self.resolved.items() if k not in ("compute", "tracking")}
        parts = {"stages": [stage.key for stage in self.stages], "pipeline": settings}
        return f"{self.name}-{content_key(parts)[:8]}"

    def named(self, name: str) -> PlannedStage:
        """Returns the stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)

    def of_kind(self, kind: StageKind) -> tuple[PlannedStage, ...]:
        """Returns the stages of one kind, in order."""
        return tuple(stage for stage in self.stages if stage.kind == kind)


def store_in(runs_dir: Path) -> StageStore:
    """Returns the stage store of a runs folder."""
    return StageStore(runs_dir / CACHE_FOLDER)


def make_plan(
    loaded: LoadedPipeline,
    *,
    runs_dir: Path,
    surroundings: Surroundings | None = None,
) -> Plan:
    """Plans a pipeline without importing torch or fetching anything.

    Args:
        loaded: The checked pipeline.
        runs_dir: Folder of runs; finished stages are looked up in it.
        surroundings: With it, data that is missing is fetched first, so that every key is known.

    Raises:
        DataError: If a file of the dataset is missing.
    """
    notes: list[str] = []
    # A plan that is only printed need not read every stored file.
    planner = _Planner(loaded, store_in(runs_dir), thorough=surroundings is not None)
    try:
        inputs = _input_digest(loaded, surroundings)
    except ArtifactError as error:
        if surroundings is not None:
            raise
        inputs = ""
        notes.append(f"keys are unknown until the data is fetched: {error.message}")
    return Plan(
        name=loaded.name,
        stages=tuple(planner.stages(inputs)),
        notes=tuple(notes),
        resolved=loaded.resolved(),
    )


def _input_digest(loaded: LoadedPipeline, surroundings: Surroundings | None) -> str:
    from dynmm_framework.data.fingerprint import fingerprint_files
    from dynmm_framework.data.splits import split_files

    if surroundings is None:
        surroundings = Surroundings(loaded.catalogue, offline=True)
    ctx = bare_context(loaded.catalogue, offline=surroundings.offline, display=surroundings.display)
    reader = loaded.catalogue.create(loaded.components["data"], loaded.configs["data"])
    return fingerprint_files([*reader.files(ctx), *split_files(loaded.pipeline.split)])


@dataclass(frozen=True)
class _Planner:
    loaded: LoadedPipeline
    store: StageStore
    thorough: bool

    def stages(self, inputs: str) -> Iterator[PlannedStage]:
        pipeline, seed = self.loaded.pipeline, self.loaded.pipeline.seed
        known = bool(inputs)
        device = guess_device(pipeline.compute.device)
        data = self._stage(
            "data",
            "data",
            known,
            parts={
                "inputs": inputs,
                "component": self._component("data"),
                "filters": pipeline.data.filters.model_dump(mode="json"),
            },
        )
        yield data
        split = self._stage(
            "split",
            "split",
            known,
            parts={"data": data.key, "split": pipeline.split.model_dump(mode="json")},
            seed=spawn_seed(seed, "split"),
        )
        yield split
        candidates: dict[str, PlannedStage] = {}
        evaluate = pipeline.evaluate
        for protocol in evaluate.protocols:
            if protocol.name != "full":
                candidates[protocol.name] = self._stage(
                    f"candidates/{protocol.name}",
                    "candidates",
                    known,
                    parts={"split": split.key, "max_users": evaluate.max_users},
                    seed=spawn_seed(seed, f"candidates/{protocol.name}"),
                    protocol=protocol.name,
                )
                yield candidates[protocol.name]
        for label in pipeline.recommenders:
            for model_seed in pipeline.model_seeds:
                fit = self._stage(
                    f"fit/{label}/seed-{model_seed}",
                    "fit",
                    known,
                    parts={
                        "split": split.key,
                        "component": self._component(label),
                        "monitor": [evaluate.monitor, evaluate.monitor_users, self._monitor()],
                        "precision": pipeline.compute.precision,
                    },
                    seed=spawn_seed(model_seed, f"fit/{label}"),
                    label=label,
                    model_seed=model_seed,
                    device=device,
                )
                yield fit
                for protocol in evaluate.protocols:
                    drawn = candidates.get(protocol.name)
                    yield self._stage(
                        f"rank/{label}/seed-{model_seed}/{protocol.name}",
                        "rank",
                        known,
                        parts={
                            "fit": fit.key,
                            "candidates": drawn.key if drawn else "",
                            "metrics": [_code_of(spec) for spec in self.loaded.metrics],
                            "at": evaluate.at,
                            "max_users": evaluate.max_users,
                            "root": seed,
                        },
                        label=label,
                        model_seed=model_seed,
                        protocol=protocol.name,
                        device=device,
                    )

    def _monitor(self) -> list[str]:
        family, _ = split_metric(self.loaded.pipeline.evaluate.monitor)
        return _code_of(self.loaded.catalogue.metric(family))

    def _component(self, label: str) -> dict[str, Any]:
        component = self.loaded.components[label]
        return {
            "identity": component.identity,
            "code": component_digest(component),
            "config": self.loaded.configs[label].model_dump(mode="json"),
        }

    def _stage(
        self,
        name: str,
        kind: StageKind,
        known: bool,
        *,
        parts: Mapping[str, Any],
        seed: int = 0,
        device: str = "cpu",
        label: str = "",
        model_seed: int = 0,
        protocol: str = "",
    ) -> PlannedStage:
        code = [code_digest(package) for package in NUMERICAL_ROOMS[kind]]
        key = content_key({"kind": kind, "seed": seed, "code": code, **parts}) if known else ""
        return PlannedStage(
            name=name,
            kind=kind,
            key=key,
            cached=bool(key) and self.store.find(name, key, content=self.thorough) is not None,
            device=device,
            seed=seed,
            label=label,
            model_seed=model_seed,
            protocol=protocol,
        )


def _code_of(spec: MetricSpec) -> list[str]:
    """Returns a metric's function and a digest of its module, for a plugin may change it."""
    return [spec.target, code_digest(spec.target.partition(":")[0])]
