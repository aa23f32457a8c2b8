"""Settings of the extractor of items that are chosen together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block


class CoNeighboursConfig(Block):
    """Settings of ``co_neighbours``."""

    k: Annotated[int, Field(ge=1, le=100)] = 8
    """Most items cited for a user and an item."""
    neighbours: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Items kept of each item, those most often chosen together with it; 8 bytes each in memory."""
    history: Annotated[int, Field(ge=1, le=1000)] = 50
    """Newest items of a history that are looked at."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """What an item's score loses with every item chosen since; 1 keeps it."""
    least: Annotated[int, Field(ge=5)] = 5
    """Fewest people who chose both items, at least 5: of fewer nothing is told."""
