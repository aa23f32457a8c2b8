"""Published features reach the right items, or an error says which rows do not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from dynmm_framework.artifacts.arrays import save_arrays
from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import ArtifactError, DataError
from dynmm_framework.testing import FeatureReaderConformance
from dynmm_plugins.precomputed.config import PrecomputedConfig
from dynmm_plugins.precomputed.reader import Precomputed

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)
ITEMS = pa.table({"id": ["b", "a", "x", "d"]})


class TestPrecomputedConformance(FeatureReaderConformance):
    component: ClassVar[str] = "precomputed"
    config: ClassVar[dict[str, Any]] = {"path": "features.parquet"}

    @pytest.fixture
    def settings(self, dynmm_dataset: Dataset, tmp_path: Path) -> Mapping[str, Any]:
        ids = dynmm_dataset.items["id"].to_pylist()[::-2]
        rows = np.random.default_rng(0).normal(size=(len(ids), 5)).tolist()
        pq.write_table(pa.table({"id": ids, "vector": rows}), tmp_path / "features.parquet")
        return {"path": str(tmp_path / "features.parquet")}


def read(items: pa.Table = ITEMS, lines: list[str] | None = None, **settings: Any) -> Features:
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    ctx: Any = SimpleNamespace(log=(lines if lines is not None else []).append)
    return Precomputed(PrecomputedConfig(**settings)).read(items, ctx)


def npy(tmp_path: Path, matrix: Any = MATRIX, name: str = "f.npy") -> Path:
    np.save(tmp_path / name, matrix)
    return tmp_path / name


def problem(**settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(**settings)
    return str(caught.value)


def test_rows_in_the_order_of_the_items(tmp_path: Path) -> None:
    features = read(path=npy(tmp_path))
    np.testing.assert_array_equal(features.vectors, MATRIX)
    assert features.present.all()
    assert features.vectors.dtype == np.float32
    with pytest.raises(DataError) as caught:
        read(ITEMS.slice(0, 3), path=npy(tmp_path))
    assert "f.npy: it has 4 rows, and there are 3 items" in str(caught.value)
    assert "rows: number if an item's identifier is the number of its row" in str(caught.value)


def test_rows_by_number(tmp_path: Path) -> None:
    items = pa.table({"id": ["3", "0", "9"]})
    features = read(items, path=npy(tmp_path), rows="number")
    np.testing.assert_array_equal(features.vectors, [MATRIX[3], MATRIX[0], np.zeros(3)])
    assert features.present.tolist() == [True, True, False]
    with pytest.raises(DataError) as caught:
        read(pa.table({"id": ["i3", "i0"]}), path=npy(tmp_path), rows="number")
    assert "no item's identifier ('i3', 'i0' …) is the number of a usable row" in str(caught.value)
    assert "name those of the rows in ids" in str(caught.value)


@pytest.mark.parametrize("form", ["txt", "json", "npy"])
def test_rows_by_a_file_of_identifiers(tmp_path: Path, form: str) -> None:
    ids, path = ["a", "b", "c", "d"], tmp_path / f"ids.{form}"
    if form == "npy":
        np.save(path, np.array(ids))
    else:
        path.write_text("\n".join(ids) + "\n" if form == "txt" else json.dumps(ids))
    lines: list[str] = []
    features = read(lines=lines, path=npy(tmp_path), ids=path)
    np.testing.assert_array_equal(features.vectors, [MATRIX[1], MATRIX[0], np.zeros(3), MATRIX[3]])
    assert features.present.tolist() == [True, True, False, True]
    assert lines == ["f.npy: 3 of 4 items have features, 3 numbers each; 1 rows belong to no item"]


def test_numbers_as_identifiers_are_compared_as_texts(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([30, 10, 20, 40]))
    items = pa.table({"id": ["10", "30"]})
    features = read(items, path=npy(tmp_path), ids=tmp_path / "ids.npy")
    np.testing.assert_array_equal(features.vectors, MATRIX[[1, 0]])


def test_safetensors_by_name_or_alone(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    ids = np.array([7, 8, 9, 10])
    save_arrays(path, {"image": MATRIX, "audio": MATRIX + 1, "ids": ids})
    items = pa.table({"id": ["9", "7"]})
    features = read(items, path=path, tensor="audio", ids="ids")
    np.testing.assert_array_equal(features.vectors, MATRIX[[2, 0]] + 1)
    assert "holds 2 matrices: audio, image\n  Name one of them in tensor" in problem(path=path)
    assert "has no tensor 'imag'; did you mean image?" in problem(path=path, tensor="imag")
    save_arrays(path, {"image": MATRIX.astype(np.float16)})
    np.testing.assert_array_equal(read(path=path).vectors, MATRIX)


@pytest.mark.parametrize("form", ["lists", "columns"])
def test_parquet_of_lists_or_of_columns(tmp_path: Path, form: str) -> None:
    path = tmp_path / "f.parquet"
    ids = pa.array(["a", "b", "c", "d"])
    if form == "lists":
        table = pa.table({"id": ids, "title": ids, "vector": MATRIX.tolist()})
    else:
        table = pa.table({"id": ids, "title": ids, **{f"f{i}": MATRIX[:, i] for i in range(3)}})
    pq.write_table(table, path)
    features = read(path=path)
    np.testing.assert_array_equal(features.vectors, [MATRIX[1], MATRIX[0], np.zeros(3), MATRIX[3]])
    assert read(path=path, rows="order").present.all()
    assert "has no column 'titel'; did you mean title?" in problem(path=path, ids="titel")
    assert "a column is not numbers" in problem(path=path, columns=["title", "id"])


def test_lists_of_different_lengths_and_nulls(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    vectors = [[1.0, 2.0], None, [3.0], [4.0, 5.0]]
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "v": vectors}), path)
    assert "column 'v' has lists of different lengths: 2, but not in row 2" in problem(path=path)
    vectors[2] = [3.0, 3.0]
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "v": vectors}), path)
    features = read(path=path, not_finite="missing")
    assert features.present.tolist() == [False, True, False, True]
    pq.write_table(pa.table({"id": ["a", None], "v": [[1.0], [1.0]]}), path)
    assert "column 'id' has nulls in rows [1]" in problem(path=path)


def test_rows_that_are_not_finite_are_refused_or_missing(tmp_path: Path) -> None:
    matrix = MATRIX.copy()
    matrix[1, 0], matrix[3, 2] = np.nan, np.inf
    path = npy(tmp_path, matrix)
    text = problem(path=path)
    assert "f.npy: 2 rows have NaN or infinity: 1, 3" in text
    assert "not_finite: missing" in text
    features = read(path=path, not_finite="missing")
    assert features.present.tolist() == [True, False, True, False]
    assert not features.vectors[1].any()


def test_zeros_are_missing_where_that_is_meant(tmp_path: Path) -> None:
    matrix = MATRIX.copy()
    matrix[2] = 0
    path = npy(tmp_path, matrix)
    assert read(path=path).present.all()
    assert read(path=path, zeros_are_missing=True).present.tolist() == [True, True, False, True]


def test_repeated_identifiers_are_refused(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("a\nb\na\na\n")
    text = problem(path=npy(tmp_path), ids=ids)
    assert "ids.txt: item 'a' has 3 rows: 0, 2, 3\n  Keep one row for each item." in text


def test_identifiers_that_do_not_match_are_shown_side_by_side(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("1\n2\n3\n4\n")
    text = problem(path=npy(tmp_path), ids=ids)
    assert "none of its identifiers ('1', '2', '3' …) is that of an item ('b', 'a', 'x' …)" in text
    ids.write_text("a\nb\n")
    assert "it has 2 identifiers for 4 rows" in problem(path=npy(tmp_path), ids=ids)


def test_another_width_is_refused(tmp_path: Path) -> None:
    text = problem(path=npy(tmp_path), dim=128)
    assert "f.npy: its rows have 3 numbers, not 128" in text


def test_files_that_are_no_features_are_explained(tmp_path: Path) -> None:
    objects = tmp_path / "o.npy"
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "holds Python objects, which are never loaded" in problem(path=objects)
    pointer = tmp_path / "p.npy"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "p.npy: it is a Git LFS pointer" in problem(path=pointer)
    cut = npy(tmp_path, name="cut.npy")
    cut.write_bytes(cut.read_bytes()[:-7])
    assert "cut.npy: is not a whole .npy file" in problem(path=cut)
    flat = npy(tmp_path, MATRIX.ravel(), name="flat.npy")
    assert "an array of shape (12,) and type float32, not a matrix" in problem(path=flat)
    for ending in ("safetensors", "parquet"):
        noise = tmp_path / f"noise.{ending}"
        noise.write_bytes(b"noise" * 9)
        assert "not a whole" in problem(path=noise)
    assert "does not exist" in problem(path=tmp_path / "none.npy")


def test_settings_that_do_not_fit_are_refused_at_once() -> None:
    for settings, message in (
        ({"path": "f.csv"}, r"must end with \.npy, \.safetensors, \.parquet"),
        ({"path": "f.npy", "tensor": "a"}, "tensor is for safetensors"),
        ({"path": "f.npy", "columns": ["a"]}, "columns are for Parquet"),
        ({"path": "f.npy", "ids": "i.txt", "rows": "order"}, "leave one out"),
        ({"path": "f.npy", "ids": "column"}, r"ids .* must be a file"),
    ):
        with pytest.raises(ValidationError, match=message):
            PrecomputedConfig(**settings)


def test_the_fingerprint_is_that_of_the_contents(tmp_path: Path) -> None:
    registry: Any = None
    one = PrecomputedConfig(path=str(npy(tmp_path))).fingerprint(registry)
    assert PrecomputedConfig(path=str(npy(tmp_path, name="g.npy"))).fingerprint(registry) == one
    ids = tmp_path / "ids.txt"
    ids.write_text("a\n")
    with_ids = PrecomputedConfig(path=str(tmp_path / "g.npy"), ids=str(ids))
    assert with_ids.fingerprint(registry) != one
    npy(tmp_path, MATRIX + 1)
    assert PrecomputedConfig(path=str(tmp_path / "f.npy")).fingerprint(registry) != one
    with pytest.raises(ArtifactError, match=r"none\.npy: it does not exist"):
        PrecomputedConfig(path=str(tmp_path / "none.npy")).fingerprint(registry)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_tiktok_s_features_are_read(real_data: Path, modality: str) -> None:
    path = real_data / "tiktok" / f"{modality}_features.npy"
    matrix = np.load(path)
    items = pa.table({"id": [str(item) for item in range(0, 6710, 3)]})
    features = read(items, path=path, rows="number", dim=128)
    assert features.present.all()
    np.testing.assert_array_equal(features.vectors, matrix[::3].astype(np.float32))
