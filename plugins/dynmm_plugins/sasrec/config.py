"""Settings of SASRec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dynmm_framework.training.config import CHANGEABLE, LoopConfig

Probability = Annotated[float, Field(ge=0, lt=1)]


class SASRecConfig(LoopConfig):
    """Settings of SASRec; the defaults reproduce its published result on Amazon Beauty."""

    changeable = CHANGEABLE | {"attention_dropout", "dropout", "n_negatives"}

    batch_size: Annotated[int, Field(ge=1)] = 256
    """Training rows, that is user sequences, in one step (paper: 128)."""

    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of an exponential moving average of the weights, one update a step; the averaged
    weights are validated and kept. 0 keeps the weights themselves (paper)."""

    hidden_size: Annotated[int, Field(ge=1)] = 64
    """Width of item vectors and of the network (paper: 50)."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Self-attention blocks (paper: 2)."""
    heads: Annotated[int, Field(ge=1)] = 2
    """Attention heads of a block; divides ``hidden_size`` (paper: 1)."""
    feed_forward_size: Annotated[int, Field(ge=1)] = 256
    """Inner width of the feed-forward part (paper: ``hidden_size``)."""
    max_length: Annotated[int, Field(ge=1)] = 50
    """Newest items of a history that the model sees (paper: 50; 200 on MovieLens-1M)."""
    dropout: Probability = 0.5
    """Dropout of embeddings and of both outputs in a block (paper: 0.5; 0.2 on MovieLens-1M)."""
    attention_dropout: Probability = 0.5
    """Dropout of attention weights (paper: as ``dropout``)."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Activation of the feed-forward part (paper: relu)."""
    norm: Literal["original", "pre", "post"] = "post"
    """Where layers are normalised. ``original`` is the paper's code: the query alone is normalised
    and the residual is added to the normalised query. ``pre`` normalises the input of each part,
    ``post`` the sum after it and the embedding sum, as BERT does."""
    scale_embedding: bool = False
    """Multiply item vectors by the square root of ``hidden_size`` on input (paper: yes)."""
    initialisation: Literal["normal", "xavier"] = "normal"
    """``normal`` draws all weights from N(0, ``init_std``); ``xavier`` is Xavier-normal (paper)."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of ``normal``."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Adam's second coefficient (paper: 0.98)."""

    loss: Literal["bce", "ce", "sampled_softmax"] = "bce"
    """``bce`` tells the next item from sampled negatives (paper), ``ce`` is the cross-entropy over
    the whole catalogue, ``sampled_softmax`` over negatives shared by the batch."""
    n_negatives: Annotated[int, Field(ge=1)] | None = None
    """Negatives of each target for ``bce`` (paper and default: 1), of each batch for
    ``sampled_softmax`` (default: 512)."""
    windows: Literal["last", "all"] = "last"
    """Train on the newest ``max_length`` targets of a history (paper), or on all of it, cut into
    windows."""
    compile: bool = False
    """Compile the network with ``torch.compile``; worth its minute of start-up on a GPU."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> SASRecConfig:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"heads ({self.heads}) must divide hidden_size ({self.hidden_size}) without rest"
            )
        return self
