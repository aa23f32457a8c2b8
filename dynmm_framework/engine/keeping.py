"""What a run keeps: copied from the stage cache, so that its folder stands on its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dynmm_framework.artifacts.atomic import atomic_folder, atomic_path, write_json
from dynmm_framework.artifacts.digests import digest_file
from dynmm_framework.artifacts.manifest import StoredFile
from dynmm_framework.data.storage import write_dataset
from dynmm_framework.engine.evidence import EVIDENCE
from dynmm_framework.engine.plan import TRAINING
from dynmm_framework.engine.stages import (
    PER_USER_FILE,
    RANKING_FILE,
    RESULT_FILE,
    Workbench,
    read_result,
)
from dynmm_framework.explain.explanations import EXPLANATIONS_FILE

METRICS_FILE = "metrics.json"
TRAINING_FILE = "training.json"
FEATURES = "features"
"""Folder of the items' vectors by modality."""


STREAMS = "streams"
"""Folder of what every window of a stream gave, by model seed."""


def collect(bench: Workbench, folder: Path) -> None:
    """Copies from the stage cache what a run keeps, so that its folder stands on its own."""
    per_user, ranking, slices = [], [], []
    curves: dict[str, dict[str, Any]] = {}
    refits: dict[str, dict[str, Any]] = {}
    for stage in bench.plan.of_kind(*TRAINING):
        _link_folder(
            bench.folder(stage), folder / "models" / stage.label / f"seed-{stage.model_seed}"
        )
        meta, seed = bench.manifest(stage).meta, str(stage.model_seed)
        curves.setdefault(stage.label, {})[seed] = _curve(meta)
        if refit := meta.get("refit"):
            told = {"interactions": refit["interactions"], "epochs": refit["epochs"]}
            refits.setdefault(stage.label, {})[seed] = {**told, "curve": _curve(refit)}
    for stage in bench.plan.of_kind("encode"):
        _link_folder(bench.folder(stage), folder / FEATURES / stage.name.removeprefix("encode/"))
    for stage in bench.plan.of_kind("evidence"):
        _link_folder(bench.folder(stage), folder / stage.name)
    for stage in bench.plan.of_kind("stream"):
        _link_folder(bench.folder(stage), folder / STREAMS / f"seed-{stage.model_seed}")
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
    explained = [
        _with_keys(
            pq.read_table(bench.folder(stage) / EXPLANATIONS_FILE),
            {"recommender": stage.label, "seed": stage.model_seed},
        )
        for stage in bench.plan.of_kind("explain")
    ]
    if explained:
        with atomic_path(folder / EXPLANATIONS_FILE) as path:
            pq.write_table(pa.concat_tables(explained), path)
    write_json(
        folder / TRAINING_FILE,
        {"schema_version": 1, "curves": curves, "refits": refits, "slices": slices},
    )


def _curve(meta: Mapping[str, Any]) -> list[dict[str, float]]:
    curve: list[dict[str, float]] = meta.get("training", {}).get("epochs", [])
    return curve


def digest_run(folder: Path) -> dict[str, StoredFile]:
    """Returns the digests of the files that make a run, by their path inside its folder."""
    names = (METRICS_FILE, TRAINING_FILE, PER_USER_FILE, RANKING_FILE)
    files = [folder / name for name in names]
    if (folder / EXPLANATIONS_FILE).is_file():
        files.append(folder / EXPLANATIONS_FILE)
    for part in ("data", FEATURES, EVIDENCE, "models", STREAMS):
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
