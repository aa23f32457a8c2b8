"""Settings of the item-kNN baseline."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block


class ItemKNNConfig(Block):
    """Settings of item-kNN. The defaults were chosen on validation users of two data sets."""

    neighbours: Annotated[int, Field(ge=1)] = 200
    """Most similar items kept for each scored item; the paper found 20 to 50 enough."""
    shrinkage: Annotated[float, Field(ge=0)] = 10.0
    """Added to the cosine's denominator, so that few common users count for less; 0 is the
    plain cosine of the paper.
    """
    last: Annotated[int, Field(ge=1)] | None = None
    """Score from the newest items of the history only; from all of them if null."""
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of an item relative to the next newer one of the history; 1 weighs all alike."""
