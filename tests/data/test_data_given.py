"""Splits given by files: id spaces, names, lines of all sorts, and files that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynmm_framework.config.pipeline import GivenFiles
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError


def reader(ids: list[Any], **columns: list[Any]) -> Dataset:
    return assemble(
        {"user": ["u1", "u2"], "item": [ids[0], ids[-1]]},
        name="reader",
        items={"id": ids, **columns},
        users={"id": ["u1", "u2"], "age": [11, 22]},
    )


def write(folder: Path, **files: str) -> dict[str, str]:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return {name: str(folder / f"{name}.txt") for name in files}


def split(folder: Path, dataset: Dataset, *, valid_share: float = 0, **files: str) -> Split:
    paths = write(folder, **files)
    return make_split(
        dataset, GivenFiles(strategy="given", valid_share=valid_share, **paths), seed=1
    )


def pairs(rows: Any) -> list[tuple[int, int]]:
    return list(zip(rows.users.tolist(), rows.items.tolist(), strict=True))


def test_whole_numbers_from_zero_are_the_ids(tmp_path: Path) -> None:
    dataset = reader([3, 1, 0, 2], title=["three", "one", "zero", "two"])
    made = split(tmp_path, dataset, train="2 3 0\n0 1 2\n1 0\n", test="0 3\n2 1 2\n")
    assert pairs(made.train) == [(0, 1), (0, 2), (1, 0), (2, 3), (2, 0)]
    assert pairs(made.test) == [(0, 3), (2, 1), (2, 2)]
    assert len(made.valid) == 0
    assert (made.n_users, made.n_items) == (3, 4)
    assert made.items is not None
    assert made.items.to_pydict() == {
        "id": ["0", "1", "2", "3"],
        "title": ["zero", "one", "two", "three"],
    }
    evaluation = made.evaluation("test")
    assert evaluation.users.tolist() == [0, 2]
    assert evaluation.histories[1].tolist() == [3, 0]
    assert made.notes == (
        "interactions: 5 training, 0 validation, 3 test",
        "4 of 4 items found in the dataset 'reader'",
        "valid: 0 users, 0 targets",
        "test: 2 users, 3 targets",
    )
    assert made.rows.users.dtype == made.rows.items.dtype == np.int32


@pytest.mark.parametrize("top", ["4", "03", "x3", "-3", "3.0"])
def test_other_ids_count_by_first_appearance(tmp_path: Path, top: str) -> None:
    dataset = reader(["2", "1", "0"], title=["two", "one", "zero"])
    made = split(tmp_path, dataset, train=f"u2 2 {top}\nu1 0 1\n", test="u1 2\nu3 0\n")
    assert made.items is not None
    assert made.users is not None
    assert made.items.to_pydict() == {
        "id": ["2", top, "0", "1"],
        "title": ["two", None, "zero", "one"],
    }
    assert made.users.to_pydict() == {"id": ["u2", "u1", "u3"], "age": [22, 11, None]}
    assert pairs(made.train) == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert pairs(made.test) == [(1, 0), (2, 2)]
    assert "3 of 4 items found in the dataset 'reader'" in made.notes
    assert "test: 1 user left out for want of an earlier interaction" in made.notes


def test_lines_of_all_sorts(tmp_path: Path) -> None:
    made = split(
        tmp_path,
        reader([0, 1, 2]),
        train="\ufeff0 0 1\r\n\r\n1\t2  0\n  \n2\n0 2",
        test="0 \n1 1 \n3\n",
    )
    assert pairs(made.train) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 0)]
    assert pairs(made.test) == [(1, 1)]
    assert (made.n_users, made.n_items) == (4, 3)


def test_validation_file(tmp_path: Path) -> None:
    made = split(
        tmp_path, reader([0, 1, 2]), valid_share=0.5, train="0 0\n", valid="0 1\n", test="0 2 0\n"
    )
    assert pairs(made.valid) == [(0, 1)]
    assert made.evaluation("test").histories[0].tolist() == [0, 1]
    assert made.evaluation("valid").histories[0].tolist() == [0]
    assert "test: 1 target among the user's training items too" in made.notes


def test_validation_share_is_drawn_from_training(tmp_path: Path) -> None:
    n = 40
    lines = {
        "train": "".join(f"{u} {' '.join(map(str, range(u, n)))}\n" for u in range(n)),
        "test": "".join(f"{u} 0\n" for u in range(n)),
    }
    made = split(tmp_path, reader(list(range(n))), valid_share=0.25, **lines)
    counts = n - np.arange(n)
    expected = np.where(counts < 3, 0, np.maximum(counts // 4, 1))
    assert np.bincount(made.valid.users, minlength=n).tolist() == expected.tolist()
    together = sorted(pairs(made.train) + pairs(made.valid))
    assert together == [(u, i) for u in range(n) for i in range(u, n)]
    again = split(tmp_path, reader(list(range(n))), valid_share=0.25, **lines)
    assert again.hash == made.hash
    later = made.valid.items - made.valid.users > (n - made.valid.users) / 2
    assert 0.3 < later.mean() < 0.7


def test_the_split_brings_its_own_tables(tmp_path: Path) -> None:
    dataset = reader([5, 1, 0, 2])
    made = split(tmp_path, dataset, train="0 0 1\n", test="0 2\n")
    assert made.training_data(dataset.items).items["id"].to_pylist() == ["0", "1", "2"]
    renumbered = made.renumbered(dataset)
    assert (renumbered.name, renumbered.n_users, renumbered.n_items) == ("reader", 1, 3)
    assert renumbered.items is made.items


def test_files_of_other_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        split(tmp_path, reader(["B01", "B02"]), train="0 0 1 2\n", test="0 3\n")
    assert str(caught.value).splitlines() == [
        "none of the 4 item ids in the files of the split is an item of the dataset 'reader': the "
        "files have 0, 1, 2, the dataset B01, B02",
        "  The files must use the raw ids of the data block's dataset. To use the files alone, "
        "let the reader `sequence_file` read the training file as the dataset.",
    ]


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"0 1\n1 2\n2 \xe9\n")
    (tmp_path / "empty.txt").write_text("\n0\n")
    block = GivenFiles(
        strategy="given",
        train=str(tmp_path / "latin.txt"),
        valid=str(tmp_path / "none.txt"),
        test=str(tmp_path / "empty.txt"),
    )
    with pytest.raises(DataError) as caught:
        make_split(reader([1]), block, seed=0)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/latin.txt:3: is not text in UTF-8",
        f"{tmp_path}/none.txt: cannot be read: No such file or directory",
        f"{tmp_path}/empty.txt: holds no user with an item",
        "  Check the paths and files named in the split block.",
    ]


def test_test_users_without_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Check that split\.train and split\.test are the right"):
        split(tmp_path, reader([0, 1]), train="0 0\n", test="1 1\n")
