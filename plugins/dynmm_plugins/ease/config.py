"""Settings of the EASE baseline."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block


class EASEConfig(Block):
    """Settings of EASE."""

    regularisation: Annotated[float, Field(gt=0)] = 100.0
    """L2 weight λ, added to the diagonal of the item-item matrix. The default was chosen on
    validation users of MovieLens-100K and Amazon Beauty, where 50 to 250 are close; it grows with
    the data (paper: 500 on MovieLens-20M, 1,000 on Netflix, 200 on the Million Song Data)."""
    max_items: Annotated[int, Field(ge=1)] = 40_000
    """Largest catalogue that is accepted: the weights are a dense matrix of items × items, 4 bytes
    each, so 40,000 items take 6.4 GB; twice that for a moment on a GPU."""
