"""Settings of BPR-MF."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class BPRMFConfig(LoopConfig):
    """Settings of BPR-MF."""

    changeable = CHANGEABLE | {"regularisation"}

    dim: Annotated[int, Field(ge=1)] = 64
    """Width of the vectors, without the bias; the paper tries 8 to 128."""
    item_bias: bool = True
    """Whether items have a bias, which carries their popularity; the paper has none."""
    regularisation: Annotated[float, Field(ge=0)] = 1e-2
    """Weight of half the squared norm of a triple's vectors and biases."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """``adam`` follows the mean gradient of a batch; ``sgd``, the paper's, its sum, so that the
    step size does not depend on the batch size.
    """
    init_std: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the initial vectors; biases start at zero."""
    epochs: Annotated[int, Field(ge=1)] = 1000
    """Most passes over the training interactions."""
    batch_size: Annotated[int, Field(ge=1)] = 2048
    """Triples (user, positive, negative) in one step; 1 in the paper."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 is off, as in the paper."""
    validate_every: Annotated[int, Field(ge=1)] = 5
    """Epochs between validations; an epoch takes less time than a validation."""
