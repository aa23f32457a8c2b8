"""Settings of reviews as evidence."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block
from dynmm_framework.config.parts import RecommenderRef


class ReviewUsefulnessConfig(Block):
    """Settings of reviews as evidence."""

    k: Annotated[int, Field(ge=1)] = 1
    """Most reviews of a candidate."""
    model: RecommenderRef = RecommenderRef(name="narre")
    """The recommender whose attention weighs reviews, trained here: one with a method
    ``review_weights()``.
    """
    least_rating: float | None = 4.0
    """Least rating that came with a review for it to be quoted: evidence is for an item. Null
    quotes reviews whatever their rating; data without ratings has no such limit.
    """
    reviews: Annotated[int, Field(ge=1)] = 5
    """Most reviews kept of an item."""
    length: Annotated[int, Field(ge=40)] = 200
    """Most characters of a quotation: the first sentences that fit."""
