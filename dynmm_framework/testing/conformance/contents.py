"""Generated and odd contents for the tests of encoders, and what is looked at around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Dataset
from dynmm_framework.features.media import Sound, load_image, load_sound
from dynmm_framework.testing.contexts import RecordingContext


def contents(dataset: Dataset, modality: str) -> list[tuple[int, Any]]:
    """Returns the content of every item that has one in a modality, with the item's row."""
    column = dataset.items[modality].to_pylist()
    loaders: Mapping[str, Callable[[str], Any]] = {"image": load_image, "audio": load_sound}
    load = loaders.get(modality, str)
    return [(row, load(value)) for row, value in enumerate(column) if value is not None]


def ready(encoder: Any, ctx: RecordingContext, inputs: Sequence[Any]) -> Any:
    """Loads an encoder, and fits it if it has to see its inputs first."""
    encoder.load(ctx)
    if hasattr(encoder, "fit"):
        encoder.fit([encoder.prepare(value) for value in inputs], ctx)
    return encoder


def encode(encoder: Any, values: Sequence[Any]) -> NDArray[np.float32]:
    """Prepares and encodes inputs as one batch."""
    vectors: NDArray[np.float32] = encoder.encode([encoder.prepare(value) for value in values])
    return vectors


def mixed_lengths(inputs: Sequence[Any]) -> list[Any]:
    """Returns a few inputs of different lengths, where the modality has lengths."""
    few = list(inputs[:6])
    if isinstance(few[0], str):
        return [" ".join(few[: 1 + number]) for number in range(len(few))]
    if isinstance(few[0], Sound):
        return [
            Sound(sound.samples[:, : sound.samples.shape[1] * (2 + number) // 7], sound.rate)
            for number, sound in enumerate(few)
        ]
    return few


def odd_inputs(modality: str) -> Mapping[str, Any]:
    """Returns inputs that real catalogues hold, by what is odd about them."""
    rng = np.random.default_rng(0)
    if modality == "text":
        return {
            "an empty text": "",
            "a text of white space": " \n\t ",
            "a very long text": "river " * 5_000,
            "one very long word": "x" * 20_000,
            "a text without words": "… !!! 🎬🎵 \u200b\ufffd",
            "a text in another script": "七人の侍 Семь самураев",
            "a null character": "a\x00b",
        }
    if modality == "image":
        from PIL import Image

        noise = rng.integers(0, 256, (500, 8, 3), dtype=np.uint8)
        return {
            "a tiny image": Image.new("RGB", (8, 8), (200, 30, 30)),
            "a tall strip": Image.fromarray(noise),
            "a wide strip": Image.fromarray(np.ascontiguousarray(noise.transpose(1, 0, 2))),
            "a large image": Image.new("RGB", (2000, 1500)),
            "a white image": Image.new("RGB", (64, 64), (255, 255, 255)),
        }
    tone = np.sin(np.arange(20_000) / 7).astype(np.float32)
    return {
        "silence": Sound(np.zeros((1, 16_000), np.float32), 16_000),
        "one sample": Sound(np.ones((1, 1), np.float32), 16_000),
        "a click": Sound(tone[None, :50], 16_000),
        "stereo at 44.1 kHz": Sound(np.stack([tone, -tone[::-1]]), 44_100),
        "eight channels at 8 kHz": Sound(np.tile(tone[:8_000], (8, 1)), 8_000),
        "an odd sample rate": Sound(tone[None], 22_051),
        "a constant": Sound(np.full((1, 16_000), 0.5, np.float32), 16_000),
        "samples beyond 1": Sound(50 * tone[None], 48_000),
    }


def snapshot(value: Any) -> NDArray[Any]:
    """Returns a copy of an input's content."""
    return np.array(value.samples if isinstance(value, Sound) else value)


def global_state() -> dict[str, Any]:
    """Returns what a component could change for all others."""
    import torch

    return {
        "random": random.getstate(),
        "numpy.random": str(np.random.get_state()),  # noqa: NPY002
        "torch's random numbers": torch.get_rng_state().numpy().tobytes(),
        "torch.get_default_dtype": torch.get_default_dtype(),
        "torch.is_grad_enabled": torch.is_grad_enabled(),
        "torch.get_num_threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 precision": torch.get_float32_matmul_precision(),
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
    }


def same_neighbour(vectors: NDArray[np.float64], genres: NDArray[Any]) -> float:
    """Returns the share of rows whose nearest other row by cosine is of the same genre."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, 1e-12)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return float((genres[similarity.argmax(axis=1)] == genres).mean())


def same_genre(genres: NDArray[Any]) -> float:
    """Returns the share of pairs of different rows that are of the same genre."""
    same = genres[:, None] == genres[None, :]
    n = len(genres)
    return float((same.sum() - n) / (n * (n - 1)))
