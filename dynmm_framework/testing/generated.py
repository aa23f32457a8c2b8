"""A small multimodal dataset made from a seed: no download, the same on every machine.

Items belong to genres that show in their title, their text, the colour of their image and the
pitch of their sound. Users prefer some genres, half of their steps go to the item that follows
the last one within its genre, and at a known point in time every user's taste moves on. So
popularity, personal taste, order and content all carry signal that a model can find.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pyarrow as pa

from dynmm_framework.data.tables import Dataset

GENRES = ("space", "ocean", "desert", "forest", "city", "mountain")
WORDS = {
    "space": "stars orbit rocket gravity planet",
    "ocean": "waves reef sailor tide island",
    "desert": "dunes caravan oasis heat mirage",
    "forest": "trees owl moss river fox",
    "city": "streets neon crowd tram market",
    "mountain": "peak snow rope glacier eagle",
}
START = 1_600_000_000
"""Unix second of the first possible interaction."""
SPAN = 90 * 24 * 3600
"""Seconds from the first to the last possible interaction."""
DRIFT_AT = 0.7
"""Share of the time span after which tastes have moved on."""


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
        folder: Where to write images (PNG) and sounds (WAV); without it those columns are null.
        n_users: Number of users.
        n_items: Number of items; the last two never have interactions.
        interactions_per_user: Fewest and most interactions of a user.
        missing: Share of items that lack a given modality.
        seed: Seed of everything.

    Returns:
        A dataset with timestamps, ratings, titles, texts, categories, images and audio.
    """
    rng = np.random.default_rng(seed)
    genre = np.arange(n_items) % len(GENRES)
    popularity = (1.0 + np.arange(n_items)) ** -0.7
    popularity[-2:] = 0
    users, items, times = [], [], []
    for user in range(n_users):
        length = int(rng.integers(interactions_per_user[0], interactions_per_user[1] + 1))
        when = np.sort(rng.integers(0, SPAN, length))
        tastes = [rng.dirichlet(np.full(len(GENRES), 0.35)) for _ in range(2)]
        seen: list[int] = []
        for moment in when:
            taste = tastes[int(moment > DRIFT_AT * SPAN)]
            following = seen[-1] + len(GENRES) if seen else n_items
            fresh = np.ones(n_items, dtype=bool)
            fresh[seen] = False
            if following < n_items - 2 and fresh[following] and rng.random() < 0.5:
                item = following
            else:
                weights = popularity * (taste[genre] + 0.02) * fresh
                item = int(rng.choice(n_items, p=weights / weights.sum()))
            seen.append(item)
        users += [user] * length
        items += seen
        times += list(START + when)
    interactions = pa.table(
        {
            "user": [f"u{user}" for user in users],
            "item": [f"i{item}" for item in items],
            "timestamp": pa.array(times, pa.int64()),
            "rating": pa.array(rng.integers(1, 6, len(users)), pa.float32()),
        }
    )
    return Dataset.from_arrow(
        interactions, name="generated", items=_items(folder, n_items, genre, missing, rng)
    )


def _items(
    folder: Path | None,
    n_items: int,
    genre: np.ndarray[tuple[int], np.dtype[np.int64]],
    missing: float,
    rng: np.random.Generator,
) -> pa.Table:
    names = [GENRES[g] for g in genre]
    present = rng.random((3, n_items)) >= missing
    texts = [
        " ".join(rng.choice(WORDS[name].split(), 6)) if has else None
        for name, has in zip(names, present[0], strict=True)
    ]
    images: list[str | None] = [None] * n_items
    sounds: list[str | None] = [None] * n_items
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for item in range(n_items):
            if present[1, item]:
                images[item] = str(folder / f"{item}.png")
                _write_image(folder / f"{item}.png", int(genre[item]), rng)
            if present[2, item]:
                sounds[item] = str(folder / f"{item}.wav")
                _write_sound(folder / f"{item}.wav", int(genre[item]), rng)
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


def _write_image(path: Path, genre: int, rng: np.random.Generator) -> None:
    from PIL import Image

    colour = np.array([(genre * 40) % 256, (genre * 90) % 256, 255 - genre * 40])
    pixels = np.clip(colour + rng.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def _write_sound(path: Path, genre: int, rng: np.random.Generator) -> None:
    rate = 16_000
    seconds = np.arange(rate // 4) / rate
    tone = np.sin(2 * np.pi * 220 * (1 + genre) * seconds) + rng.normal(0, 0.05, len(seconds))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone / 2 * 32767).clip(-32768, 32767).astype("<i2").tobytes())
