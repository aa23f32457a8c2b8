"""The fit stage: a component learns, and learns again on what was held out if the split asks.

Early stopping needs interactions that are not trained on; who publishes a training and a test
file trains on all of the former. Hence the second training (``split.refit``): the first finds the
best epoch on the held-out share, the second starts afresh on everything, for that many epochs and
without a validator. What makes a component take part is its settings and its records, not its
name: it has a setting ``epochs``, and tells the ``best_epoch`` in its record ``training``, as
:func:`dynmm_framework.training.loop.train` does. Without such a record its ``epochs`` stay as
they are; without the setting there is nothing to stop early, and one fit on everything is all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from dynmm_framework.artifacts.arrays import save_arrays
from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.artifacts.store import StageWriter
from dynmm_framework.engine.context import RunContext, connected
from dynmm_framework.engine.legs import fit_in_legs
from dynmm_framework.engine.plan import PlannedStage
from dynmm_framework.errors import DynmmError, PluginError
from dynmm_framework.specs import Component

if TYPE_CHECKING:
    from dynmm_framework.data.tables import TrainingData
    from dynmm_framework.engine.stages import Workbench

STATE_FILE = "state.safetensors"
FIRST_FILE = "early-stopping.json"
"""Inside a work folder: what the first of two trainings found, for a run that is interrupted."""


def fit(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Trains a stage's component and stores its state.

    Returns:
        What the stage notes about itself: time, memory, the component's records and, under
        ``refit``, those of the training on everything.
    """
    from dynmm_framework.evaluation.efficiency import PeakMemory

    component_of = bench.loaded.components[stage.label]
    with PeakMemory(bench.device) as peak, blamed(component_of, stage):
        component, seconds, records = _Fit(bench, stage, writer).run()
    if bench.workers.rank == 0:
        save_arrays(
            writer.folder / STATE_FILE,
            component.get_state(),
            metadata={"component": component_of.identity},
        )
    return {
        "fit_seconds": seconds,
        "peak_rss_bytes": peak.rss_bytes,
        "peak_gpu_bytes": peak.gpu_bytes,
        "device": bench.device,
        **records,
    }


class _Fit:
    def __init__(self, bench: Workbench, stage: PlannedStage, writer: StageWriter) -> None:
        self.bench, self.stage, self.writer = bench, stage, writer
        self.config: BaseModel = bench.loaded.configs[stage.label]

    def run(self) -> tuple[Any, float, Mapping[str, Any]]:
        """Returns the trained component, the seconds of training, and its records."""
        if not self.bench.refits:
            return self._fit(self.config, self._held_out_data(), self._context(validate=True))
        everything = self.bench.training_data(self.stage.label, validation=True)
        n = len(everything.train)
        if "epochs" not in type(self.config).model_fields:
            ctx = self._context()
            ctx.log(f"fitted on all {n:,} interactions, those held out included: it has no epochs")
            component, seconds, records = self._fit(self.config, everything, ctx)
            return component, seconds, {**records, "refit": {"interactions": n, "epochs": None}}
        first = self._first()
        best = first["records"].get("training", {}).get("best_epoch")
        epochs = getattr(self.config, "epochs") if best is None else best  # noqa: B009
        self._context().log(
            f"best epoch on the interactions held out: {epochs if best else 'not told'}; trained "
            f"again from scratch on all {n:,} interactions for {epochs:,} epochs"
        )
        config = self.config.model_copy(update={"epochs": epochs})
        component, seconds, records = self._fit(config, everything, self._context(part="refit"))
        again = {"interactions": n, "epochs": epochs, **records}
        return component, first["seconds"] + seconds, {**first["records"], "refit": again}

    def _first(self) -> Mapping[str, Any]:
        """Trains with early stopping, or reads what an interrupted run had found."""
        found = self.writer.workdir / FIRST_FILE
        # The work folder is that of the stage's key: same settings, data, code and seed.
        if found.is_file():
            self._context().log("early stopping was finished before the interruption")
            known: Mapping[str, Any] = read_json(found)
            return known
        _, seconds, records = self._fit(
            self.config, self._held_out_data(), self._context(validate=True)
        )
        first = {"schema_version": 1, "seconds": seconds, "records": records}
        if self.bench.workers.rank == 0:
            write_json(found, first)
        return first

    def _fit(
        self, config: BaseModel, data: TrainingData, ctx: RunContext
    ) -> tuple[Any, float, Mapping[str, Any]]:
        catalogue, found = self.bench.loaded.catalogue, self.bench.loaded.components
        seconds = 0.0

        def fitted(config: BaseModel, ctx: RunContext) -> Any:
            nonlocal seconds
            component = connected(catalogue.create(found[self.stage.label], config), ctx)
            started = time.perf_counter()
            try:
                component.fit(data, ctx)
            finally:
                seconds += time.perf_counter() - started
            return component

        return fit_in_legs(config, ctx, fitted), seconds, ctx.records

    def _held_out_data(self) -> TrainingData:
        return self.bench.training_data(self.stage.label)

    def _context(self, *, validate: bool = False, part: str = "") -> RunContext:
        validator = self.bench.validator if validate else None
        return self.bench.context(self.stage, self.writer, validator=validator, part=part)


@contextmanager
def blamed(component: Component, stage: PlannedStage) -> Iterator[None]:
    """Names the component whose code raised something that it did not explain itself."""
    try:
        yield
    except (DynmmError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(
            f"{component.identity} failed in stage {stage.name}: {type(error).__name__}: {error}",
            hint=f"See where with --debug; it is code of {component.provider.distribution}.",
        ) from error
