from __future__ import annotations

import hashlib
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dynmm_framework.data.tables import Dataset
from dynmm_framework.testing.generated import (
    DRIFT_AT,
    GENRES,
    IMAGE_SIZE,
    SAMPLE_RATE,
    SPAN,
    START,
    UNUSED,
    WORDS,
    generate_dataset,
)

PINNED = {
    "interactions": "53fa76b987e73294",
    "texts": "08b2c99f6eb0916c",
    "images": "fe9974c1bb4ce7cb",
    "sounds": "d9264a35aa7732b2",
}
"""Changing the data changes the expected ranges of every plugin's tests, here and elsewhere."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated") / "media"


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return generate_dataset(folder)


def read_image(path: str) -> NDArray[np.uint8]:
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as opened:
        opened.verify()
    with image.open(path) as opened:
        assert (opened.format, opened.mode) == ("PNG", "RGB")
        return np.asarray(opened)


def read_sound(path: str) -> NDArray[np.int16]:
    with wave.open(path) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getframerate() == SAMPLE_RATE
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def digest(*arrays: NDArray[np.generic]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def contents(dataset: Dataset) -> dict[str, str]:
    rows, items = dataset.interactions, dataset.items
    assert rows.timestamps is not None
    assert rows.ratings is not None
    text = "\n".join(map(str, items.select(["id", "title", "text", "categories"]).to_pylist()))
    images = [read_image(path) for path in items["image"].to_pylist() if path]
    sounds = [read_sound(path) for path in items["audio"].to_pylist() if path]
    return {
        "interactions": digest(rows.users, rows.items, rows.timestamps, rows.ratings),
        "texts": hashlib.sha256(text.encode()).hexdigest()[:16],
        "images": digest(*images),
        "sounds": digest(*sounds),
    }


def test_content_is_pinned(dataset: Dataset) -> None:
    assert contents(dataset) == PINNED


def test_the_seed_decides_everything(dataset: Dataset, tmp_path: Path) -> None:
    assert contents(generate_dataset(tmp_path / "same")) == contents(dataset)
    other = contents(generate_dataset(tmp_path / "other", seed=1))
    assert all(other[part] != value for part, value in contents(dataset).items())


def test_without_a_folder_only_the_media_are_missing(dataset: Dataset) -> None:
    bare = generate_dataset()
    assert bare.items["image"].null_count == bare.items["audio"].null_count == bare.n_items
    assert bare.items.drop_columns(["image", "audio"]) == (
        dataset.items.drop_columns(["image", "audio"])
    )
    np.testing.assert_array_equal(bare.interactions.items, dataset.interactions.items)
    assert bare.items.schema == dataset.items.schema


def test_items_do_not_depend_on_the_number_of_users(dataset: Dataset) -> None:
    assert generate_dataset(n_users=5).items["text"] == dataset.items["text"]


def test_it_takes_less_than_two_seconds_and_no_imaging_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    started = time.process_time()
    generate_dataset(tmp_path)
    assert time.process_time() - started < 2


def test_columns_are_those_of_a_dataset(dataset: Dataset, folder: Path) -> None:
    assert (dataset.name, dataset.n_users, dataset.n_items) == ("generated", 150, 90)
    assert dataset.items.schema.field("categories").type == pa.list_(pa.string())
    assert dataset.users["id"].to_pylist()[:2] == ["u0", "u1"]
    rows = dataset.interactions
    assert rows.timestamps is not None
    assert rows.timestamps.min() >= START
    assert rows.timestamps.max() < START + SPAN
    assert set(np.unique(rows.ratings)) == {1, 2, 3, 4, 5}
    keys = rows.users.astype(np.int64) * dataset.n_items + rows.items
    assert len(np.unique(keys)) == len(rows)
    lengths = rows.histories().lengths
    assert (lengths.min(), lengths.max()) == (8, 30)
    assert (rows.item_counts()[-UNUSED:] == 0).all()
    assert (rows.item_counts()[:-UNUSED] > 0).all()
    assert {path.suffix for path in folder.iterdir()} == {".png", ".wav"}


def test_each_modality_is_missing_for_some_items(dataset: Dataset, folder: Path) -> None:
    for column in ("text", "image", "audio"):
        assert 5 <= dataset.items[column].null_count <= 25
    assert generate_dataset(missing=0).items["text"].null_count == 0
    assert generate_dataset(missing=1).items["text"].null_count == 90
    kept = {path for column in ("image", "audio") for path in dataset.items[column].to_pylist()}
    assert kept - {None} == {str(path) for path in folder.iterdir()}


def genres_of(dataset: Dataset) -> NDArray[np.int64]:
    names = [categories[0] for categories in dataset.items["categories"].to_pylist()]
    return np.array([GENRES.index(name) for name in names])


def nearest_centroid(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Accuracy on every second item, of centroids from the others."""
    train, test = slice(0, None, 2), slice(1, None, 2)
    groups = np.unique(labels[train])
    centroids = np.stack([features[train][labels[train] == g].mean(axis=0) for g in groups])
    distances = np.linalg.norm(features[test][:, None] - centroids, axis=2)
    return float((groups[distances.argmin(axis=1)] == labels[test]).mean())


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_content_tells_the_genre(dataset: Dataset, modality: str) -> None:
    values = dataset.items[modality].to_pylist()
    present = np.array([value is not None for value in values])
    labels = genres_of(dataset)[present]
    words = sorted(" ".join(WORDS.values()).split())
    features = []
    for value in filter(None, values):
        if modality == "text":
            features.append(np.array([value.split().count(word) for word in words], float))
        elif modality == "image":
            assert read_image(value).shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
            features.append(read_image(value).mean(axis=(0, 1)))
        else:
            assert len(read_sound(value)) == SAMPLE_RATE // 4
            features.append(np.abs(np.fft.rfft(read_sound(value))))
    order = np.random.default_rng(0).permutation(len(labels))
    assert nearest_centroid(np.stack(features)[order], labels[order]) > 0.95


def test_some_items_are_much_more_popular(dataset: Dataset) -> None:
    counts = np.sort(dataset.interactions.item_counts())[::-1]
    assert counts[:9].sum() > 2 * counts.sum() * 9 / 90
    first, last = np.split(dataset.interactions.item_counts()[:-UNUSED], 2)
    assert first.mean() > 1.5 * last.mean()


def test_steps_follow_an_order(dataset: Dataset) -> None:
    rows = dataset.interactions
    same_user = rows.users[1:] == rows.users[:-1]

    def share(items: NDArray[np.int32]) -> float:
        return float((items[1:] == items[:-1] + len(GENRES))[same_user].mean())

    rng = np.random.default_rng(0)
    shuffled = rows.items[np.lexsort([rng.random(len(rows)), rows.users])]
    assert share(rows.items) > 0.4
    assert share(shuffled) < 0.05


def profiles(dataset: Dataset, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Counts of genres of each user, ``(n_users, genres)``."""
    counts = np.zeros((dataset.n_users, len(GENRES)))
    genres = genres_of(dataset)[dataset.interactions.items[rows]]
    np.add.at(counts, (dataset.interactions.users[rows], genres), 1)
    return counts


def likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean cosine of users' profiles, those without either left out."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    both = norms > 0
    return float(((one * other).sum(axis=1)[both] / norms[both]).mean())


def test_users_have_tastes_that_move_on_at_a_known_time(dataset: Dataset) -> None:
    times = dataset.interactions.timestamps
    assert times is not None
    moved, middle = START + DRIFT_AT * SPAN, START + DRIFT_AT / 2 * SPAN
    before = profiles(dataset, times <= moved)
    after = profiles(dataset, times > moved)
    first = profiles(dataset, times <= middle)
    second = profiles(dataset, (times > middle) & (times <= moved))
    strangers = likeness(first, np.roll(second, 1, axis=0))
    assert likeness(first, second) > strangers + 0.1  # a taste of one's own
    assert likeness(first, second) > likeness(before, after) + 0.15  # which does not last
    assert abs(likeness(before, after) - likeness(before, np.roll(after, 1, axis=0))) < 0.05


def test_ratings_follow_taste(dataset: Dataset) -> None:
    rows = dataset.interactions
    assert rows.ratings is not None
    genres = genres_of(dataset)[rows.items]
    counts = profiles(dataset, np.ones(len(rows), np.bool_))
    favourite = counts.argmax(axis=1)[rows.users] == genres
    assert rows.ratings[favourite].mean() > rows.ratings[~favourite].mean() + 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_users": 0}, "n_users must be at least 1, not 0"),
        ({"n_items": 20}, r"at most n_items - 2 \(18\), not from 8 to 30"),
        ({"interactions_per_user": (5, 4)}, "not from 5 to 4"),
        ({"interactions_per_user": (0, 4)}, "rise from at least 1"),
        ({"missing": 1.5}, "missing must be a share from 0 to 1, not 1.5"),
    ],
)
def test_sizes_that_cannot_be_met_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_dataset(**settings)  # type: ignore[arg-type]


def test_other_sizes_work() -> None:
    small = generate_dataset(n_users=3, n_items=9, interactions_per_user=(7, 7))
    assert (small.n_users, small.n_items, len(small.interactions)) == (3, 9, 21)
