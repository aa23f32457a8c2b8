"""Settings of LATTICE."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class LATTICEConfig(LoopConfig):
    """Settings of LATTICE. The defaults are the authors', early stopping excepted."""

    changeable = CHANGEABLE | {"regularisation"}

    dim: Annotated[int, Field(ge=1)] = 64
    """Width of the embeddings; 64 in the paper."""
    feature_dim: Annotated[int, Field(ge=1)] = 64
    """Width of the projected features that the learned graph compares; 64 in the paper."""
    neighbours: Annotated[int, Field(ge=1)] = 10
    """Nearest items k that an item has in each modality, itself among them; 10 in the paper."""
    fixed_share: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share λ of the graph of the features as they are; the rest is that of the projected ones.
    0.9 in the authors' code."""
    item_layers: Annotated[int, Field(ge=1)] = 1
    """Propagation steps on the item graph; 1 in the paper."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Propagation steps on the user-item graph; 2 in the authors' code."""
    regularisation: Annotated[float, Field(ge=0)] = 1e-4
    """Weight of the squared norm of the layer-0 embeddings of a batch."""
    epochs: Annotated[int, Field(ge=1)] = 1000
    """Most passes; in each, as many triples are drawn as there are interactions. 1000 in the
    paper."""
    batch_size: Annotated[int, Field(ge=1)] = 1024
    """Triples (user, positive, negative) in one step; 1024 in the paper."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """Step size; 5e-4 in the authors' code."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 is off, as in the paper."""
    validate_every: Annotated[int, Field(ge=1)] = 5
    """Epochs between validations."""
