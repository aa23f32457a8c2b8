"""What each kind of stage computes, and how its result is read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.artifacts.environment import library_versions
from dynmm_framework.artifacts.manifest import StageManifest
from dynmm_framework.artifacts.store import StageStore, StageWriter, StoredStage
from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.config.pipeline import GivenFiles
from dynmm_framework.config.protocols import AUCProtocol
from dynmm_framework.data.arrow import counted
from dynmm_framework.data.candidates import Candidates, cold_pool, draw_candidates
from dynmm_framework.data.features import Features
from dynmm_framework.data.filters import apply_filters
from dynmm_framework.data.fingerprint import fingerprint_dataset
from dynmm_framework.data.judgements import Judgements, asked_judgements
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.data.storage import (
    read_candidates,
    read_dataset,
    read_pool,
    read_split,
    write_candidates,
    write_dataset,
    write_pool,
    write_split,
)
from dynmm_framework.data.tables import Dataset, EvaluationSet, TrainingData
from dynmm_framework.engine.content import (
    Aligned,
    align,
    encode,
    evidence,
    prompt,
    seen_features,
)
from dynmm_framework.engine.context import RunContext, Surroundings, connected
from dynmm_framework.engine.evidence import EVIDENCE, offered, seen_evidence
from dynmm_framework.engine.explaining import explain
from dynmm_framework.engine.fitting import STATE_FILE, fit
from dynmm_framework.engine.plan import Plan, PlannedStage, StageKind
from dynmm_framework.engine.robustness import rank_without
from dynmm_framework.engine.seeds import spawn_rng
from dynmm_framework.engine.streaming import stream
from dynmm_framework.errors import StageError
from dynmm_framework.explain.source import EvidenceSource
from dynmm_framework.features.encoded import Encoded
from dynmm_framework.protocols import IntArray, Validator, Workers
from dynmm_framework.specs import split_metric

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dynmm_framework.evaluation.evaluate import MetricRequest

PER_USER_FILE = "per_user.parquet"
RANKING_FILE = "ranking.parquet"
RESULT_FILE = "result.json"
TOP_ITEMS = 20
"""Least length of the lists kept in ``ranking.parquet``."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What a protocol asks of every recommender.

    Attributes:
        evaluation: Users, histories, targets.
        candidates: Candidates of a sampled protocol.
        pool: The items that a cold protocol ranks.
        judgements: What the protocol ``auc`` has scored.
    """

    evaluation: EvaluationSet
    candidates: Candidates | None = None
    pool: IntArray | None = None
    judgements: Judgements | None = None


@dataclass(frozen=True)
class Workbench:
    """Runs stages, and reads finished ones only when another stage needs them."""

    loaded: LoadedPipeline
    plan: Plan
    store: StageStore
    surroundings: Surroundings
    device: str
    workers: Workers = field(default_factory=Workers)

    def run(self, stage: PlannedStage, *, apart: str = "") -> None:
        """Computes one stage and stores its result, or leaves nothing.

        Args:
            stage: The stage.
            apart: See :meth:`.StageStore.stage`.
        """
        work = _WORK[stage.kind]

        def compute(writer: StageWriter) -> None:
            writer.meta.update(work(self, stage, writer))

        meta = {"kind": stage.kind, "libraries": library_versions()}
        self.store.ensure(stage.name, stage.key, compute, meta=meta, apart=apart)

    def folder(self, stage: PlannedStage) -> Path:
        """Returns the folder of a finished stage.

        Raises:
            StageError: If it is not in the store any more.
        """
        return self._stored(stage).folder

    def manifest(self, stage: PlannedStage) -> StageManifest:
        """Returns what a finished stage noted about itself."""
        return self._stored(stage).manifest

    def _stored(self, stage: PlannedStage) -> StoredStage:
        found = self.store.find(stage.name, stage.key, content=False)
        if found is None:
            raise StageError(
                f"the result of stage {stage.name} is gone from {self.store.root}",
                hint="Run the same command again; it computes what is missing.",
            )
        return found

    @cached_property
    def filtered(self) -> Dataset:
        """The dataset as the filters leave it."""
        return read_dataset(self.folder(self.plan.named("data")))

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset with the ids of the split, which a given split brings itself."""
        return self.split.renumbered(self.filtered)

    @cached_property
    def split(self) -> Split:
        return read_split(self.folder(self.plan.named("split")))

    @cached_property
    def test(self) -> EvaluationSet:
        limit = self.loaded.pipeline.evaluate.max_users
        return self._sample(self.split.evaluation("test"), limit, "test")

    @cached_property
    def valid(self) -> EvaluationSet:
        """The validation users; empty if the split holds none out."""
        limit = self.loaded.pipeline.evaluate.monitor_users
        return self._sample(self.split.evaluation("valid"), limit, "valid")

    @cached_property
    def validator(self) -> Validator | None:
        """Scores on validation users; ``None`` if the split holds none out."""
        from dynmm_framework.evaluation.evaluate import expand, make_validator

        if not len(self.split.valid):
            return None
        family, k = split_metric(self.loaded.pipeline.evaluate.monitor)
        spec = self.loaded.catalogue.metric(family)
        (request,) = expand([spec], [k] if k else [10])
        return make_validator(
            self.valid,
            request,
            item_counts=self.split.train.item_counts(),
            items=self.dataset.items,
            workers=self.workers,
        )

    @cached_property
    def features(self) -> dict[str, Features]:
        """Vectors of the items by modality."""
        return {
            name: Encoded.load(self.folder(self.plan.named(f"encode/{name}"))).features
            for name in self.loaded.pipeline.encoders.given
        }

    def training_data(self, label: str, *, validation: bool = False) -> TrainingData:
        """Returns what a recommender may learn from.

        Args:
            label: The recommender, or an extractor of evidence.
            validation: Give the validation targets too.
        """
        if label.startswith(f"{EVIDENCE}/"):  # knows what the backbone knows
            data = self.split.training_data(self.dataset.items, validation=self.refits)
            return replace(data, features=self.features)
        data = self.split.training_data(self.dataset.items, validation=validation)
        needed = self.loaded.role(label) == "align"
        needed = needed or self.loaded.needs_features(label)
        return replace(data, features=self._seen(label)) if needed else data

    @property
    def refits(self) -> bool:
        """Whether recommenders are trained on the validation targets too in the end.

        An alignment or a prompt fits weights on users that its backbone has not seen, so then none
        is.
        """
        pipeline = self.loaded.pipeline
        if pipeline.align is not None or pipeline.prompt is not None:
            return False
        block = pipeline.split
        return isinstance(block, GivenFiles) and block.refits and len(self.split.valid) > 0

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """Interactions of each item that recommenders have been trained on, ``(n_items,)``."""
        return (self.split.train_and_valid if self.refits else self.split.train).item_counts()

    def asked(self, protocol: str) -> Asked:
        """Returns what a protocol asks of whom: a cold one of users with a cold target only."""
        if protocol == "full":
            return Asked(self.test)
        if block := self._auc(protocol):
            found = asked_judgements(self.test, liked_above=block.auc)
            return Asked(self.test, judgements=found)
        folder = self.folder(self.plan.named(f"candidates/{protocol}"))
        if protocol.startswith("sampled:"):
            return Asked(self.test, candidates=read_candidates(folder))
        pool = read_pool(folder).items
        return Asked(self.test.asked_for(pool), pool=pool)

    def _auc(self, protocol: str) -> AUCProtocol | None:
        """Returns a protocol's settings if it scores judgements."""
        blocks = self.loaded.pipeline.evaluate.protocols
        found = (block for block in blocks if block.name == protocol)
        return next((block for block in found if isinstance(block, AUCProtocol)), None)

    def component(self, label: str, config: BaseModel | None = None) -> Any:
        """Returns a new, unfitted component; with other settings than the pipeline's if given."""
        if self.loaded.pipeline.control_of(label) == "popularity_bias":
            from dynmm_framework.latents.controls import PopularityBias

            return PopularityBias()
        component = self.loaded.catalogue.create(
            self.loaded.components[label], config or self.loaded.configs[label]
        )
        precision = self.loaded.pipeline.compute.precision
        ctx = RunContext(self.surroundings, label, device=self.device, precision=precision)
        return connected(component, ctx)

    def fitted(self, label: str, model_seed: int) -> Any:
        """Returns the recommender as it was trained."""
        role = self.loaded.role(label)
        if role == "align":
            return self.aligned(label, model_seed)
        restored = self._restored(role, label, model_seed)
        if role == "prompt":
            source = self.evidence(label, model_seed)
            base = self.fitted(self.loaded.retrieval_label, model_seed)
            restored.attach(base, **offered(restored.attach, source))
        return restored

    def evidence(self, label: str, model_seed: int) -> EvidenceSource | None:
        """Returns the extractors of evidence as they were trained; ``None`` if there are none.

        Args:
            label: The recommender that is to be borne out. All extractors stand on the pipeline's
                alignment, or else its backbone, and so find the same for every recommender but the
                control ``shuffled_evidence``.
            model_seed: The model seed.
        """
        self.loaded.role(label)  # a recommender of this pipeline
        pipeline = self.loaded.pipeline
        names = pipeline.extractors
        if not names:
            return None
        base = self.fitted(self.loaded.retrieval_label, model_seed)
        found = {}
        for name in names:
            stage = self.plan.named(f"{EVIDENCE}/{name}/seed-{model_seed}")
            found[name] = self.component(stage.label)
            found[name].load_state(load_arrays(self.folder(stage) / STATE_FILE))
            found[name].attach(base)
        control, n_items = pipeline.control_of(label), self.dataset.n_items
        return seen_evidence(EvidenceSource(found), control, n_items=n_items, seed=pipeline.seed)

    def aligned(self, label: str, model_seed: int) -> Aligned:
        """Returns an alignment as it was trained, on its backbone and features."""
        backbone = self.fitted(self.loaded.backbone_label, model_seed)
        return Aligned.attached(
            self._restored("align", label, model_seed), self._seen(label), backbone
        )

    def _restored(self, kind: str, label: str, model_seed: int) -> Any:
        stage = self.plan.named(f"{kind}/{label}/seed-{model_seed}")
        component = self.component(label)
        component.load_state(load_arrays(self.folder(stage) / STATE_FILE))
        return component

    def _seen(self, label: str) -> Mapping[str, Features]:
        pipeline = self.loaded.pipeline
        return seen_features(self.features, pipeline.control_of(label), seed=pipeline.seed)

    def context(
        self,
        stage: PlannedStage,
        writer: StageWriter,
        *,
        validator: Validator | None = None,
        part: str = "",
    ) -> RunContext:
        """Returns the context that the stage's component works in.

        Args:
            stage: The stage.
            writer: Its scratch folder.
            validator: Scores on validation users, for stages that train.
            part: Names one of several trainings of the stage; each has a folder of its own.
        """
        workdir = writer.workdir / part
        workdir.mkdir(parents=True, exist_ok=True)
        return RunContext(
            self.surroundings,
            stage=f"{stage.name}/{part}" if part else stage.name,
            seed=stage.seed,
            device=self.device,
            precision=self.loaded.pipeline.compute.precision,
            workdir=workdir,
            validator=validator,
            workers=self.workers,
        )

    def _sample(self, users: EvaluationSet, limit: int | None, name: str) -> EvaluationSet:
        if limit is None or limit >= len(users):
            return users
        rng = spawn_rng(self.loaded.pipeline.seed, f"users/{name}")
        rows = np.sort(rng.choice(len(users), limit, replace=False))
        return users.take(rows)

    def requests(self) -> tuple[MetricRequest, ...]:
        """Returns the metrics asked for, at every cut-off."""
        from dynmm_framework.evaluation.evaluate import expand

        return tuple(expand(self.loaded.metrics, self.loaded.pipeline.evaluate.at))


Meta = Mapping[str, Any]


def _data(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    reader = bench.component("data")
    ctx = bench.context(stage, writer)
    dataset = apply_filters(reader.read(ctx), bench.loaded.pipeline.data.filters)
    for step, users, items, interactions in dataset.log:
        ctx.log(f"{step}: {users:,} users, {items:,} items, {interactions:,} interactions")
    write_dataset(dataset, writer.folder)
    return {
        "fingerprint": fingerprint_dataset(dataset),
        "log": [list(line) for line in dataset.log],
    }


def _split(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    split = make_split(bench.filtered, bench.loaded.pipeline.split, seed=stage.seed)
    write_split(split, writer.folder)
    ctx = bench.context(stage, writer)
    for note in split.notes:
        ctx.log(note)
    return {"hash": split.hash, "notes": list(split.notes)}


def _candidates(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    kind, _, number = stage.protocol.partition(":")
    if kind == "cold":
        pool = cold_pool(bench.test, bench.item_counts, int(number), split=bench.split.name)
        users = len(bench.test.asked_for(pool.items))
        bench.context(stage, writer).log(
            f"{counted(users, 'user')} of {len(bench.test):,} asked for one of "
            f"{counted(len(pool), 'item')}"
        )
        write_pool(pool, writer.folder)
        return {"hash": pool.hash}
    if kind == "auc":
        judgements = bench.asked(stage.protocol).judgements
        assert judgements is not None  # what the protocol asks
        liked = int(judgements.liked.sum())
        ctx = bench.context(stage, writer)
        ctx.log(f"{counted(len(judgements), 'judgement')}, {liked:,} of them liked")
        document = {"schema_version": 1, "hash": judgements.hash, "n": len(judgements)}
        write_json(writer.folder / "judgements.json", document)
        return {"hash": judgements.hash}
    drawn = draw_candidates(bench.test, int(number), seed=stage.seed)
    write_candidates(drawn, writer.folder)
    return {"hash": drawn.hash}


def _fit(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    if stage.workers:
        from dynmm_framework.engine.parallel import fit_on_workers

        return fit_on_workers(bench, stage, writer)
    if bench.loaded.pipeline.compute.engine == "ray":
        bench.context(stage, writer).log("in this process: there are no batches to share")
    return fit(bench, stage, writer)


def _rank(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    import pyarrow.parquet as pq

    from dynmm_framework.evaluation.evaluate import evaluate
    from dynmm_framework.evaluation.judging import judge
    from dynmm_framework.evaluation.ranking import as_recommender
    from dynmm_framework.evaluation.tables import per_user_table, ranking_table, slices

    requests = bench.requests()
    cutoffs = [request.k for request in requests if request.k]
    ctx, asked = bench.context(stage, writer), bench.asked(stage.protocol)
    recommender = as_recommender(bench.fitted(stage.label, stage.model_seed))
    if asked.judgements is not None:
        result = judge(
            recommender,
            asked.evaluation,
            asked.judgements,
            item_counts=bench.item_counts,
            name=stage.label,
            progress=ctx.progress,
        )
    else:
        result = evaluate(
            recommender,
            asked.evaluation,
            requests,
            candidates=asked.candidates,
            pool=asked.pool,
            item_counts=bench.item_counts,
            items=bench.dataset.items,
            depth=max([TOP_ITEMS, *cutoffs]),
            name=stage.label,
            progress=ctx.progress,
        )
    alike = [other for other in bench.plan.of_kind("rank") if other.protocol == stage.protocol]
    if stage == alike[0]:  # notes are about metrics and users, the same for every recommender
        for note in result.notes:
            ctx.log(note)
    pq.write_table(per_user_table(result, bench.dataset.users), writer.folder / PER_USER_FILE)
    pq.write_table(ranking_table(result, bench.dataset), writer.folder / RANKING_FILE)
    write_json(
        writer.folder / RESULT_FILE,
        {
            "values": result.values,
            "chance": result.chance,
            "latency": result.latency,
            "seconds": result.seconds,
            "users": len(asked.evaluation),
            "slices": slices(result),
            "notes": list(result.notes),
        },
    )
    return {"rank_seconds": result.seconds}


_WORK: Mapping[StageKind, Callable[[Workbench, PlannedStage, StageWriter], Meta]] = {
    "data": _data,
    "split": _split,
    "candidates": _candidates,
    "encode": encode,
    "fit": _fit,
    "align": align,
    "evidence": evidence,
    "prompt": prompt,
    "rank": _rank,
    "explain": explain,
    "robustness": rank_without,
    "stream": stream,
}


def read_result(folder: Path) -> dict[str, Any]:
    """Returns the numbers that a rank stage stored."""
    result: dict[str, Any] = read_json(folder / RESULT_FILE)
    return result
