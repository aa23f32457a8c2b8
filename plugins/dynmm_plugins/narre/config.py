"""Settings of NARRE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class NARREConfig(LoopConfig):
    """Settings of NARRE."""

    changeable = CHANGEABLE | {"dropout", "regularisation"}

    objective: Literal["ranking", "rating"] = "ranking"
    """``ranking`` tells an item that a user chose from one that it did not (BPR); ``rating``
    predicts ratings by squared error, as in the paper, and then scores are ratings.
    """
    dim: Annotated[int, Field(ge=1)] = 32
    """Width of the factors of users and items, and of what their reviews add; 32 in the paper."""
    word_dim: Annotated[int, Field(ge=1)] = 50
    """Width of the words' vectors, which are learned from scratch; 300 pre-trained in the paper."""
    filters: Annotated[int, Field(ge=1)] = 50
    """Filters of the convolution over words; 100 in the paper."""
    window: Annotated[int, Field(ge=1)] = 3
    """Words that a filter sees; odd."""
    attention_dim: Annotated[int, Field(ge=1)] = 32
    """Width of the attention's hidden layer, and of the ids in it."""
    reviews: Annotated[int, Field(ge=1)] = 10
    """Most reviews of a user, and of an item: the newest."""
    words: Annotated[int, Field(ge=1)] = 60
    """Words of a review that are read, from its beginning."""
    vocabulary: Annotated[int, Field(ge=1)] = 20_000
    """Most frequent words that are known."""
    least_reviews: Annotated[int, Field(ge=1)] = 2
    """Reviews that a word must stand in to be known."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the numbers of pooled reviews, and of the factors' product, that are dropped; 0.5 in
    the paper.
    """
    regularisation: Annotated[float, Field(ge=0)] = 0.03
    """Weight of half the squared norm of a batch's factors."""
    init_std: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the initial factors."""
    epochs: Annotated[int, Field(ge=1)] = 100
    """Most passes over the training interactions."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Interactions in one step; about 100 in the paper."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    """Step size of the optimiser."""
