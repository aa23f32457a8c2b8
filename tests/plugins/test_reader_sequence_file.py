"""Sequences, one user or one pair a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reader_samples import ReaderContext

from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError
from dynmm_plugins.sequence_file.config import SequenceFileConfig
from dynmm_plugins.sequence_file.reader import SequenceFile


def read(path: Path, **settings: Any) -> Dataset:
    return SequenceFile(SequenceFileConfig(path=str(path), **settings)).read(ReaderContext())


def named(dataset: Dataset) -> dict[str, list[str]]:
    """Returns the raw ids of every user's items by the user's raw id."""
    users, items = (table["id"].to_pylist() for table in (dataset.users, dataset.items))
    histories = dataset.interactions.histories()
    return {user: [items[i] for i in histories[n]] for n, user in enumerate(users)}


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1 5 3 4\n2 3 5\n",
        "1 5 3 4\r\n2 3 5\r\n",
        "\n1\t5   3 4 \n\n2 3 5",
        "\ufeff1 5 3 4\n2 3 5\n",
        "1 5\n1 3\n1 4\n2 3\n2 5\n",
        "1 5\n2 3\n1 3\n2 5\n1 4\n",
    ],
    ids=["lines", "crlf", "blanks", "mark", "pairs", "mixed_pairs"],
)
def test_both_layouts_are_told_apart(tmp_path: Path, text: str) -> None:
    dataset = read(write(tmp_path / "seq.txt", text))
    assert dataset.name == "seq"
    assert named(dataset) == {"1": ["5", "3", "4"], "2": ["3", "5"]}
    assert dataset.interactions.timestamps is None
    assert dataset.interactions.ratings is None


def test_lines_of_one_item_are_the_same_in_both_layouts(tmp_path: Path) -> None:
    path = write(tmp_path / "seq.txt", "1 5\n2 3\n")
    assert named(read(path)) == {"1": ["5"], "2": ["3"]}
    assert named(read(path, layout="pairs")) == named(read(path, layout="lines"))


def test_ids_may_be_words_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "seq.txt", "anna tea café\nbob tea\n")
    with pytest.raises(DataError, match="'anna' is not a whole number; if ids are words"):
        read(path)
    assert named(read(path, ids="any")) == {"anna": ["tea", "café"], "bob": ["tea"]}


def test_all_bad_lines_come_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "seq.txt", "1 5 3 4\n\n2\n3 7 x8 -1 9\n1 2 3\n4 1 2\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert sorted((p.line, p.message) for p in caught.value.problems) == [
        (3, "has a user and no item"),
        (4, "'-1' is not a whole number; if ids are words, set data.config.ids to any"),
        (4, "'x8' is not a whole number; if ids are words, set data.config.ids to any"),
        (5, "user '1' has a line already, line 1"),
    ]


def test_pairs_have_two_tokens(tmp_path: Path) -> None:
    path = write(tmp_path / "seq.txt", "1 5\n1 3\n1 4 9\n2 3\n2\n2 7\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert sorted((p.line, p.message) for p in caught.value.problems) == [
        (3, "has 3 tokens; a pair has 2"),
        (5, "has a user and no item"),
    ]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_nothing_in_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"is empty|has no rows"):
        read(write(tmp_path / "seq.txt", text))


def test_attributes_become_categories(tmp_path: Path) -> None:
    path = write(tmp_path / "seq.txt", "1 5 3 4\n")
    attributes = write(tmp_path / "attributes.json", json.dumps({"3": [1, 2], "5": ["a"], "9": []}))
    dataset = read(path, attributes=str(attributes))
    items = dict(
        zip(dataset.items["id"].to_pylist(), dataset.items["categories"].to_pylist(), strict=True)
    )
    assert items == {"3": ["1", "2"], "5": ["a"], "4": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"3": 1, "4": [2], "5": [[1]]}', "item 3: 1 is not a list of attributes"),
        ("[1]", "is not an object from item to list of attributes"),
        ('{"3": [1,', "attributes.json:1: is not JSON"),
        ("", "attributes.json: is empty"),
    ],
)
def test_bad_attributes(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "seq.txt", "1 5 3 4\n")
    attributes = write(tmp_path / "attributes.json", text)
    with pytest.raises(DataError, match=message) as caught:
        read(path, attributes=str(attributes))
    assert "data.config.attributes" in caught.value.hint or "again" in caught.value.hint


def test_files_of_a_record_are_fetched(tmp_path: Path) -> None:
    write(tmp_path / "seq.txt", "1 5 3 4\n2 3 5\n")
    write(tmp_path / "attributes.json", '{"3": [1]}')
    config = SequenceFileConfig(record="my_data", path="seq.txt", attributes="attributes.json")
    ctx = ReaderContext(tmp_path)
    dataset = SequenceFile(config).read(ctx)
    assert ctx.asked == ["my_data"]
    assert dataset.name == "my_data"
    assert named(dataset) == {"1": ["5", "3", "4"], "2": ["3", "5"]}
    assert SequenceFile(config).files(ctx) == [tmp_path / "seq.txt", tmp_path / "attributes.json"]
    with pytest.raises(DataError, match=r"did you mean 'seq\.txt'"):
        SequenceFile(SequenceFileConfig(record="my_data", path="sek.txt")).read(ctx)


def test_files_of_a_record_lie_in_it() -> None:
    for settings in ({"path": "/etc/seq.txt"}, {"path": "a", "attributes": "../b.json"}):
        with pytest.raises(ValueError, match="must be the name of a file of the record 'x', not"):
            SequenceFileConfig(record="x", **settings)
    assert SequenceFileConfig(path="/etc/seq.txt").record is None


def test_beauty_real(real_data: Path) -> None:
    folder = real_data / "amazon-beauty"
    dataset = read(folder / "Beauty.txt", attributes=str(folder / "Beauty_item2attributes.json"))
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (22363, 12101, 198_502)
    assert dataset.items["categories"].null_count == 0
    lines = (folder / "Beauty.txt").read_text().splitlines()
    histories = named(dataset)
    for line in (*lines[:50], *lines[-50:]):
        user, *items = line.split()
        assert histories[user] == items


def test_video_real(real_data: Path) -> None:
    dataset = read(real_data / "amazon-games" / "Video.txt")
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (31013, 23715, 287_107)
    assert named(dataset)["1"][:4] == ["6393", "13504", "14087", "15116"]
