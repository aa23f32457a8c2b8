"""Settings of the extractor of trends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block


class TrendConfig(Block):
    """Settings of ``trend``."""

    days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Length of the window: the days up to the newest interaction that is known."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Length of the window without dates: this share of the training interactions, the newest of
    every user, as each user's order is all that is known."""
    least: Annotated[int, Field(ge=5)] = 5
    """Fewest people who chose an item in the window for anything to be said of it."""
    top: Annotated[float, Field(gt=0, le=1)] = 0.25
    """An item is popular lately if it is in this share of those chosen in the window, by people."""
    growth: Annotated[float, Field(gt=1)] = 2.0
    """One that is not is cited too if it has grown by this factor against the window before."""
