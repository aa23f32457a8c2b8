"""Settings of S3-Rec."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dynmm_framework.config.blocks import Block
from dynmm_framework.training.config import LoopConfig

Probability = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class PretrainingConfig(Block):
    """Settings of the first phase, which nothing validates: it trains all of its epochs."""

    epochs: Annotated[int, Field(ge=0)] = 100
    """Passes over the prefixes (paper: 100); 0 leaves pre-training out."""
    batch_size: Annotated[int, Field(ge=1)] = 200
    """Prefixes in one step (paper: 200)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Step size of the optimiser (paper: 0.001)."""
    prefixes: Literal["all", "one"] = "all"
    """What an epoch reads: ``all`` prefixes of every training sequence (the authors' code), or
    ``one`` prefix of each, drawn anew in every epoch, which takes a fraction of the time."""
    mask_probability: Probability = 0.2
    """Share of items that are masked, besides the newest, which always is (paper: 0.2)."""
    attributes: str = "categories"
    """Column of the item table with each item's list of attributes; items without any take no
    part in AAP and MAP."""
    aap_weight: Weight = 0.2
    """Weight of associated attribute prediction, from the item itself (paper: 0.2)."""
    mip_weight: Weight = 1.0
    """Weight of masked item prediction (paper: 1.0)."""
    map_weight: Weight = 1.0
    """Weight of masked attribute prediction, from the item's surroundings (paper: 1.0)."""
    sp_weight: Weight = 0.5
    """Weight of segment prediction (paper: 0.5)."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> PretrainingConfig:
        weights = (self.aap_weight, self.mip_weight, self.map_weight, self.sp_weight)
        if self.epochs and not any(weights):
            raise ValueError("all four weights are 0; set epochs to 0 to leave pre-training out")
        return self


class S3RecConfig(LoopConfig):
    """Settings of S3-Rec; those of the loop are fine-tuning's."""

    changeable = frozenset()

    pretraining: PretrainingConfig = PretrainingConfig()
    """The first phase."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """User sequences in one step of fine-tuning (paper: 256)."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Fine-tuning: decay of an exponential moving average of the weights, one update a step; the
    averaged weights are validated and kept. 0 keeps the weights themselves (paper)."""
    hidden_size: Annotated[int, Field(ge=1)] = 64
    """Width of item vectors and of the network (paper: 64)."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Self-attention blocks (paper: 2)."""
    heads: Annotated[int, Field(ge=1)] = 2
    """Attention heads of a block; divides ``hidden_size`` (paper: 2)."""
    feed_forward_size: Annotated[int, Field(ge=1)] = 256
    """Inner width of the feed-forward part (paper: four times ``hidden_size``)."""
    max_length: Annotated[int, Field(ge=1)] = 50
    """Newest items of a history that the model sees (paper: 50)."""
    dropout: Probability = 0.5
    """Dropout of embeddings and of both outputs in a block, in both phases (paper: 0.5)."""
    attention_dropout: Probability = 0.5
    """Dropout of attention weights, in both phases (paper: 0.5)."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the initial weights (paper: 0.02)."""
    loss: Literal["bce", "ce"] = "bce"
    """Fine-tuning: ``bce`` tells the next item from one sampled negative (paper), ``ce`` is the
    cross-entropy over the whole catalogue."""

    def divided(self, workers: int) -> Self:
        share = -(-self.pretraining.batch_size // workers)
        pretraining = self.pretraining.model_copy(update={"batch_size": share})
        return super().divided(workers).model_copy(update={"pretraining": pretraining})

    @model_validator(mode="after")
    def _heads_divide_width(self) -> S3RecConfig:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"heads ({self.heads}) must divide hidden_size ({self.hidden_size}) without rest"
            )
        return self
