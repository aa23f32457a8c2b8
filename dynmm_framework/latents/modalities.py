"""What recommenders that learn from items' features need of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dynmm_framework.data.features import Features
from dynmm_framework.errors import StageError
from dynmm_framework.latents.inputs import Standardiser
from dynmm_framework.protocols import FloatArray


def require_features(
    features: Mapping[str, Features], *, owner: str, n_items: int
) -> dict[str, Features]:
    """Returns features that can be learned from, by modality in alphabetical order.

    Args:
        features: Features by modality.
        owner: Name of the component, for errors.
        n_items: Number of items of the catalogue.

    Raises:
        StageError: If there is none, if no item has a modality, or if a modality is that of
            another number of items; names all of them.
    """
    if not features:
        raise StageError(
            f"{owner} learns from items' content, and there are no features",
            hint="Add encoders to the pipeline, such as encoders: {text: tfidf_text}.",
        )
    problems, advice = [], []
    for name, found in sorted(features.items()):
        if len(found.present) != n_items:
            problems.append(f"{name} has {len(found.present):,} rows for {n_items:,} items")
            advice.append("Encode the items of the same split.")
        elif not found.present.any():
            problems.append(f"no item has the modality {name!r}")
            advice.append(f"Remove encoders.{name}, or check the column and the media it reads.")
    if problems:
        raise StageError(
            f"{owner} cannot learn from content: {'; '.join(problems)}",
            hint=" ".join(dict.fromkeys(advice)),
        )
    return dict(sorted(features.items()))


def content_rows(features: Features) -> FloatArray:
    """Returns features standardised for learning, ``(n_items, dim)`` float32.

    Every column has mean 0 and, unless it is constant, one variance over the items that have the
    modality, so that their rows have length 1 on average, whatever the encoder. A row of zeros,
    which an item without the modality gets, is then what is known of nothing: their mean.
    """
    name = "content"
    rows = Standardiser.fit({name: features}).apply(name, features)
    scaled: FloatArray = (rows / np.sqrt(np.float32(features.dim))).astype(np.float32)
    return scaled
