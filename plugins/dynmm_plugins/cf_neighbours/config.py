"""Settings of the extractor of neighbours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynmm_framework.config.blocks import Block


class CFNeighboursConfig(Block):
    """Settings of ``cf_neighbours``."""

    k: Annotated[int, Field(ge=1, le=100)] = 5
    """Most neighbours cited for a user and an item."""
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 20
    """Nearest items kept of each item; 8 bytes each in memory. Items of the user's history are
    compared besides, whether they are among these or not."""
    history: Annotated[int, Field(ge=1, le=1000)] = 50
    """Newest items of a history that are compared with the item."""
    minimum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Least cosine of a neighbour."""
    weighted: bool = True
    """Weigh the directions of the items' vectors by how much users differ in them, by the square
    root of the covariance of their vectors: what all users weigh alike, as popularity, tells
    nothing of what is like what. Without, the cosine is of the vectors as they are, less their
    mean."""
    users: Annotated[int, Field(ge=2)] = 10_000
    """Most training users that the covariance is measured on, drawn if there are more."""
    index: Literal["auto", "exact", "ivf"] = "auto"
    """``exact`` compares every item with every other, ``ivf`` with those of the nearest lists;
    ``auto`` is ``exact`` up to 50,000 items."""
    probes: Annotated[int, Field(ge=1)] = 32
    """Lists that ``ivf`` compares an item with."""
