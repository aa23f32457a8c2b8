"""The context that a stage runs in; see :class:`dynmm_framework.protocols.Context`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.artifacts.sources import Fetcher, default_cache
from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.parts import PartRef, find_part
from dynmm_framework.engine.digest import content_key
from dynmm_framework.engine.progress import Display
from dynmm_framework.engine.seeds import spawn_rng, spawn_seed
from dynmm_framework.protocols import Context, Leg, Precision, Validator, Workers


@dataclass(frozen=True)
class Surroundings:
    """What all stages of a run share.

    Attributes:
        catalogue: The run's components.
        display: Progress bars and lines.
        offline: Whether fetching is forbidden.
        run: The run's id, passed to observers; empty outside a run.
        folder: Where the user has files of records already; searched before anything is fetched.
        on_epoch: Told of every epoch of every stage, as ``(stage, epoch, metrics)``; what it raises
            ends the stage.
        keep_epochs: Whether trainings keep a checkpoint of every epoch that they report.
    """

    catalogue: Catalogue
    display: Display = field(default_factory=lambda: Display(None))
    offline: bool = False
    run: str = ""
    folder: Path | None = None
    on_epoch: Callable[[str, int, Mapping[str, float]], None] | None = None
    keep_epochs: bool = False
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _records: list[Registry] = field(default_factory=list, repr=False, compare=False)

    @property
    def registry(self) -> Registry:
        """All records that the installed plugins bring; read once, for copies of this too."""
        if not self._records:
            self._records.append(Registry.load(self.catalogue.record_folders(), strict=False))
        return self._records[0]

    def fetch(self, record: str) -> Path:
        """Returns the folder of a dataset's or model's files, fetched if need be.

        Raises:
            ArtifactError: If the record is unknown or no source delivers its files.
        """
        fetcher = Fetcher(
            default_cache(),
            offline=self.offline,
            progress=self.display.bar,
            fetch_hook=lambda **asked: self.catalogue.first("dynmm_fetch_artifact", **asked),
            log=self.display.line,
            folder=self.folder,
        )
        return fetcher.fetch(self.registry.find_files(record))

    def part(self, ref: PartRef, ctx: Context) -> Any:
        """Returns a component that another one stands on; see :meth:`Context.component`."""
        part = find_part(ref, self.catalogue)
        component, config = part.component, part.config
        if component.kind != "language_model":
            made = connected(self.catalogue.create(component, config), ctx)
            if component.kind == "encoder" and hasattr(made, "load"):
                made.load(ctx)
            return made
        parts = {"name": component.identity, "config": config.model_dump(mode="json")}
        key = content_key({**parts, "device": ctx.device})
        if key not in self._kept:
            self._kept.clear()  # of models this large, one is enough in memory
            made = self.catalogue.create(component, config)
            made.load(ctx)
            self._kept[key] = made
        return self._kept[key]


def connected(component: Any, ctx: Context) -> Any:
    """Returns a new component after it was told where it gets its parts, if it has any."""
    connect = getattr(component, "connect", None)
    if callable(connect):
        connect(ctx)
    return component


@dataclass(frozen=True)
class RunContext:
    """One stage's view of its surroundings."""

    surroundings: Surroundings
    stage: str = ""
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "fp32"
    workdir: Path = Path()
    validator: Validator | None = None
    workers: Workers = field(default_factory=Workers)
    leg: Leg | None = None
    records: dict[str, Any] = field(default_factory=dict)

    @property
    def offline(self) -> bool:
        return self.surroundings.offline

    def rng(self, name: str) -> np.random.Generator:
        return spawn_rng(self.seed, name)

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        return self.surroundings.display.bar(description, total)

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.surroundings.catalogue.notify(
            "dynmm_epoch_finished",
            run=self.surroundings.run,
            stage=self.stage,
            epoch=epoch,
            metrics=metrics,
        )
        if self.surroundings.on_epoch is not None:
            self.surroundings.on_epoch(self.stage, epoch, metrics)

    def record(self, name: str, value: Any) -> None:
        self.records[name] = value

    def fetch(self, record: str) -> Path:
        return self.surroundings.fetch(record)

    def component(self, ref: PartRef) -> Any:
        return self.surroundings.part(ref, self)

    def part(self, name: str) -> RunContext:
        workdir = self.workdir / name
        workdir.mkdir(parents=True, exist_ok=True)
        records: dict[str, Any] = self.records.setdefault(name, {})
        return replace(
            self,
            stage=f"{self.stage}/{name}",
            seed=spawn_seed(self.seed, name),
            workdir=workdir,
            leg=None,
            records=records,
        )

    def log(self, message: str) -> None:
        self.surroundings.display.line(f"  {self.stage}: {message}")


def bare_context(
    catalogue: Catalogue, *, offline: bool = False, display: Display | None = None
) -> RunContext:
    """Returns a context outside any run: enough to locate and read data."""
    return RunContext(Surroundings(catalogue, display or Display(None), offline), stage="data")
