"""A finished run: its folder, its numbers, and recommendations from its models."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.artifacts.atomic import (
    read_json,
    storage_errors,
)
from dynmm_framework.artifacts.digests import mismatch
from dynmm_framework.artifacts.manifest import RunManifest, read_document
from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.data.storage import read_dataset
from dynmm_framework.data.tables import Dataset, Histories
from dynmm_framework.engine.content import Aligned, seen_features
from dynmm_framework.engine.context import RunContext, Surroundings, connected
from dynmm_framework.engine.device import guess_device
from dynmm_framework.engine.evidence import offered, run_evidence
from dynmm_framework.engine.fitting import STATE_FILE
from dynmm_framework.engine.keeping import FEATURES, METRICS_FILE, TRAINING_FILE
from dynmm_framework.engine.metrics import MetricsDocument
from dynmm_framework.engine.stages import (
    PER_USER_FILE,
    RANKING_FILE,
)
from dynmm_framework.errors import ArtifactError, DataError, DynmmError, PluginError
from dynmm_framework.features.encoded import Encoded
from dynmm_framework.specs import Component, did_you_mean

if TYPE_CHECKING:
    from dynmm_framework.engine.vectors import Known, Vectors
    from dynmm_framework.explain.source import EvidenceSource
    from dynmm_framework.online.recommender import OnlineRecommender
    from dynmm_framework.protocols import Backbone, Recommender

MANIFEST_FILE = "manifest.json"
_logger = logging.getLogger("dynmm")


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder; the stage cache is not needed any more.

    Attributes:
        folder: The run's folder.
        manifest: How the numbers came about.
        metrics: Content of ``metrics.json``; see :mod:`dynmm_framework.engine.metrics`.
        catalogue: Where its components are looked up; the installed plugins if ``None``.
    """

    folder: Path
    manifest: RunManifest
    metrics: Mapping[str, Any]
    catalogue: Catalogue | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path | str, *, catalogue: Catalogue | None = None) -> Run:
        """Reads a run.

        Args:
            folder: The run's folder.
            catalogue: Where its components are looked up; the installed plugins by default.

        Raises:
            ArtifactError: If the folder holds no finished run, or a file of it is corrupt.
        """
        folder = Path(folder)
        if not (folder / MANIFEST_FILE).is_file():
            raise ArtifactError(
                f"no run in {folder}: {MANIFEST_FILE} is missing",
                hint="Name the folder that `dynmm run` printed, such as runs/quickstart-1a2b3c4d.",
            )
        manifest = read_document(folder / MANIFEST_FILE, RunManifest)
        if manifest.status != "finished":
            raise ArtifactError(
                f"the run in {folder} is not finished (status: {manifest.status})",
                hint="Run the same pipeline again; finished stages are kept.",
            )
        metrics = read_json(folder / METRICS_FILE)
        try:
            MetricsDocument.model_validate(metrics)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise ArtifactError(
                f"cannot read {folder / METRICS_FILE}: {place}: {error.errors()[0]['msg']}",
                hint="It is damaged or of a newer version; run the same pipeline again.",
            ) from error
        return cls(folder, manifest, metrics, catalogue)

    @classmethod
    def find(cls, folder: Path, *, catalogue: Catalogue | None = None) -> Run | None:
        """Returns the run if it is there, finished, and every file of it as it was written."""
        try:
            run = cls.load(folder, catalogue=catalogue)
            for name, expected in run.manifest.files.items():
                if problem := mismatch(folder / name, expected):
                    _logger.warning("%s %s; the run is put together again", folder / name, problem)
                    return None
        except DynmmError:
            return None
        return run

    @property
    def id(self) -> str:
        return self.folder.resolve().name

    @property
    def label(self) -> str:
        """Label of the pipeline's own recommender."""
        labels: Mapping[str, Any] = self.metrics["recommenders"]
        return next(iter(labels))

    @cached_property
    def per_user(self) -> pa.Table:
        """One row for each recommender, seed, protocol and user, with a column for each metric."""
        return _read_table(self.folder / PER_USER_FILE)

    @cached_property
    def ranking(self) -> pa.Table:
        """The top of every list: recommender, seed, protocol, user, rank and item."""
        return _read_table(self.folder / RANKING_FILE)

    @cached_property
    def training(self) -> Mapping[str, Mapping[str, list[dict[str, float]]]]:
        """Learning curves: recommender → seed → epochs; empty for what does not train so."""
        curves: Mapping[str, Any] = read_json(self.folder / TRAINING_FILE)["curves"]
        return curves

    @cached_property
    def refits(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """Trainings on the held-out interactions too: recommender → seed → what is known of it.

        That is the number of ``interactions``, the ``epochs`` that early stopping had found
        (``None`` for what does not train so) and the ``curve``, as in :attr:`training`, which
        holds that of the early stopping. Empty if the split asks for none (``split.refit``).
        """
        refits: Mapping[str, Any] = read_json(self.folder / TRAINING_FILE).get("refits", {})
        return refits

    @cached_property
    def slices(self) -> Sequence[Mapping[str, Any]]:
        """Metrics by history length and by item popularity, as records."""
        records: Sequence[Mapping[str, Any]] = read_json(self.folder / TRAINING_FILE)["slices"]
        return records

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset as filtered for this run."""
        return read_dataset(self.folder / "data")

    def recommender(self, label: str | None = None, *, seed: int | None = None) -> Recommender:
        """Returns a trained recommender of the run.

        Args:
            label: Its label; the pipeline's own one by default.
            seed: The model seed; the first one by default.

        Raises:
            ArtifactError: If the run has no such recommender or seed.
            PluginError: If the recommender's plugin is not installed any more.
        """
        from dynmm_framework.evaluation.ranking import as_recommender

        label, seed = self._chosen(label, seed)
        return as_recommender(self._restored(self._component(label), label, seed))

    def backbone(self, label: str | None = None, *, seed: int | None = None) -> Backbone:
        """Returns a trained backbone, which gives vectors of items and of histories.

        Only its weights are read, and under an alignment the features of the run: neither the
        dataset nor the stage cache is needed.

        Args:
            label: Its label; the pipeline's own recommender by default.
            seed: The model seed; the first one by default.

        Raises:
            ArtifactError: If the run has no such recommender or seed, or it has no vectors; says
                which of the run's have.
            PluginError: If the recommender's plugin is not installed any more.
        """
        label, seed = self._chosen(label, seed)
        component = self._component(label)
        if component.kind == "baseline":
            raise ArtifactError(
                f"recommender {label} of run {self.id} has no vectors, only scores: it is a"
                f" {component.kind}",
                hint=self._with_vectors(),
            )
        backbone: Backbone = self._restored(component, label, seed)
        return backbone

    def vectors(
        self, label: str | None = None, *, seed: int | None = None, known: Known = "all"
    ) -> Vectors:
        """Returns the vectors of all items and users, computed when they are asked for.

        Example::

            vectors = run.vectors("sasrec")
            vectors.items, vectors.users  # (n_items, d), (n_users, d) float32
            vectors.save("vectors", format="parquet")

        Args:
            label: A recommender with vectors; the pipeline's own one by default.
            seed: The model seed; the first one by default.
            known: What is known of users: ``all`` their interactions, as :meth:`recommend` takes
                them, test targets included; those before the ``test``, by which the run ranked;
                or those of training (``train``).

        Raises:
            ArtifactError: As for :meth:`backbone`, or if the split cannot be made again.
            PluginError: If the recommender's plugin is not installed any more.
        """
        from dynmm_framework.engine.vectors import Vectors, known_histories

        label, seed = self._chosen(label, seed)
        return Vectors(
            self.backbone(label, seed=seed),
            self.dataset,
            known_histories(self.dataset, self.manifest, known),
            source={
                "run": self.id,
                "recommender": label,
                "component": self.manifest.components[label],
                "seed": seed,
                "known": known,
                "dataset": self.dataset.name,
                "data_fingerprint": self.manifest.data_fingerprint,
            },
        )

    def _chosen(self, label: str | None, seed: int | None) -> tuple[str, int]:
        """Returns a label and a model seed that the run has, its first ones by default."""
        label = label or self.label
        labels = list(self.metrics["recommenders"])
        if label not in labels:
            raise ArtifactError(
                f"run {self.id} has no recommender {label!r}{did_you_mean(label, labels)}",
                hint=f"It has: {', '.join(labels)}.",
            )
        seeds = self.manifest.seeds
        chosen = seeds[0] if seed is None else seed
        if chosen not in seeds:
            raise ArtifactError(
                f"run {self.id} has no model seed {chosen}",
                hint=f"It has: {', '.join(map(str, seeds))}.",
            )
        return label, chosen

    @cached_property
    def components(self) -> Catalogue:
        """Where its components are looked up."""
        return self.catalogue or load_catalogue()

    def _component(self, label: str) -> Component:
        # Only this component need be installed, not all that the run compared it with.
        pipeline = Pipeline.model_validate(self.manifest.pipeline)
        ref = pipeline.recommenders[label]
        try:
            role = pipeline.roles[label]
            if role == "fit":
                return self.components.find(("baseline", "backbone"), ref.name)
            return self.components.find("adapter", ref.name, slot=role)
        except PluginError as error:
            raise PluginError(
                f"run {self.id}: {error.message}",
                hint=f"{label} was made by {self.manifest.components[label]}; install it again.",
            ) from error

    def _restored(self, component: Component, label: str, seed: int) -> Any:
        pipeline = Pipeline.model_validate(self.manifest.pipeline)
        control = pipeline.control_of(label)
        if control == "popularity_bias":
            from dynmm_framework.latents.controls import PopularityBias

            restored: Any = PopularityBias()
        else:
            restored = self.components.create(component, pipeline.recommenders[label].config)
            device = guess_device(pipeline.compute.device)
            connected(restored, RunContext(Surroundings(self.components), label, device=device))
        restored.load_state(
            load_arrays(self.folder / "models" / label / f"seed-{seed}" / STATE_FILE)
        )
        role = pipeline.roles[label]
        if role == "fit":
            return restored
        under = (pipeline.own("align") if role == "prompt" else None) or pipeline.own("fit") or ""
        base = self._restored(self._component(under), under, seed)
        if role == "prompt":
            source = run_evidence(self, seed, base, control=control)
            restored.attach(base, **offered(restored.attach, source))
            return restored
        features = {
            name: Encoded.load(self.folder / FEATURES / name).features
            for name in pipeline.encoders.given
        }
        seen = seen_features(features, control, seed=pipeline.seed)
        return Aligned.attached(restored, seen, base)

    def evidence(self, *, seed: int | None = None) -> EvidenceSource | None:
        """Returns what finds evidence for this run's recommendations; ``None`` without extractors.

        Example::

            source = run.evidence()
            found = source.find(histories, candidates)
            source.facts(found)  # what is cited, in words and numbers

        Args:
            seed: The model seed; the first one by default.

        Raises:
            ArtifactError: If the run has no such seed.
            PluginError: If the plugin of an extractor is not installed any more.
        """
        pipeline = Pipeline.model_validate(self.manifest.pipeline)
        if not pipeline.extractors:
            return None
        label, seed = self._chosen(pipeline.own("align") or pipeline.own("fit"), seed)
        return run_evidence(self, seed, self._restored(self._component(label), label, seed))

    def online(self, *, seed: int | None = None) -> OnlineRecommender:
        """Returns the run's recommender, learning from events that come after the run's data.

        Example::

            live = run.online()
            live.update([{"user": "42", "item": "50", "time": 1700000000}])
            live.recommend("42", k=5)

        Args:
            seed: The model seed; the first one by default.

        Raises:
            ArtifactError: If the run's pipeline has no ``online`` block, or no such seed.
            PluginError: If a plugin of the run is not installed any more.
        """
        from dynmm_framework.engine.live import live_recommender

        return live_recommender(self, seed=seed)

    def _with_vectors(self) -> str:
        """Says which recommenders of the run have vectors."""
        found = []
        for label in self.metrics["recommenders"]:
            with suppress(PluginError):
                if self._component(label).kind != "baseline":
                    found.append(label)
        if not found:
            return "No recommender of this run has vectors: backbones do, baselines do not."
        return f"With vectors, this run has: {', '.join(found)}."

    def recommend(
        self,
        user: str | None = None,
        *,
        history: Iterable[str] | None = None,
        k: int = 10,
        label: str | None = None,
    ) -> list[dict[str, Any]]:
        """Recommends to a user of the dataset, or to anyone by what they interacted with.

        Args:
            user: A raw user id; all of the user's interactions are taken as known.
            history: Raw item ids, oldest first, instead of a user.
            k: Number of items.
            label: Which recommender; the pipeline's own one by default.

        Returns:
            Records ``{"rank", "item", "title", "score"}``, best first.

        Raises:
            DataError: If the user or an item does not exist, or not exactly one is given.
        """
        from dynmm_framework.evaluation.ranking import recommend

        if (user is None) == (history is None) or isinstance(history, str):
            raise DataError("recommend() takes either a user or a list of items as history")
        known = self._known(user) if user is not None else self._given(history or ())
        ranking = recommend(self.recommender(label), known, k)
        titles = _column(self.dataset.items, "title")
        ids = self.dataset.items["id"].to_pylist()
        return [
            {"rank": rank, "item": ids[item], "title": titles[item], "score": float(score)}
            for rank, (item, score) in enumerate(
                zip(ranking.items[0], ranking.scores[0], strict=True), start=1
            )
            if item >= 0
        ]

    def explain(
        self,
        user: str,
        items: Iterable[str] | None = None,
        *,
        k: int = 3,
        seed: int | None = None,
        known: Known = "all",
    ) -> list[dict[str, Any]]:
        """Explains recommendations to a user of the dataset by the evidence for them.

        Each claim of a sentence rests on records, named by their ids, or on the ``item`` itself.

        Example::

            for found in run.explain("42"):
                found["sentence"], found["claims"], found["evidence"]

        Args:
            user: A raw user id.
            items: Raw ids of the items to explain; the best recommendations by default.
            k: Number of recommendations, without ``items``.
            seed: The model seed; the first one by default.
            known: All of the user's interactions, or those before the ``test``, as in the report.

        Returns:
            Records ``{"user", "item", "title", "rank", "score", "form", "sentence", "claims",
            "evidence", "writer", "fallback", "draft"}``, in the order of ``items``, or best first.

        Raises:
            ArtifactError: If the run's pipeline has no ``evidence``.
            DataError: If there is no such user or item, no history, or the user has the item.
        """
        from dynmm_framework.engine.explaining import explain_run

        return explain_run(self, user, items, k=k, seed=seed, known=known)

    @cached_property
    def explanations(self) -> list[dict[str, Any]]:
        """The explanations that the run made, as plain data; none without ``explain``."""
        from dynmm_framework.explain.explanations import EXPLANATIONS_FILE, read_explanations

        path = self.folder / EXPLANATIONS_FILE
        return read_explanations(path) if path.is_file() else []

    def known_history(self, user: str) -> Histories:
        """Returns all that is known of a user of the dataset, as one history.

        Raises:
            DataError: If there is no such user.
        """
        users = self.folder / "data" / "users.parquet"
        return self._known(user, hint=f"User ids are listed in {users}.")

    def _known(
        self, user: str, *, hint: str = "Someone new is served by --history 'item,item,…'."
    ) -> Histories:
        row = pc.index(self.dataset.users["id"], value=str(user)).as_py()
        if row < 0:
            ids = self.dataset.users["id"].to_pylist()
            raise DataError(
                f"dataset {self.dataset.name} has no user {user!r}{did_you_mean(user, ids)}",
                hint=hint,
            )
        return self.dataset.interactions.histories().take(np.array([row]))

    def _given(self, history: Iterable[str]) -> Histories:
        wanted = [str(item) for item in history]
        ids = self.dataset.items["id"]
        rows = pc.index_in(pa.array(wanted, pa.string()), value_set=ids.combine_chunks())
        missing = [item for item, row in zip(wanted, rows.to_pylist(), strict=True) if row is None]
        if missing:
            names = ", ".join(repr(item) for item in missing[:5])
            raise DataError(
                f"dataset {self.dataset.name} has no item {names}"
                f"{did_you_mean(missing[0], ids.to_pylist())}",
                hint=f"Item ids are listed in {self.folder / 'data' / 'items.parquet'}.",
            )
        return Histories.of([rows.to_pylist()], self.dataset.n_items)


def _read_table(path: Path) -> pa.Table:
    try:
        with storage_errors(path, action="read"):
            return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(
            f"cannot read {path}: it is not a whole Parquet file ({error})",
            hint="The file is damaged; run the same pipeline again, which puts it back.",
        ) from error


def _column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else [None] * len(table)
