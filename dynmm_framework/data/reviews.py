"""What components need of reviews."""

from __future__ import annotations

import pyarrow as pa

from dynmm_framework.data.tables import Interactions
from dynmm_framework.errors import StageError


def require_reviews(train: Interactions, *, owner: str) -> pa.LargeStringArray:
    """Returns the texts of training interactions, null where a user wrote nothing.

    Args:
        train: Training interactions.
        owner: Name of the component, for errors.

    Raises:
        StageError: If the data has no reviews, or all are empty.
    """
    hint = (
        "Set data.config.reviews: true (amazon_reviews), or give your data a column review; a "
        "split given by files has no reviews."
    )
    if train.reviews is None:
        raise StageError(f"{owner} reads reviews, and the data was read without them", hint=hint)
    if train.reviews.null_count == len(train.reviews):
        raise StageError(f"{owner} reads reviews, and no training interaction has one", hint=hint)
    return train.reviews
