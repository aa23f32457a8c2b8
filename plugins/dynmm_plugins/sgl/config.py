"""Settings of SGL."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class SGLConfig(LoopConfig):
    """Settings of SGL with edge dropout. The defaults are the authors', early stopping excepted."""

    changeable = CHANGEABLE | {"edge_drop", "regularisation", "ssl_weight", "temperature"}

    dim: Annotated[int, Field(ge=1)] = 64
    """Width of the embeddings (paper: 64)."""
    layers: Annotated[int, Field(ge=1)] = 3
    """Propagation steps K (paper: 1 to 3; its authors' code: 3)."""
    edge_drop: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of edges that each view leaves out, drawn anew in every epoch (paper: 0.1)."""
    temperature: Annotated[float, Field(gt=0)] = 0.2
    """Divisor τ of the cosines in the contrastive loss (paper: 0.2)."""
    ssl_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the contrastive loss, a sum like the ranking loss (paper: 0.1 on Yelp2018 and
    Alibaba-iFashion, 0.5 on Amazon-Book)."""
    regularisation: Annotated[float, Field(ge=0)] = 1e-4
    """Weight of half the squared norm of the layer-0 embeddings of a batch (paper: 1e-4)."""
    epochs: Annotated[int, Field(ge=1)] = 1000
    """Most passes; in each, as many triples are drawn as there are interactions (authors' code:
    1,000)."""
    batch_size: Annotated[int, Field(ge=1)] = 2048
    """Triples (user, positive, negative) in one step (paper: 2,048)."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0 is off (paper: off)."""
    validate_every: Annotated[int, Field(ge=1)] = 5
    """Epochs between validations. The contrastive loss comes first and the ranking later, so on
    little data patience must reach over many epochs."""
