"""Reviews of the generated items, for components that learn from what users write."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from dynmm_framework.data.tables import Interactions, TrainingData
from dynmm_framework.specs import Component
from dynmm_framework.testing.generated import GENRES, WORDS

LIKED = 3
"""Least rating that comes with praise."""
SILENT = 0.1
"""Share of the interactions without a review."""


def written_reviews(train: Interactions) -> pa.LargeStringArray:
    """Returns what users write of the generated items: their genre's words, praised or not.

    Args:
        train: Interactions with the generated items, numbered as in the generated dataset. The
            same ones get the same reviews.
    """
    rng = np.random.default_rng(0)
    ratings = np.full(len(train), LIKED) if train.ratings is None else train.ratings
    texts: list[str | None] = []
    for item, rating in zip(train.items.tolist(), ratings.tolist(), strict=True):
        words = rng.choice(WORDS[GENRES[item % len(GENRES)]].split(), 2, replace=False)
        opinion = "wonderful and moving" if rating >= LIKED else "dull and far too long"
        text = f"All about {words[0]} and {words[1]}. It was {opinion} from the first to the last."
        texts.append(None if rng.random() < SILENT else text)
    return pa.array(texts, pa.large_string())


def with_reviews(data: TrainingData, component: Component) -> TrainingData:
    """Returns training data with reviews, if a component says that it needs them."""
    if "reviews" not in component.spec.needs:
        return data
    return replace(data, train=replace(data.train, reviews=written_reviews(data.train)))
