"""Where inputs are, and that no identifier leads elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.errors import ConfigError, DataError
from dynmm_framework.features.locate import file_stem, find_inputs, locate_files, possible_files

ITEMS = pa.table(
    {
        "id": ["a", "b", "c", "d"],
        "title": ["A", "B", None, "  "],
        "text": ["long", "", None, None],
        "image": pa.array(["x.png", None, "https://shop/x.png", ""], pa.string()),
        "audio": pa.array([None] * 4, pa.string()),
    }
)


def test_the_title_stands_in_for_the_text():
    inputs = find_inputs(ITEMS, "text")
    assert inputs.values == ["long", "B", None, None]
    assert inputs.reasons == ["", "", "none given", "none given"]


def test_fields_make_the_text_together():
    items = pa.table(
        {
            "id": ["a", "b", "c"],
            "title": ["Toy Story.", None, " "],
            "genres": [["Comedy", "Children's"], ["Drama"], None],
            "year": [1995, 1996, None],
        }
    )
    inputs = find_inputs(items, "text", fields=["title", "genres", "year"])
    assert inputs.values == ["Toy Story. Comedy, Children's. 1995", "Drama. 1996", None]
    assert inputs.reasons == ["", "", "none given"]
    with pytest.raises(DataError, match=r"no column 'plot'.*has id, title, genres, year"):
        find_inputs(items, "text", fields=["title", "plot"])


def test_what_is_nothing_makes_no_text():
    items = pa.table(
        {
            "id": ["a", "b"],
            "year": [float("nan"), 1995.0],
            "genres": [["Comedy", None], None],
            "poster": [b"x", b"y"],
        }
    )
    assert find_inputs(items, "text", fields=["year", "genres"]).values == ["Comedy", "1995"]
    with pytest.raises(DataError, match="'poster' of the item table holds no text"):
        find_inputs(items, "text", fields=["poster"])


def test_a_url_is_not_yet_a_file():
    inputs = find_inputs(ITEMS, "image")
    assert inputs.values == ["x.png", None, None, None]
    assert inputs.reasons == ["", "none given", "a URL, not a file", "none given"]


def test_files_come_before_the_column():
    inputs = find_inputs(ITEMS, "image", files=[None, "b.png", None, "d.png"])
    assert inputs.values == [None, "b.png", None, "d.png"]
    assert inputs.reasons[0] == "no file for this id"


@pytest.mark.parametrize(
    ("items", "modality", "files", "message", "hint"),
    [
        (ITEMS, "audio", (), r"no item has a usable audio: none given \(4\)", "metadata"),
        (
            ITEMS.drop_columns(["audio"]),
            "audio",
            (),
            "there is no column 'audio' in the item table, which has id, title, text, image",
            "Choose a reader",
        ),
        (
            ITEMS.slice(2, 1),
            "image",
            (),
            r"no item has a usable image: a URL, not a file \(1\)",
            "dynmm data media",
        ),
        (ITEMS, "image", (None,) * 4, r"no file for this id \(4\)", "media.pattern"),
    ],
)
def test_a_modality_that_no_item_has_is_one_clear_error(items, modality, files, message, hint):
    with pytest.raises(DataError, match=message) as raised:
        find_inputs(items, modality, files=files)
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("item", "stem"),
    [
        ("B001", "B001"), ("tt 12.3", "tt 12.3"), ("é", "é"), ("a/b", "a%2Fb"), ("..", "%2E."),
        (".", "%2E"), ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"), ("a%b", "a%25b"),
        ("", "%"), ("a\0b\n", "a%00b%0A"), ("a*?b", "a%2A%3Fb"),
    ],
)  # fmt: skip
def test_stems_are_plain_names(item: str, stem: str):
    assert file_stem(item) == stem


@given(st.lists(st.text(max_size=300), unique=True, max_size=20))
def test_stems_stay_in_their_folder_and_apart(items: list[str]):
    stems = [file_stem(item) for item in items]
    assert len(set(stems)) == len(stems)
    for stem in stems:
        assert Path(stem).name == stem
        assert stem not in (".", "..")
        assert len(stem.encode("utf-8", "replace")) <= 240


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(folder: Path, pattern: str, *ids: str) -> list[str | None]:
    paths = locate_files(ids, pattern, folder=folder)
    return [None if path is None else str(Path(path).relative_to(folder)) for path in paths]


def test_patterns_find_files_by_id(tmp_path: Path):
    touch(tmp_path, "p/a.jpg", "p/a.b.jpg", "p/c.png", "p/c.gif", "q/7/cover.jpg", "p/x-1.ogg")
    assert found(tmp_path, "p/{id}.jpg", "a", "a.b", "c") == ["p/a.jpg", "p/a.b.jpg", None]
    assert found(tmp_path, "p/{id}.*", "a", "a.b", "c", "z") == [
        "p/a.jpg", "p/a.b.jpg", "p/c.gif", None,
    ]  # fmt: skip
    assert found(tmp_path, "q/{id}/cover.*", "7", "8") == ["q/7/cover.jpg", None]
    assert found(tmp_path, "*/{id}-?.ogg", "x", "") == ["p/x-1.ogg", None]
    assert locate_files(["a"], str(tmp_path / "p" / "{id}.jpg")) == [str(tmp_path / "p" / "a.jpg")]


def test_an_id_never_leaves_the_folder_nor_globs(tmp_path: Path):
    touch(tmp_path, "secret.jpg", "p/a.jpg", "p/[b].jpg", "p/a%2Fb.jpg")
    ids = ["../secret", "*", "?", "[b]", "..", "", "a/b"]
    assert found(tmp_path, "p/{id}.jpg", *ids) == [
        None, None, None, "p/[b].jpg", None, None, "p/a%2Fb.jpg",
    ]  # fmt: skip
    assert found(tmp_path, "p/{id}.*", *ids)[:3] == [None, None, None]


def test_a_pattern_without_an_id_and_a_missing_folder_are_errors(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"pattern 'posters/\*.jpg' names no item"):
        locate_files(["a"], "posters/*.jpg", folder=tmp_path)
    with pytest.raises(DataError, match=re.escape(f"the folder of media {tmp_path / 'no'}")):
        locate_files(["a"], "no/{id}.jpg", folder=tmp_path)


names = st.text("ab.-1", min_size=1, max_size=4).filter(lambda text: text.strip("."))


@given(st.sets(names, max_size=8), st.sets(names, min_size=1, max_size=5))
def test_a_wildcard_agrees_with_the_definition(tmp_path_factory, files, ids):
    folder = tmp_path_factory.mktemp("files")
    touch(folder, *files)
    for item, path in zip(ids, locate_files(list(ids), "{id}.*", folder=folder), strict=True):
        stem = file_stem(item)
        expected = [
            name for name in files if re.fullmatch(re.escape(stem) + r"\.[^./]*", name, re.DOTALL)
        ]
        best = min(expected, key=lambda name: (len(name), name), default=None)
        assert (None if path is None else Path(path).name) == best


@pytest.mark.parametrize("pattern", ["p[1]/{id}.*", "{id}/x.jpg", "p[1]/?-{id}.jpg", "*/{id}.jpg"])
def test_possible_files_are_those_of_all_items(tmp_path: Path, pattern: str):
    for name in ("p[1]/a.jpg", "p[1]/a.b.jpg", "p[1]/1-c.jpg", "a/x.jpg", "other.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "p[1]" / "gone.jpg").symlink_to(tmp_path / "nothing")
    found = [name for name, _ in possible_files(pattern, folder=tmp_path)]
    ids = ["a", "a.b", "1-c", "c", "x", "other", "gone"]
    located = {path for path in locate_files(ids, pattern, folder=tmp_path) if path}
    usable = {path for path in located if Path(path).exists()}
    assert usable
    start = tmp_path / "p[1]" if pattern.startswith("p[1]") else tmp_path
    assert {str(start / name) for name in found} == usable
    assert possible_files(str(tmp_path / pattern)) == possible_files(pattern, folder=tmp_path)


def test_possible_files_of_no_folder_are_none_and_of_no_item_an_error(tmp_path: Path):
    assert possible_files("no/{id}.jpg", folder=tmp_path) == []
    with pytest.raises(ConfigError, match="names no item"):
        possible_files("posters/x.jpg", folder=tmp_path)
