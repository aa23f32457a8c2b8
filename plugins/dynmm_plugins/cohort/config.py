"""Settings of cohorts as evidence."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block


class CohortConfig(Block):
    """Settings of cohorts as evidence."""

    k: Annotated[int, Field(ge=5)] = 5
    """Fewest people of a group who chose an item, and fewest who did not, for the number to be
    told; at least five.
    """
    size: Annotated[int, Field(ge=10)] = 100
    """People whom a group has on average."""
    least_lift: Annotated[float, Field(ge=0)] = 1.0
    """Least share of a group who chose an item, relative to the share of everyone; at 1, a group
    speaks only for what it chose no less often than others.
    """
    epsilon: Annotated[float, Field(gt=0)] | None = None
    """Adds Laplace noise to every number that is told, of all numbers together ε-differentially
    private for the choices of one person, the groups being given; null adds none. Each new
    dictionary spends ε anew, and its noise is not that of the seed.
    """
    contribution: Annotated[int, Field(ge=1)] = 10
    """With ``epsilon``, items of one person that count, chosen at random; more need more noise."""
