"""Sparse matrices as splits and as data: every format, and every way to be wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynmm_framework.config.pipeline import GivenFiles
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.matrices import read_matrix
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError

SHAPE = (4, 5)
PAIRS = [(0, 3), (0, 1), (2, 0), (3, 4), (3, 0)]


def matrix(pairs: list[tuple[int, int]] = PAIRS, values: Any = None, shape: Any = SHAPE) -> Any:
    rows, columns = np.array(pairs).reshape(-1, 2).T
    data = np.ones(len(pairs)) if values is None else np.asarray(values)
    return sp.coo_matrix((data, (rows, columns)), shape=shape)


def save(path: Path, *args: Any, form: str = "coo", **kw: Any) -> Path:
    sp.save_npz(path, matrix(*args, **kw).asformat(form))
    return path


def members(path: Path, **changed: Any) -> Path:
    """Writes a good coo matrix with some arrays changed or, if ``None``, left out."""
    good = matrix()
    arrays = {
        "row": good.row, "col": good.col, "data": good.data,
        "shape": np.array(SHAPE), "format": np.array(b"coo"), **changed,
    }  # fmt: skip
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def pairs(rows: Any) -> list[tuple[int, int]]:
    return list(zip(rows.users.tolist(), rows.items.tolist(), strict=True))


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("kind", [float, np.float32, int, bool])
def test_every_format_and_type_gives_the_same(tmp_path: Path, form: str, kind: type) -> None:
    path = save(tmp_path / "m.npz", values=np.ones(len(PAIRS), kind), form=form)
    found = read_matrix(path)
    assert pairs(found) == sorted(PAIRS)
    assert (found.n_users, found.n_items, len(found)) == (4, 5, 5)
    assert found.users.dtype == found.items.dtype == np.int32


def test_new_sparse_arrays_and_stored_zeros(tmp_path: Path) -> None:
    dense = np.zeros(SHAPE)
    dense[1, 2] = 1
    array = sp.csr_array(dense)
    array.data = np.array([1.0])
    sp.save_npz(tmp_path / "a.npz", array)
    assert pairs(read_matrix(tmp_path / "a.npz")) == [(1, 2)]
    path = save(tmp_path / "z.npz", [(0, 0), (1, 1)], [0, 1])
    assert pairs(read_matrix(path)) == [(1, 1)]


@given(
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 5)), min_size=1),
    st.sampled_from(["csr", "csc", "coo"]),
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_was_written_is_read(tmp_path: Path, places: set[Any], form: str) -> None:
    path = save(tmp_path / "m.npz", sorted(places), shape=(8, 6), form=form)
    assert pairs(read_matrix(path)) == sorted(places)


BAD = {
    "nan": ({"data": np.array([1, np.nan, 1, 1, np.inf])},
            "2 values are NaN or infinite, such as nan"),
    "negative": ({"data": np.array([1.0, -1, 1, 1, 1])}, "1 value is negative, such as -1.0"),
    "ratings": ({"data": np.array([1, 5, 3, 1, 1])}, "2 values are neither 0 nor 1, such as 5"),
    "complex": ({"data": np.ones(5, complex)}, "its values are complex128, not numbers"),
    "row": ({"row": np.array([0, 0, 2, 4, -1])},
            "2 row numbers outside the shape 4 × 5, such as 4"),
    "column": ({"col": np.array([3, 1, 0, 5, 0])},
               "1 column number outside the shape 4 × 5, such as 5"),
    "twice": ({"row": np.array([0, 0, 2, 0, 3])[[0, 0, 2, 3, 4]],
               "col": np.array([3, 3, 0, 4, 0])}, "gives 1 place more than once"),
    "empty": ({"data": np.zeros(5)}, "holds no interaction"),
    "lengths": ({"data": np.ones(4)}, "has 5 rows, 5 columns and 4 values"),
    "shape": ({"shape": np.array([4, 5, 6])}, "has 3 dimensions, not users × items"),
    "flat": ({"shape": np.array([0, 5])}, "has the shape 0 × 5"),
    "lacks": ({"row": None, "shape": None}, "lacks the arrays row, shape"),
    "floats": ({"row": np.zeros(5)}, "row must be whole numbers"),
    "dia": ({"format": np.array(b"dia")},
            "is a matrix of the format 'dia', not csr, csc or coo"),
    "other": ({"format": None},
              "is no sparse matrix: its arrays are row, col, data, shape"),
    "objects": ({"data": np.array([1, "a", None, 1, 1], object)},
                "holds Python objects, which are never loaded"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_inside_is_said(tmp_path: Path, case: str) -> None:
    changed, reason = BAD[case]
    path = members(tmp_path / "m.npz", **changed)
    with pytest.raises(DataError) as caught:
        read_matrix(path)
    first, hint = str(caught.value).splitlines()
    assert first == f"{path}: {reason}"
    assert hint.strip().startswith("Write it with scipy.sparse.save_npz: a csr, csc or coo matrix")


@pytest.mark.parametrize("name", ["indptr", "indices"])
def test_a_csr_matrix_whose_arrays_do_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    made = matrix().tocsr()
    arrays = {"indices": made.indices, "indptr": made.indptr, "data": made.data}
    arrays[name] = arrays[name][:-1]
    np.savez(tmp_path / "m.npz", format=np.array(b"csr"), shape=np.array(SHAPE), **arrays)
    with pytest.raises(DataError, match="indices, indptr, data and shape do not fit together"):
        read_matrix(tmp_path / "m.npz")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    good = save(tmp_path / "good.npz").read_bytes()
    inside = bytearray(good)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        start = archive.getinfo("data.npy").header_offset
    inside[start + 60 : start + 70] = bytes(10)
    cases = {
        "cut.npz": (good[: len(good) // 2], "is cut off"),
        "pickle.npz": (b"\x80\x04]\x94K\x01a.", "is no .npz archive; pickles are never loaded"),
        "lfs.npz": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                    "is a Git LFS pointer, not the file itself"),
        "damaged.npz": (bytes(inside), "is damaged ("),
    }  # fmt: skip
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_matrix(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {reason}")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_matrix(tmp_path / "absent.npz")


# Splits.


def dataset(n_items: int = SHAPE[1]) -> Dataset:
    return assemble(
        {"user": ["0"], "item": ["0"]},
        name="reader",
        items={"id": list(map(str, range(n_items))), "title": [f"t{i}" for i in range(n_items)]},
    )


def split(folder: Path, **files: Any) -> Split:
    block = GivenFiles(
        strategy="given", **{name: str(folder / f"{name}.npz") for name in files}, valid_share=0
    )
    for name, made in files.items():
        save(folder / f"{name}.npz", made)
    return make_split(dataset(), block, seed=1)


def test_matrices_make_a_split(tmp_path: Path) -> None:
    made = split(tmp_path, train=[(2, 3), (0, 1), (0, 0)], valid=[(0, 2)], test=[(2, 0), (1, 1)])
    assert (made.n_users, made.n_items) == SHAPE
    assert pairs(made.train) == [(0, 0), (0, 1), (2, 3)]
    assert pairs(made.valid) == [(0, 2)]
    assert pairs(made.test) == [(1, 1), (2, 0)]
    assert made.items is not None
    assert made.users is not None
    assert made.items["id"].to_pylist() == ["0", "1", "2", "3", "4"]
    assert made.items["title"].to_pylist() == ["t0", "t1", "t2", "t3", "t4"]
    assert made.users["id"].to_pylist() == ["0", "1", "2", "3"]
    assert made.evaluation("test").users.tolist() == [2]
    assert "5 of 5 items found in the dataset 'reader'" in made.notes


def test_a_split_of_matrices_is_that_of_their_texts(tmp_path: Path) -> None:
    made = split(tmp_path, train=[(0, 0), (0, 4), (1, 2), (2, 1), (3, 3)], test=[(0, 1), (3, 0)])
    lines = {"train": "0 0 4\n1 2\n2 1\n3 3\n", "test": "0 1\n3 0\n"}
    for name, text in lines.items():
        (tmp_path / f"{name}.txt").write_text(text)
    paths = {name: str(tmp_path / f"{name}.txt") for name in lines}
    block = GivenFiles(strategy="given", valid_share=0, **paths)
    assert make_split(dataset(), block, seed=1).hash == made.hash


def test_matrices_of_different_shapes_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "train.npz")
    save(tmp_path / "test.npz", [(0, 0)], shape=(4, 6))
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("train", "test")}
    with pytest.raises(DataError) as caught:
        make_split(dataset(), GivenFiles(strategy="given", **paths), seed=1)
    assert str(caught.value).splitlines() == [
        f"{paths['train']}: has 4 users × 5 items",
        f"{paths['test']}: has 4 users × 6 items",
        "  Matrices that belong together have one shape: row u is the same user and column i the "
        "same item in all of them.",
    ]


def test_every_bad_matrix_is_named_and_forms_are_not_mixed(tmp_path: Path) -> None:
    members(tmp_path / "train.npz", data=np.full(5, 2))
    members(tmp_path / "test.npz", data=np.full(5, np.nan))
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("train", "test")}
    with pytest.raises(DataError) as caught:
        make_split(dataset(), GivenFiles(strategy="given", **paths), seed=1)
    assert [problem.file for problem in caught.value.problems] == list(paths.values())
    (tmp_path / "test.txt").write_text("0 1\n")
    paths["test"] = str(tmp_path / "test.txt")
    with pytest.raises(DataError, match=r"test.txt: is no .npz matrix, and another file") as caught:
        make_split(dataset(), GivenFiles(strategy="given", **paths), seed=1)
    assert caught.value.hint == "Give all files of the split in one form."
