"""A finished run: its folder, its numbers, and recommendations from its models."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
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
    atomic_folder,
    atomic_path,
    read_json,
    storage_errors,
    write_json,
)
from dynmm_framework.artifacts.digests import digest_file, mismatch
from dynmm_framework.artifacts.manifest import RunManifest, StoredFile, read_document
from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.data.storage import read_dataset, write_dataset
from dynmm_framework.data.tables import Dataset, Histories
from dynmm_framework.engine.metrics import MetricsDocument
from dynmm_framework.engine.stages import (
    PER_USER_FILE,
    RANKING_FILE,
    RESULT_FILE,
    STATE_FILE,
    Workbench,
    read_result,
)
from dynmm_framework.errors import ArtifactError, DataError, DynmmError, PluginError
from dynmm_framework.specs import did_you_mean

if TYPE_CHECKING:
    from dynmm_framework.protocols import Recommender

MANIFEST_FILE = "manifest.json"
METRICS_FILE = "metrics.json"
TRAINING_FILE = "training.json"
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
        # Only this component need be installed, not all that the run compared it with.
        catalogue = self.catalogue or load_catalogue()
        ref = Pipeline.model_validate(self.manifest.pipeline).recommenders[label]
        try:
            found = catalogue.find(("baseline", "backbone"), ref.name)
        except PluginError as error:
            raise PluginError(
                f"run {self.id}: {error.message}",
                hint=f"{label} was made by {self.manifest.components[label]}; install it again.",
            ) from error
        component = catalogue.create(found, ref.config)
        component.load_state(
            load_arrays(self.folder / "models" / label / f"seed-{chosen}" / STATE_FILE)
        )
        return as_recommender(component)

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

    def _known(self, user: str) -> Histories:
        row = pc.index(self.dataset.users["id"], value=str(user)).as_py()
        if row < 0:
            ids = self.dataset.users["id"].to_pylist()
            raise DataError(
                f"dataset {self.dataset.name} has no user {user!r}{did_you_mean(user, ids)}",
                hint="Someone new is served by --history 'item,item,…'.",
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


def collect(bench: Workbench, folder: Path) -> None:
    """Copies from the stage cache what a run keeps, so that its folder stands on its own."""
    per_user, ranking, slices = [], [], []
    curves: dict[str, dict[str, Any]] = {}
    for stage in bench.plan.of_kind("fit"):
        _link_folder(
            bench.folder(stage), folder / "models" / stage.label / f"seed-{stage.model_seed}"
        )
        curve = bench.manifest(stage).meta.get("training", {}).get("epochs", [])
        curves.setdefault(stage.label, {})[str(stage.model_seed)] = curve
    with atomic_folder(folder / "data") as partial:
        write_dataset(bench.dataset, partial)
    for stage in bench.plan.of_kind("rank"):
        source = bench.folder(stage)
        keys = {"recommender": stage.label, "seed": stage.model_seed, "protocol": stage.protocol}
        per_user.append(_with_keys(pq.read_table(source / PER_USER_FILE), keys))
        ranking.append(_with_keys(pq.read_table(source / RANKING_FILE), keys))
        slices += [{**keys, **record} for record in read_result(source)["slices"]]
    for name, tables in ((PER_USER_FILE, per_user), (RANKING_FILE, ranking)):
        with atomic_path(folder / name) as path:
            pq.write_table(pa.concat_tables(tables, promote_options="default"), path)
    write_json(folder / TRAINING_FILE, {"schema_version": 1, "curves": curves, "slices": slices})


def digest_run(folder: Path) -> dict[str, StoredFile]:
    """Returns the digests of the files that make a run, by their path inside its folder."""
    names = (METRICS_FILE, TRAINING_FILE, PER_USER_FILE, RANKING_FILE)
    files = [folder / name for name in names]
    for part in ("data", "models"):
        files += sorted(path for path in (folder / part).rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): StoredFile.model_validate(
            digest_file(path).model_dump()
        )
        for path in files
    }


def _with_keys(table: pa.Table, keys: Mapping[str, Any]) -> pa.Table:
    for position, (name, value) in enumerate(keys.items()):
        kind = pa.int64() if isinstance(value, int) else pa.string()
        column = pa.array([value] * len(table), kind)
        table = table.add_column(position, name, column)
    return table


def _link_folder(source: Path, target: Path) -> None:
    """Makes ``target`` a copy of ``source``, sharing the files' content where the disk can."""
    with atomic_folder(target) as partial:
        for file in source.iterdir():
            if file.name in (RESULT_FILE, "stage.json"):
                continue
            try:
                os.link(file, partial / file.name)
            except OSError:
                shutil.copy2(file, partial / file.name)
