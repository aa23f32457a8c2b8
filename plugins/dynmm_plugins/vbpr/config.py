"""Settings of VBPR."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class VBPRConfig(LoopConfig):
    """Settings of VBPR."""

    changeable = CHANGEABLE | {"projection_regularisation", "regularisation"}

    dim: Annotated[int, Field(ge=1)] = 64
    """Width of the collaborative factors; 10 in the paper."""
    feature_dim: Annotated[int, Field(ge=1)] = 32
    """Width of the factors of each modality; 10 in the paper."""
    regularisation: Annotated[float, Field(ge=0)] = 1e-2
    """Weight of half the squared norm of a triple's factors and biases."""
    projection_regularisation: Annotated[float, Field(ge=0)] = 0.01
    """Weight of half the squared norm of the projections and biases of content; 0 in the paper.
    Adam moves them in every step, and without it they outrun the factors."""
    init_std: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the initial factors; biases start at zero."""
    epochs: Annotated[int, Field(ge=1)] = 1000
    """Most passes over the training interactions."""
    batch_size: Annotated[int, Field(ge=1)] = 2048
    """Triples (user, positive, negative) in one step; 1 in the paper."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 is off, as in the paper."""
    validate_every: Annotated[int, Field(ge=1)] = 5
    """Epochs between validations; an epoch takes less time than a validation."""
