"""Settings of GRU4Rec."""

from __future__ import annotations

from typing import Annotated, Literal

from dynmm_framework.training.config import LoopConfig
from pydantic import Field


class GRU4RecConfig(LoopConfig):
    """Settings of GRU4Rec, and those of the training loop, which it inherits."""

    hidden_size: Annotated[int, Field(ge=1)] = 64
    """Width of item vectors and of the recurrent state (paper: 100 and 1,000)."""
    layers: Annotated[int, Field(ge=1)] = 1
    """Recurrent layers (paper: 1)."""
    max_length: Annotated[int, Field(ge=1)] = 50
    """Newest items of a history that the model sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout of item vectors on input and of the state on output."""
    init_std: Annotated[float, Field(gt=0)] = 0.05
    """Standard deviation of initial item vectors."""
    loss: Literal["bce", "ce", "sampled_softmax"] = "ce"
    """``ce`` is the cross-entropy over the whole catalogue, ``sampled_softmax`` over negatives
    shared by the batch (paper: the other items of the batch), ``bce`` tells the next item from
    negatives of its own."""
    n_negatives: Annotated[int, Field(ge=1)] | None = None
    """Negatives of each target for ``bce`` (default: 1), of each batch for ``sampled_softmax``
    (default: 512)."""
    windows: Literal["last", "all"] = "last"
    """Train on the newest ``max_length`` targets of a history, or on all of it, cut into
    windows."""
