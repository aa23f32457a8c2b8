"""Settings of the components that the kit is tested on: good ones, and one fault each."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from dynmm_framework.config.blocks import Block


class GoodConfig(Block):
    """As settings should be."""

    last_weight: Annotated[float, Field(ge=0)] = 4.0
    """Weight of what follows the last item."""
    epochs: Annotated[int, Field(ge=1)] = 6
    """Passes, where there are any."""


class UndocumentedConfig(GoodConfig):
    secret: int = 1


class LaxConfig(GoodConfig):
    model_config = ConfigDict(extra="ignore")


class ChangeableConfig(GoodConfig):
    model_config = ConfigDict(frozen=False)


class LossyConfig(GoodConfig):
    rate: Annotated[float, PlainSerializer(lambda value: round(value, 1))] = 0.25
    """Written with one digit only."""


class Nested(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = 1


class NestedConfig(GoodConfig):
    inner: Nested = Nested()
    """Settings within settings."""
