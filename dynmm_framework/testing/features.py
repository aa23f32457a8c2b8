"""Features of the generated items, for components that learn from content."""

from __future__ import annotations

import numpy as np

from dynmm_framework.data.features import Features
from dynmm_framework.testing.generated import GENRES


def item_features(n_items: int) -> dict[str, Features]:
    """Returns features of the generated items: their genre, twice.

    As ``text`` every item has it, as ``vision`` it is noisier and four items of five have it. The
    same number of items gives the same features.

    Args:
        n_items: Number of items, numbered as in the generated dataset.
    """
    rng = np.random.default_rng(0)
    n_genres = len(GENRES)
    genre = np.eye(n_genres, 16, dtype=np.float32)[np.arange(n_items) % n_genres]
    text = genre + rng.normal(0, 0.2, (n_items, 16)).astype(np.float32)
    image = genre @ rng.normal(size=(16, 9)) + rng.normal(0, 0.4, (n_items, 9))
    some = rng.random(n_items) < 0.8
    return {
        "text": Features(text, np.ones(n_items, np.bool_)),
        "vision": Features(np.where(some[:, None], image, 0).astype(np.float32), some),
    }
