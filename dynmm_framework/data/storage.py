"""Datasets, splits and candidate sets as plain files in a folder: Parquet, safetensors, JSON.

The folder is made if need be. Files are written in place: a caller who may be interrupted gives a
folder that becomes visible as a whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dynmm_framework.data.candidates import Candidates, Pool
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.errors import ArtifactError

SCHEMA_VERSION: Final = 1
DATASET_FILES: Final = ("dataset.json", "interactions.parquet", "items.parquet", "users.parquet")
"""What a saved dataset consists of."""

_AGAIN: Final = "Delete the folder and run again; what is missing is computed anew."
_FULL: Final = "Free some space or choose another folder, check its permissions, and run again."


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Writes a dataset as ``{interactions,items,users}.parquet`` and ``dataset.json``.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    with _writing(folder):
        _write_rows(folder / "interactions.parquet", dataset.interactions, {})
        pq.write_table(dataset.items, folder / "items.parquet", compression="zstd")
        pq.write_table(dataset.users, folder / "users.parquet", compression="zstd")
        _write_document(
            folder / "dataset.json",
            {
                "name": dataset.name,
                "n_users": dataset.n_users,
                "n_items": dataset.n_items,
                "log": dataset.log,
            },
        )


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Writes a dataset so that its folder appears as a whole, in place of an older one.

    Raises:
        ArtifactError: If the folder cannot be written, or holds anything but a dataset.
    """
    foreign = folder.exists() and not (folder / "dataset.json").is_file()
    if foreign and not (folder.is_dir() and not any(folder.iterdir())):
        raise ArtifactError(
            f"cannot save a dataset to {folder}: it exists and is no saved dataset",
            hint="Choose a folder of its own.",
        )
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        write_dataset(dataset, partial)
        with _writing(folder.parent):
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_dataset(folder: Path) -> Dataset:
    """Reads what :func:`write_dataset` wrote.

    Raises:
        ArtifactError: If a file is missing, damaged or of a newer version.
    """
    with _reading(folder):
        document = _read_document(folder / "dataset.json")
        rows, _ = _read_rows(folder / "interactions.parquet", document)
        dataset = Dataset(
            name=document["name"],
            interactions=rows,
            items=pq.read_table(folder / "items.parquet"),
            users=pq.read_table(folder / "users.parquet"),
            log=tuple((str(line[0]), line[1], line[2], line[3]) for line in document["log"]),
        )
        _agree(dataset.items.num_rows == rows.n_items, "items.parquet has another length")
        _agree(dataset.users.num_rows == rows.n_users, "users.parquet has another length")
        return dataset


def write_split(split: Split, folder: Path) -> None:
    """Writes a split as ``split.parquet`` and ``split.json``, and its own tables if it has any.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    with _writing(folder):
        _write_rows(folder / "split.parquet", split.rows, {"part": split.parts})
        for name, table in (("items", split.items), ("users", split.users)):
            if table is not None:
                pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        _write_document(
            folder / "split.json",
            {
                "name": split.name,
                "hash": split.hash,
                "n_users": split.n_users,
                "n_items": split.n_items,
                "own_ids": split.items is not None,
                "notes": split.notes,
            },
        )


def read_split(folder: Path) -> Split:
    """Reads what :func:`write_split` wrote and checks its hash.

    Raises:
        ArtifactError: If a file is missing, damaged or of a newer version.
    """
    with _reading(folder):
        document = _read_document(folder / "split.json")
        rows, extra = _read_rows(folder / "split.parquet", document)
        own = bool(document["own_ids"])
        split = Split(
            name=document["name"],
            rows=rows,
            parts=extra["part"],
            notes=tuple(document["notes"]),
            items=pq.read_table(folder / "items.parquet") if own else None,
            users=pq.read_table(folder / "users.parquet") if own else None,
        )
        _agree(split.hash == document["hash"], "split.parquet does not have the noted hash")
        return split


def write_candidates(candidates: Candidates, folder: Path) -> None:
    """Writes candidate sets as ``candidates.safetensors`` and ``candidates.json``.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    from safetensors.numpy import save_file

    arrays = {
        "users": candidates.users,
        "items": candidates.items,
        "rows": candidates.rows,
    }
    with _writing(folder):
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            folder / "candidates.safetensors",
        )
        _write_document(
            folder / "candidates.json",
            {"hash": candidates.hash, "n_negatives": candidates.n_negatives},
        )


def read_candidates(folder: Path) -> Candidates:
    """Reads what :func:`write_candidates` wrote and checks its hash.

    Raises:
        ArtifactError: If a file is missing, damaged or of a newer version.
    """
    from safetensors.numpy import load_file

    with _reading(folder):
        document = _read_document(folder / "candidates.json")
        arrays = load_file(folder / "candidates.safetensors")
        candidates = Candidates(users=arrays["users"], items=arrays["items"], rows=arrays["rows"])
        _agree(candidates.hash == document["hash"], "the candidates do not have the noted hash")
        return candidates


def write_pool(pool: Pool, folder: Path) -> None:
    """Writes the items of a pool as ``pool.safetensors`` and ``pool.json``.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    from safetensors.numpy import save_file

    with _writing(folder):
        save_file({"items": np.ascontiguousarray(pool.items)}, folder / "pool.safetensors")
        _write_document(folder / "pool.json", {"hash": pool.hash, "n_items": len(pool)})


def read_pool(folder: Path) -> Pool:
    """Reads what :func:`write_pool` wrote and checks its hash.

    Raises:
        ArtifactError: If a file is missing, damaged or of a newer version.
    """
    from safetensors.numpy import load_file

    with _reading(folder):
        document = _read_document(folder / "pool.json")
        pool = Pool(load_file(folder / "pool.safetensors")["items"])
        _agree(pool.hash == document["hash"], "the pool does not have the noted hash")
        return pool


def _write_rows(path: Path, rows: Interactions, extra: Mapping[str, NDArray[Any]]) -> None:
    columns = {
        "user": rows.users,
        "item": rows.items,
        "timestamp": rows.timestamps,
        "rating": rows.ratings,
        "review": rows.reviews,
        **extra,
    }
    table = pa.table({name: column for name, column in columns.items() if column is not None})
    pq.write_table(table, path, compression="zstd")


def _read_rows(
    path: Path, document: Mapping[str, Any]
) -> tuple[Interactions, dict[str, NDArray[Any]]]:
    table = pq.read_table(path)
    reviews = None
    if "review" in table.column_names:
        chunks = table.column("review").cast(pa.large_string()).chunks
        reviews = pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
        table = table.drop_columns(["review"])
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    rows = Interactions(
        users=columns.pop("user"),
        items=columns.pop("item"),
        n_users=document["n_users"],
        n_items=document["n_items"],
        timestamps=columns.pop("timestamp", None),
        ratings=columns.pop("rating", None),
        reviews=reviews,
    )
    return rows, columns


def _write_document(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps({"schema_version": SCHEMA_VERSION, **content}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read_document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    version = document["schema_version"]
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} is of version {version}, this installation reads up to {SCHEMA_VERSION}",
            hint="Update dynmm-framework, or delete the folder and run again.",
        )
    return document


def _agree(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder} cannot be written: {error}", hint=_FULL) from error


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    damages = (OSError, ValueError, LookupError, TypeError, pa.ArrowException, SafetensorError)
    try:
        yield
    except damages as error:
        raise ArtifactError(
            f"the stored data in {folder} is missing or damaged: {error}", hint=_AGAIN
        ) from error
