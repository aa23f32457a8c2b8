"""Seeds by name: what a stage draws depends on the root seed and the stage's name alone."""

from __future__ import annotations

import hashlib

import numpy as np


def _words(name: str) -> list[int]:
    digest = hashlib.sha256(name.encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4)]


def spawn_seed(root: int, name: str) -> int:
    """Returns a 32-bit seed for ``name``; adding or removing other stages never changes it."""
    return int(np.random.SeedSequence([root, *_words(name)]).generate_state(1)[0])


def spawn_rng(root: int, name: str) -> np.random.Generator:
    """Returns a generator for ``name``."""
    return np.random.default_rng(np.random.SeedSequence([root, *_words(name)]))
