"""Settings of LightGCN."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class LightGCNConfig(LoopConfig):
    """Settings of LightGCN. The defaults are the authors', early stopping excepted."""

    changeable = CHANGEABLE | {"regularisation"}

    dim: Annotated[int, Field(ge=1)] = 64
    """Width of the embeddings; 64 in the paper."""
    layers: Annotated[int, Field(ge=1)] = 3
    """Propagation steps K; the paper tries 1 to 4 and its authors' code uses 3."""
    regularisation: Annotated[float, Field(ge=0)] = 1e-4
    """Weight of the squared norm of the layer-0 embeddings of a batch; 1e-4 in the paper."""
    init_std: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the initial embeddings; 0.1 in the authors' code."""
    epochs: Annotated[int, Field(ge=1)] = 1000
    """Most passes; in each, as many triples are drawn as there are interactions. 1000 in the
    paper.
    """
    batch_size: Annotated[int, Field(ge=1)] = 2048
    """Triples (user, positive, negative) in one step; 2048 in the authors' code."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 is off, as in the paper."""
    validate_every: Annotated[int, Field(ge=1)] = 5
    """Epochs between validations; an epoch moves the embeddings little."""
