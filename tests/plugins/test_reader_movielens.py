"""MovieLens-100K and -1M: both layouts of each, and what makes up their items and users."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reader_samples import START, ReaderContext, ml1m_official, ml100k_atomic, ml100k_official

import dynmm_registry
from dynmm_framework.artifacts.records import Registry
from dynmm_framework.artifacts.sources import Fetcher, default_cache
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError
from dynmm_plugins.movielens.config import MovieLens1MConfig, MovieLens100KConfig
from dynmm_plugins.movielens.reader_1m import MovieLens1M
from dynmm_plugins.movielens.reader_100k import MovieLens100K


def read_100k(path: Path) -> Dataset:
    return MovieLens100K(MovieLens100KConfig(path=str(path))).read(ReaderContext())


def read_1m(path: Path, **settings: bool) -> Dataset:
    return MovieLens1M(MovieLens1MConfig(path=str(path), **settings)).read(ReaderContext())


@pytest.mark.parametrize("make", [ml100k_official, ml100k_atomic])
def test_100k_layouts_give_the_same_dataset(tmp_path: Path, make: object) -> None:
    make(tmp_path)  # type: ignore[operator]
    dataset = read_100k(tmp_path)
    assert dataset.name == "movielens_100k"
    assert dataset.items.to_pydict() == {
        "id": ["11", "12", "13", "14"],
        "title": ["Toy Story (1995)", "Misérables, Les (1995)", "unknown", "Fargo"],
        "categories": [["Comedy", "Drama"]] * 3 + [None if make is ml100k_atomic else []],
        "release_year": [1995, 1995, None, None],
    }
    assert dataset.users.to_pylist() == [
        {"id": "1", "age": 24, "gender": "M", "occupation": "technician", "zip_code": "85711"},
        {"id": "2", "age": 53, "gender": "F", "occupation": "other", "zip_code": "94043"},
        {"id": "3", "age": 33, "gender": "M", "occupation": "writer", "zip_code": "T8H1N"},
    ]


def test_100k_is_found_in_the_subfolder_of_its_archive_and_beside_a_named_file(
    tmp_path: Path,
) -> None:
    ml100k_official(tmp_path / "ml-100k")
    assert read_100k(tmp_path).n_users == 3
    assert read_100k(tmp_path / "ml-100k" / "u.data").n_users == 3


def test_without_a_path_the_record_is_fetched(tmp_path: Path) -> None:
    ml100k_atomic(tmp_path)
    ctx = ReaderContext(tmp_path)
    MovieLens100K(MovieLens100KConfig()).read(ctx)
    assert set(ctx.asked) == {"movielens_100k"}
    other = tmp_path / "1m"
    ml1m_official(other)
    ctx = ReaderContext(other)
    MovieLens1M(MovieLens1MConfig()).read(ctx)
    assert set(ctx.asked) == {"movielens_1m"}


def test_missing_item_and_user_files_come_together(tmp_path: Path) -> None:
    ml100k_official(tmp_path)
    (tmp_path / "u.item").unlink()
    (tmp_path / "u.user").write_text("")
    with pytest.raises(DataError) as caught:
        read_100k(tmp_path)
    # u.data is the nearest name to the missing one
    assert [problem.message.split(" (")[0] for problem in caught.value.problems] == [
        "does not exist",
        "is empty",
    ]


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no u.data or ml-100k.inter in it. It holds: notes.txt"):
        read_100k(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: does not exist"):
        read_1m(tmp_path / "nowhere")


def test_1m_official(tmp_path: Path) -> None:
    ml1m_official(tmp_path)
    dataset = read_1m(tmp_path)
    assert dataset.items.to_pydict() == {
        "id": ["11", "12", "13", "14"],
        "title": [
            "Toy Story (1995)",
            "Misérables, Les (1995)",
            "Star Wars: Episode IV (1977)",
            "Fargo (1996)",
        ],
        "categories": [["Animation", "Comedy"], ["Drama"], ["Sci-Fi"], ["Crime"]],
        "release_year": [1995, 1995, 1977, 1996],
    }
    assert dataset.users.slice(0, 1).to_pylist() == [
        {"id": "1", "gender": "F", "age": 1, "occupation": "10", "zip_code": "48067"}
    ]
    assert read_1m(tmp_path, keep_unseen_items=True).n_items == 5


def test_1m_plots_and_posters_are_joined_by_movie(tmp_path: Path) -> None:
    ml1m_official(tmp_path)
    (tmp_path / "dbpedia_abstracts.json").write_text(json.dumps({"12": "A plot.", "99": "?"}))
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "13.jpg").write_bytes(b"x")
    dataset = read_1m(tmp_path)
    assert dataset.items["text"].to_pylist() == [None, "A plot.", None, None]
    poster = str(tmp_path.resolve() / "posters" / "13.jpg")
    assert dataset.items["image"].to_pylist() == [None, None, poster, None]
    reader = MovieLens1M(MovieLens1MConfig(path=str(tmp_path)))
    assert Path(poster) in reader.files(ReaderContext())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"1": 2}', r"abstracts.json: 1: is a int, not text"),
        ('["a"]', "is not an object from MovieID to text"),
        ('{\n"1": "cut', "abstracts.json:2: is not JSON"),
    ],
)
def test_1m_bad_plots(tmp_path: Path, text: str, message: str) -> None:
    ml1m_official(tmp_path)
    (tmp_path / "dbpedia_abstracts.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_1m(tmp_path)


def write_sequences(path: Path, **changes: list[object]) -> None:
    columns: dict[str, object] = {
        "user_id": [2, 1, 1, 2, 1],
        "movie_id": [11, 12, 11, 13, 13],
        "position": [1, 2, 1, 0, 0],
        "rating_or_0": [0, 4, 0, 5, 4],
        "timestamp_or_0": [0, START, 0, START + 9, START - 9],
    }
    pq.write_table(pa.table({**columns, **changes}), path / "ml1m_sequences.parquet")


def test_1m_sequences_are_read_in_their_order(tmp_path: Path) -> None:
    write_sequences(tmp_path)
    dataset = read_1m(tmp_path)
    assert dataset.interactions.timestamps is None
    assert dataset.interactions.ratings is None
    named = {
        dataset.users["id"][user].as_py(): [dataset.items["id"][int(i)].as_py() for i in items]
        for user, items in enumerate(dataset.interactions.histories())
    }
    assert named == {"1": ["13", "11", "12"], "2": ["13", "11"]}


def test_1m_timed_only_reads_the_rated_rows(tmp_path: Path) -> None:
    write_sequences(tmp_path)
    dataset = read_1m(tmp_path, timed_only=True)
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.ratings is not None
    assert sorted(dataset.interactions.timestamps) == [START - 9, START, START + 9]
    assert sorted(dataset.interactions.ratings) == [4, 4, 5]
    write_sequences(tmp_path, timestamp_or_0=[0] * 5)
    with pytest.raises(DataError, match="has no row with a time"):
        read_1m(tmp_path, timed_only=True)
    assert "over-represented" in (MovieLens1MConfig.model_fields["timed_only"].description or "")


def test_1m_bad_sequences(tmp_path: Path) -> None:
    write_sequences(tmp_path, user_id=[1, None, 1, 2, 2], timestamp_or_0=[0, 1, -3, 4, 5])
    with pytest.raises(DataError) as caught:
        read_1m(tmp_path)
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        ("row 2: user_id", "is empty"),
        ("row 3: timestamp_or_0", "-3 is negative; times are counted from 1970"),
    ]
    write_sequences(tmp_path)
    path = tmp_path / "ml1m_sequences.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        read_1m(tmp_path)


def test_100k_real(ml100k: Path, real_data: Path) -> None:
    dataset = read_100k(ml100k)
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (943, 1682, 100_000)
    assert dataset.items.num_rows == 1682
    assert dataset.items["title"].null_count == 0
    titles = set(dataset.items["title"].to_pylist())
    assert {"Toy Story (1995)", "unknown", "Misérables, Les (1995)"} <= titles
    named: set[str] = set()
    for path in (real_data / "tallrec-movie").glob("*.json"):
        for prompt in json.loads(path.read_text()):
            named.update(re.findall(r'"(.*?)"', prompt["input"]))
    assert len(named) == 771
    assert named <= titles, "titles are those of TALLRec's stored prompts"


@pytest.fixture
def ml100k() -> Path:
    """The data set as it was fetched into the cache; the test is skipped if it was not."""
    assert dynmm_registry.__file__ is not None
    registry = Registry.load([Path(dynmm_registry.__file__).parent])
    folder = Fetcher(default_cache()).folder(registry.find_files("movielens_100k"))
    if folder is None:
        pytest.skip("MovieLens-100K is not in the cache; run: dynmm data fetch movielens_100k")
    return folder


def test_1m_real(real_data: Path) -> None:
    dataset = read_1m(real_data / "ml-1m")
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (6040, 3416, 999_611)
    present = {name: 3416 - dataset.items[name].null_count for name in dataset.items.column_names}
    assert present["title"] == present["categories"] == 3416
    assert present["image"] == 3256
    assert present["text"] == 3060
    assert dataset.users["gender"].null_count == 0
    timed = read_1m(real_data / "ml-1m", timed_only=True)
    assert len(timed.interactions) == 569_023


@pytest.mark.slow
def test_1m_official_of_full_size_is_read_in_seconds(real_data: Path, tmp_path: Path) -> None:
    source = pq.read_table(real_data / "ml-1m" / "ml1m_sequences.parquet")
    users, movies, positions = (
        source[name].to_numpy().astype(np.int64) for name in ("user_id", "movie_id", "position")
    )
    times = START + positions
    lines = np.char.add(users.astype(str), "::")
    for column in (movies, 1 + positions % 5):
        lines = np.char.add(np.char.add(lines, column.astype(str)), "::")
    lines = np.char.add(lines, times.astype(str))
    (tmp_path / "ratings.dat").write_text("\n".join(lines.tolist()) + "\n")
    for name in ("movies.dat", "users.dat"):
        (tmp_path / name).write_bytes((real_data / "ml-1m" / name).read_bytes())
    start = time.perf_counter()
    dataset = read_1m(tmp_path)
    seconds = time.perf_counter() - start
    assert len(dataset.interactions) == 999_611
    assert seconds < 5
