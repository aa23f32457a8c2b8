"""The stage graph of a pipeline, with content keys.

A stage's key covers its slice of the configuration, the provider and code of its component, the
keys of the stages it builds on, and its seed. A stage whose key is found in the store is skipped:
resuming, caching and cheap search are this one mechanism.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.artifacts.store import StageStore
from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.config.pipeline import GivenFiles
from dynmm_framework.engine.context import Surroundings, bare_context
from dynmm_framework.engine.device import guess_device, worker_device
from dynmm_framework.engine.digest import (
    NUMERICAL_ROOMS,
    code_digest,
    component_digest,
    content_key,
    encoder_parts,
    media_digest,
    part_digests,
)
from dynmm_framework.engine.graph import TRAINING, Plan, PlannedStage, StageKind, store_in
from dynmm_framework.engine.seeds import spawn_seed
from dynmm_framework.errors import ArtifactError, DataError, Problem
from dynmm_framework.specs import MetricSpec, split_metric
from dynmm_framework.training.config import LoopConfig

__all__ = ["TRAINING", "Plan", "PlannedStage", "StageKind", "make_plan", "store_in"]


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
        DataError: If a file of the dataset or of a given split is missing; names all of them.
    """
    notes: list[str] = []
    # A plan that is only printed need not read every stored file.
    around = surroundings or Surroundings(loaded.catalogue, offline=True)
    planner = _Planner(
        loaded,
        store_in(runs_dir),
        thorough=surroundings is not None,
        registry=around.registry,
    )
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
    given = split_files(loaded.pipeline.split)
    missing = [Problem("does not exist", file=str(path)) for path in given if not path.exists()]
    try:
        files = reader.files(ctx)
    except DataError as error:
        raise DataError([*error.problems, *missing], hint=error.hint) from error
    except ArtifactError:
        if not missing:
            raise
    if missing:
        raise DataError(missing, hint="Check the paths in the split block.")
    return fingerprint_files([*files, *given])


@dataclass(frozen=True)
class _Planner:
    loaded: LoadedPipeline
    store: StageStore
    thorough: bool
    registry: Registry

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
                    parts={
                        "split": split.key,
                        "max_users": evaluate.max_users,
                        # What is trained on decides which items are cold.
                        **({"refit": False} if self._keeps_validation() else {}),
                    },
                    seed=spawn_seed(seed, f"candidates/{protocol.name}"),
                    protocol=protocol.name,
                )
                yield candidates[protocol.name]
        encoded = [self._encode(name, known, data, split) for name in pipeline.encoders.given]
        yield from encoded
        # Each stands on those before it.
        roles = pipeline.roles
        labels = sorted(roles, key=lambda label: TRAINING.index(roles[label]))
        trained: dict[tuple[str, int], PlannedStage] = {}
        evidence: list[PlannedStage] = []
        for label in labels:
            if roles[label] == "prompt" and not evidence:
                evidence = list(self._evidence(known, split, encoded, trained))
                yield from evidence
            for model_seed in pipeline.model_seeds:
                fit = self._train(label, model_seed, known, split, encoded, trained, evidence)
                trained[label, model_seed] = fit
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

        if not evidence:
            evidence = list(self._evidence(known, split, encoded, trained))
            yield from evidence
        if pipeline.explain is not None:
            yield from self._explanations(known, split, trained, evidence)
        if pipeline.robustness is not None:
            whole = pipeline.own("align") or ""
            for model_seed in pipeline.model_seeds:
                yield self._stage(
                    f"robustness/{whole}/seed-{model_seed}",
                    "robustness",
                    known,
                    parts={
                        "align": trained[whole, model_seed].key,
                        "robustness": pipeline.robustness.model_dump(mode="json"),
                        "protocols": [protocol.name for protocol in evaluate.protocols],
                        "candidates": {name: drawn.key for name, drawn in candidates.items()},
                        "metrics": [_code_of(spec) for spec in self.loaded.metrics],
                        "at": evaluate.at,
                        "max_users": evaluate.max_users,
                    },
                    seed=spawn_seed(seed, "robustness"),
                    label=whole,
                    model_seed=model_seed,
                    device=device,
                )
        if pipeline.online is not None:
            yield from self._streams(known, split, trained)

    def _streams(
        self,
        known: bool,
        split: PlannedStage,
        trained: Mapping[tuple[str, int], PlannedStage],
    ) -> Iterator[PlannedStage]:
        """Plans the meeting with the stream, for each model seed."""
        pipeline = self.loaded.pipeline
        online = pipeline.online
        assert online is not None
        base = self.loaded.retrieval_label
        for model_seed in pipeline.model_seeds:
            yield self._stage(
                f"stream/online/seed-{model_seed}",
                "stream",
                known,
                parts={
                    "split": split.key,
                    "base": trained[base, model_seed].key,
                    "component": self._component("online"),
                    "compared": [
                        online.controls,
                        online.baselines,
                        online.retrain_every,
                        *(["ablations"] if online.ablations else []),
                    ],
                },
                seed=spawn_seed(model_seed, "stream/online"),
                label="online",
                model_seed=model_seed,
                device=guess_device(pipeline.compute.device),
            )

    def _encode(
        self, name: str, known: bool, data: PlannedStage, split: PlannedStage
    ) -> PlannedStage:
        """Plans the encoding of one modality of all items."""
        ref = getattr(self.loaded.pipeline.encoders, name)
        fields = getattr(ref, "fields", [])
        # A given split brings an item table of its own.
        given = isinstance(self.loaded.pipeline.split, GivenFiles)
        return self._stage(
            f"encode/{name}",
            "encode",
            known,
            parts={
                "items": split.key if given else data.key,
                "encoder": encoder_parts(self.loaded, f"encoders/{name}", self.registry),
                "media": None if ref.media is None else media_digest(ref.media),
                **({"fields": fields} if fields else {}),
            },
            seed=spawn_seed(self.loaded.pipeline.seed, f"encode/{name}"),
            label=f"encoders/{name}",
            device=guess_device(self.loaded.pipeline.compute.device),
        )

    def _evidence(
        self,
        known: bool,
        split: PlannedStage,
        encoded: Sequence[PlannedStage],
        trained: Mapping[tuple[str, int], PlannedStage],
    ) -> Iterator[PlannedStage]:
        """Plans what each extractor of evidence learns of the items, for each model seed."""
        pipeline = self.loaded.pipeline
        evaluate = pipeline.evaluate
        for name in pipeline.extractors:
            label = f"evidence/{name}"
            for model_seed in pipeline.model_seeds:
                yield self._stage(
                    f"{label}/seed-{model_seed}",
                    "evidence",
                    known,
                    parts={
                        "split": split.key,
                        "component": self._component(label),
                        "retrieval": trained[self.loaded.retrieval_label, model_seed].key,
                        "features": {stage.name: stage.key for stage in encoded},
                        "monitor": [evaluate.monitor, evaluate.monitor_users, self._monitor()],
                    },
                    seed=spawn_seed(model_seed, label),
                    label=label,
                    model_seed=model_seed,
                    device=guess_device(pipeline.compute.device),
                    standing_on=self._standing_on(label),
                )

    def _explanations(
        self,
        known: bool,
        split: PlannedStage,
        trained: Mapping[tuple[str, int], PlannedStage],
        evidence: Sequence[PlannedStage],
    ) -> Iterator[PlannedStage]:
        """Plans the explanation of the pipeline's own recommender, for each model seed."""
        pipeline = self.loaded.pipeline
        block, own = pipeline.explain, next(iter(pipeline.recommenders))
        assert block is not None
        writes = {"llm": self._component("explain/llm")} if block.llm is not None else {}
        for model_seed in pipeline.model_seeds:
            yield self._stage(
                f"explain/{own}/seed-{model_seed}",
                "explain",
                known,
                parts={
                    "split": split.key,
                    "recommender": trained[own, model_seed].key,
                    "evidence": {e.name: e.key for e in evidence if e.model_seed == model_seed},
                    "explain": block.model_dump(mode="json"),
                    "max_users": pipeline.evaluate.max_users,
                    "root": pipeline.seed,
                    **writes,
                },
                seed=spawn_seed(model_seed, f"explain/{own}"),
                label=own,
                model_seed=model_seed,
                device=guess_device(pipeline.compute.device),
                standing_on=(
                    (f"llm: {self.loaded.components['explain/llm'].identity}",) if writes else ()
                ),
            )

    def _standing_on(self, label: str) -> tuple[str, ...]:
        parts = self.loaded.parts(label).items()
        return tuple(f"{place}: {part.component.identity}" for place, part in parts)

    def _train(
        self,
        label: str,
        model_seed: int,
        known: bool,
        split: PlannedStage,
        encoded: Sequence[PlannedStage],
        trained: Mapping[tuple[str, int], PlannedStage],
        evidence: Sequence[PlannedStage],
    ) -> PlannedStage:
        """Plans the training of a recommender: of its own, an alignment, or a prompt."""
        pipeline = self.loaded.pipeline
        evaluate, role = pipeline.evaluate, self.loaded.role(label)
        parts = {
            "split": split.key,
            "component": self._component(label),
            "monitor": [evaluate.monitor, evaluate.monitor_users, self._monitor()],
            "precision": pipeline.compute.precision,
            **self._shared(label),
        }
        if role == "align" or self.loaded.needs_features(label):
            parts["features"] = {stage.name: stage.key for stage in encoded}
        if role == "prompt":
            parts["retrieval"] = trained[self.loaded.retrieval_label, model_seed].key
            found = {e.name: e.key for e in evidence if e.model_seed == model_seed}
            parts |= {"evidence": found} if found else {}
            if control := pipeline.control_of(label):
                parts |= {"control": control, "root": pipeline.seed}
        elif role == "align":
            parts["control"] = pipeline.control_of(label)
            parts["backbone"] = trained[self.loaded.backbone_label, model_seed].key
        elif self._keeps_validation():
            parts["refit"] = False  # see Workbench.refits
        workers = self._workers(label)
        whole = None if role == "fit" else pipeline.own(role)
        return self._stage(
            f"{role}/{label}/seed-{model_seed}",
            role,
            known,
            parts=parts,
            # Variants draw what the whole draws, so that they differ in what they name alone.
            seed=spawn_seed(model_seed, f"{role}/{whole or label}"),
            label=label,
            model_seed=model_seed,
            device=worker_device(pipeline.compute)
            if workers
            else guess_device(pipeline.compute.device),
            workers=workers,
            standing_on=self._standing_on(label),
        )

    def _keeps_validation(self) -> bool:
        """Whether an alignment or a prompt keeps a split from being refitted."""
        pipeline = self.loaded.pipeline
        fits_on_it = pipeline.align is not None or pipeline.prompt is not None
        return fits_on_it and getattr(pipeline.split, "refits", False)

    def _workers(self, label: str) -> int:
        """Ray workers that train a recommender: none for one that the shared loop does not."""
        compute = self.loaded.pipeline.compute
        trains = isinstance(self.loaded.configs[label], LoopConfig)
        trains = trains and self.loaded.role(label) == "fit"
        return compute.workers if compute.engine == "ray" and trains else 0

    def _shared(self, label: str) -> dict[str, Any]:
        """What the number of workers adds to a key; one computes the same wherever it is."""
        workers = self._workers(label)
        return {"workers": workers} if workers > 1 else {}

    def _monitor(self) -> list[str]:
        family, _ = split_metric(self.loaded.pipeline.evaluate.monitor)
        return _code_of(self.loaded.catalogue.metric(family))

    def _component(self, label: str) -> dict[str, Any]:
        component, config = self.loaded.components[label], self.loaded.configs[label]
        weights = getattr(config, "fingerprint", None)
        return {
            "identity": component.identity,
            "code": component_digest(component),
            "config": config.model_dump(mode="json"),
            # Files that settings name may change under their names.
            **({"weights": weights(self.registry)} if callable(weights) else {}),
            **part_digests(self.loaded.parts(label), self.registry),
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
        workers: int = 0,
        standing_on: tuple[str, ...] = (),
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
            workers=workers,
            parts=standing_on,
        )


def _code_of(spec: MetricSpec) -> list[str]:
    """Returns a metric's function and a digest of its module, for a plugin may change it."""
    return [spec.target, code_digest(spec.target.partition(":")[0])]
