"""A small multimodal dataset made from a seed: no download, the same on every machine.

Items belong to genres that show in their title, their text, the colour of their image and the
pitch of their sound. Users prefer some genres and rate them higher, half of their steps go to the
item that follows the last one within its genre, and at a known point in time every user's taste
moves on. So popularity, personal taste, order and content all carry signal that a model can find.
"""

from __future__ import annotations

import struct
import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.data.tables import Dataset

GENRES = ("space", "ocean", "desert", "forest", "city", "mountain")
"""Genre of item ``i`` is ``GENRES[i % 6]``; the item that follows it is ``i + 6``."""
WORDS = {
    "space": "stars orbit rocket gravity planet",
    "ocean": "waves reef sailor tide island",
    "desert": "dunes caravan oasis heat mirage",
    "forest": "trees owl moss river fox",
    "city": "streets neon crowd tram market",
    "mountain": "peak snow rope glacier eagle",
}
"""What the texts of a genre are made of."""
COLOURS = {
    "space": (40, 20, 120),
    "ocean": (30, 110, 220),
    "desert": (225, 180, 90),
    "forest": (40, 140, 50),
    "city": (150, 150, 150),
    "mountain": (235, 235, 245),
}
"""Mean red, green and blue of a genre's images."""
PITCHES = {name: 220 * (1 + number) for number, name in enumerate(GENRES)}
"""Frequency of a genre's sounds, in Hz."""
IMAGE_SIZE = 32
"""Width and height of an image, in pixels."""
SAMPLE_RATE = 16_000
"""Samples of a sound in a second; a sound lasts a quarter of one."""
START = 1_600_000_000
"""Unix second of the first possible interaction."""
SPAN = 90 * 24 * 3600
"""Seconds from the first to the last possible interaction."""
DRIFT_AT = 0.7
"""Share of the time span after which tastes have moved on."""
UNUSED = 2
"""Number of items, the last ones, that never have interactions."""


def generate_dataset(
    folder: Path | None = None,
    *,
    n_users: int = 150,
    n_items: int = 90,
    interactions_per_user: tuple[int, int] = (8, 30),
    missing: float = 0.15,
    seed: int = 0,
) -> Dataset:
    """Generates the dataset.

    Args:
        folder: Where to write images (PNG) and sounds (WAV), made if need be; without it those
            columns are null. It changes nothing else.
        n_users: Number of users.
        n_items: Number of items; the last two never have interactions.
        interactions_per_user: Fewest and most interactions of a user, each with another item.
        missing: Share of items that lack a given modality, from 0 to 1.
        seed: Seed of everything.

    Returns:
        A dataset with timestamps, ratings, titles, texts, categories, images and audio.

    Raises:
        ValueError: If the sizes cannot be met; says which.
    """
    fewest, most = interactions_per_user
    if n_users < 1:
        raise ValueError(f"n_users must be at least 1, not {n_users}")
    if not 1 <= fewest <= most <= n_items - UNUSED:
        raise ValueError(
            f"interactions_per_user must rise from at least 1 to at most n_items - {UNUSED}"
            f" ({n_items - UNUSED}), not from {fewest} to {most}"
        )
    if not 0 <= missing <= 1:
        raise ValueError(f"missing must be a share from 0 to 1, not {missing}")
    return Dataset.from_arrow(
        _interactions(n_users, n_items, fewest, most, np.random.default_rng(seed)),
        name="generated",
        # A stream of its own: items look the same whatever the number of users.
        items=_items(folder, n_items, missing, np.random.default_rng([seed, 1])),
    )


def _interactions(
    n_users: int, n_items: int, fewest: int, most: int, rng: np.random.Generator
) -> pa.Table:
    genre = np.arange(n_items) % len(GENRES)
    popularity = (1.0 + np.arange(n_items)) ** -0.7
    popularity[-UNUSED:] = 0
    users: list[int] = []
    items: list[int] = []
    times: list[int] = []
    liked: list[bool] = []
    for user in range(n_users):
        length = int(rng.integers(fewest, most + 1))
        when = np.sort(rng.integers(0, SPAN, length))
        tastes = [rng.dirichlet(np.full(len(GENRES), 0.35)) for _ in range(2)]
        seen: list[int] = []
        for moment in when:
            taste = tastes[int(moment > DRIFT_AT * SPAN)]
            following = seen[-1] + len(GENRES) if seen else n_items
            fresh = np.ones(n_items, dtype=bool)
            fresh[seen] = False
            if following < n_items - UNUSED and fresh[following] and rng.random() < 0.5:
                item = following
            else:
                weights = popularity * (taste[genre] + 0.02) * fresh
                item = int(rng.choice(n_items, p=weights / weights.sum()))
            seen.append(item)
            liked.append(bool(taste[genre[item]] > 1 / len(GENRES)))
        users += [user] * length
        items += seen
        times += list(START + when)
    ratings = np.where(liked, 4, 2) + rng.integers(-1, 2, len(users))
    return pa.table(
        {
            "user": [f"u{user}" for user in users],
            "item": [f"i{item}" for item in items],
            "timestamp": pa.array(times, pa.int64()),
            "rating": pa.array(ratings, pa.float32()),
        }
    )


def _items(folder: Path | None, n_items: int, missing: float, rng: np.random.Generator) -> pa.Table:
    names = [GENRES[item % len(GENRES)] for item in range(n_items)]
    present = rng.random((3, n_items)) >= missing
    texts = [
        " ".join(rng.choice(WORDS[name].split(), 6)) if has else None
        for name, has in zip(names, present[0], strict=True)
    ]
    images: list[str | None] = [None] * n_items
    sounds: list[str | None] = [None] * n_items
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for item, name in enumerate(names):
            if present[1, item]:
                images[item] = str(folder / f"{item}.png")
                noise = rng.integers(-40, 41, (IMAGE_SIZE, IMAGE_SIZE, 3))
                pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
                (folder / f"{item}.png").write_bytes(_png(pixels))
            if present[2, item]:
                sounds[item] = str(folder / f"{item}.wav")
                _write_sound(folder / f"{item}.wav", PITCHES[name], rng)
    return pa.table(
        {
            "id": [f"i{item}" for item in range(n_items)],
            "title": [f"{name.title()} {item}" for item, name in enumerate(names)],
            "text": pa.array(texts, pa.string()),
            "categories": [[name] for name in names],
            "image": pa.array(images, pa.string()),
            "audio": pa.array(sounds, pa.string()),
        }
    )


def _png(pixels: NDArray[Any]) -> bytes:
    """Returns an image ``(height, width, 3)`` uint8 as a PNG file.

    Written out here so that tests of models that see no image need no imaging library.
    """
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, red green blue
    lines = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # a zero: unfiltered line
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(lines.tobytes())),
            (b"IEND", b""),
        )
    )


def _write_sound(path: Path, pitch: int, rng: np.random.Generator) -> None:
    seconds = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    tone = np.rint(16_000 * np.sin(2 * np.pi * pitch * seconds)).astype(np.int64)
    samples = tone + rng.integers(-1600, 1601, len(seconds))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
