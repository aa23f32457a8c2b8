"""What is written is read back exactly; what is damaged is refused in words."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.config.pipeline import GivenFiles, LeaveOneOut
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.candidates import Pool, draw_candidates
from dynmm_framework.data.filters import apply_filters
from dynmm_framework.data.fingerprint import fingerprint_dataset
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
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.errors import ArtifactError

ITEMS = pa.table(
    {
        "id": ["3", "x y", "é", "9"],
        "title": ["a", None, "", "b\n"],
        "categories": [["p", ""], None, [], ["q"]],
        "year": pa.array([1994, None, 3, 4], pa.int16()),
        "price": pa.array([0.1, None, float("inf"), -0.0], pa.float32()),
        "released": pa.array([datetime.date(1, 1, 1)] * 4),
        "seen": pa.array([datetime.datetime(2020, 1, 1)] * 4, pa.timestamp("s")),
        "nothing": pa.nulls(4),
        "nested": [{"a": 1, "b": ["z"]}, None, {"a": None, "b": None}, {"a": 2, "b": []}],
    }
)


def dataset(**columns: Any) -> Dataset:
    table = {"user": list("aaabbb"), "item": ["3", "9", "é", "9", "é", "3"], **columns}
    return assemble(table, name="stored é", items=ITEMS, users={"id": ["b"], "age": [7]})


def same_rows(first: Interactions, second: Interactions) -> bool:
    for field in fields(Interactions):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert one.tolist() == other.tolist(), field.name
        else:
            assert one == other, field.name
    return True


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"timestamp": [1, 2, 3, 4, 5, 2**33]},
        {"rating": [0.1, 1, 2, 3, 4, 5]},
        {"timestamp": [6, 5, 4, 3, 2, 1], "rating": [0.1, 1, 2, 3, 4, 5]},
    ],
    ids=lambda columns: "+".join(columns) or "bare",
)
def test_dataset_comes_back_as_it_was(tmp_path: Path, columns: dict[str, Any]) -> None:
    from dynmm_framework.config.pipeline import Filters

    before = apply_filters(dataset(**columns), Filters())
    write_dataset(before, tmp_path / "made" / "here")
    after = read_dataset(tmp_path / "made" / "here")
    assert same_rows(before.interactions, after.interactions)
    assert after.items.equals(before.items)
    assert after.items.schema.equals(before.items.schema)
    assert after.users.equals(before.users)
    assert (after.name, after.log) == (before.name, before.log)
    assert fingerprint_dataset(after) == fingerprint_dataset(before)


def loo() -> Split:
    return make_split(dataset(timestamp=range(6)), LeaveOneOut(strategy="leave_one_out"), seed=0)


def given(folder: Path) -> Split:
    (folder / "train.txt").write_text("a 3 9\nb é x\n", encoding="utf-8")
    (folder / "test.txt").write_text("a é\n", encoding="utf-8")
    block = GivenFiles(
        strategy="given", train=str(folder / "train.txt"), test=str(folder / "test.txt")
    )
    return make_split(dataset(), block, seed=0)


def test_split_comes_back_as_it_was(tmp_path: Path) -> None:
    for name, before in (("loo", loo()), ("given", given(tmp_path))):
        write_split(before, tmp_path / name)
        after = read_split(tmp_path / name)
        assert same_rows(before.rows, after.rows)
        assert after.parts.dtype == before.parts.dtype == np.int8
        assert after.parts.tolist() == before.parts.tolist()
        assert (after.name, after.notes, after.hash) == (before.name, before.notes, before.hash)
        for one, other in ((after.items, before.items), (after.users, before.users)):
            assert (one is None) == (other is None) == (name == "loo")
            assert one is None or one.equals(other)


def test_candidates_come_back_as_they_were(tmp_path: Path) -> None:
    before = draw_candidates(loo().evaluation("test"), 1, seed=3)
    write_candidates(before, tmp_path)
    after = read_candidates(tmp_path)
    assert after.hash == before.hash
    for name in ("users", "items", "rows"):
        assert getattr(after, name).dtype == getattr(before, name).dtype
        assert (getattr(after, name) == getattr(before, name)).all()


def test_a_pool_comes_back_as_it_was(tmp_path: Path) -> None:
    before = Pool(np.array([1, 4, 9], np.int32))
    write_pool(before, tmp_path)
    after = read_pool(tmp_path)
    assert after.items.dtype == np.int32
    assert (after.items.tolist(), after.hash) == ([1, 4, 9], before.hash)


def write_all(folder: Path) -> None:
    write_dataset(dataset(), folder / "dataset")
    write_split(given(folder), folder / "split")
    write_candidates(draw_candidates(loo().evaluation("test"), 1, seed=3), folder / "candidates")
    write_pool(Pool(np.array([1, 4, 9], np.int32)), folder / "pool")


READ: dict[str, Callable[[Path], Any]] = {
    "dataset": read_dataset,
    "split": read_split,
    "candidates": read_candidates,
    "pool": read_pool,
}
FILES = [
    "dataset/dataset.json",
    "dataset/interactions.parquet",
    "dataset/items.parquet",
    "dataset/users.parquet",
    "split/split.json",
    "split/split.parquet",
    "split/items.parquet",
    "split/users.parquet",
    "candidates/candidates.json",
    "candidates/candidates.safetensors",
    "pool/pool.json",
    "pool/pool.safetensors",
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
def test_damage_is_named(tmp_path: Path, file: str, damage: str) -> None:
    write_all(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("*/*")) == sorted(FILES)
    path = tmp_path / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\xff{" * 99}[
                damage
            ]
        )
    with pytest.raises(ArtifactError) as caught:
        READ[path.parent.name](path.parent)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"the stored data in {path.parent} is missing or damaged: ")
    assert lines[-1] == "  Delete the folder and run again; what is missing is computed anew."


@pytest.mark.parametrize("kind", ["split", "candidates", "pool"])
def test_other_contents_than_noted_are_found(tmp_path: Path, kind: str) -> None:
    write_all(tmp_path)
    path = tmp_path / kind / f"{kind}.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"hash": "0" * 64}))
    with pytest.raises(ArtifactError, match="not have the noted hash"):
        READ[kind](path.parent)


def test_tables_of_another_length_are_found(tmp_path: Path) -> None:
    write_all(tmp_path)
    path = tmp_path / "dataset" / "items.parquet"
    path.write_bytes((tmp_path / "dataset" / "users.parquet").read_bytes())
    with pytest.raises(ArtifactError, match=r"items\.parquet has another length"):
        read_dataset(path.parent)


@pytest.mark.parametrize("kind", READ)
def test_newer_versions_are_refused(tmp_path: Path, kind: str) -> None:
    write_all(tmp_path)
    path = tmp_path / kind / f"{kind}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    with pytest.raises(ArtifactError, match="is of version 2, this installation reads up to 1"):
        READ[kind](path.parent)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError) as caught:
        write_dataset(dataset(), tmp_path / "file" / "inside")
    assert f"{tmp_path}/file/inside cannot be written: " in str(caught.value)
    assert "Free some space or choose another folder" in str(caught.value)
    (tmp_path / "candidates.safetensors").mkdir()
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_candidates(draw_candidates(loo().evaluation("test"), 1, seed=3), tmp_path)


def test_reviews_come_back_with_their_rows(tmp_path: Path) -> None:
    texts = ["a", None, 'c\n"d"', "", "é", "f"]
    before = dataset(timestamp=[6, 5, 4, 3, 2, 1], review=texts)
    assert before.interactions.reviews is not None
    assert before.interactions.reviews.to_pylist() == ['c\n"d"', None, "a", "f", "é", None]
    write_dataset(before, tmp_path / "data")
    after = read_dataset(tmp_path / "data")
    assert same_rows(before.interactions, after.interactions)
    assert fingerprint_dataset(after) == fingerprint_dataset(before)
    split = make_split(before, LeaveOneOut(strategy="leave_one_out"), seed=0)
    write_split(split, tmp_path / "split")
    assert same_rows(split.rows, read_split(tmp_path / "split").rows)
