"""Settings of MMGCN."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class MMGCNConfig(LoopConfig):
    """Settings of MMGCN. The defaults are the authors', early stopping excepted."""

    changeable = CHANGEABLE | {"regularisation"}

    dim: Annotated[int, Field(ge=1)] = 64
    """Width of the id vectors and of all layers; 64 in the paper."""
    feature_dim: Annotated[int, Field(ge=1)] = 64
    """Width of the users' preferences and the items' features in each modality; 64 in the authors'
    example."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Convolutions of each modality; 2 in the paper."""
    regularisation: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the mean square of the batch's id vectors and of all preferences; 0.1 in the
    authors' example."""
    epochs: Annotated[int, Field(ge=1)] = 1000
    """Most passes; in each, as many triples are drawn as there are interactions."""
    batch_size: Annotated[int, Field(ge=1)] = 1024
    """Triples (user, positive, negative) in one step; 1024 in the authors' example."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """Step size; 5e-4 in the authors' example."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 is off, as in the paper."""
