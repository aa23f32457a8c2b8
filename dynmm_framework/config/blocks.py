"""What every block of a pipeline and every component's settings are made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

H = TypeVar("H", bound=Hashable)


class Block(BaseModel):
    """Base of all configuration: frozen, unknown keys refused, docstrings kept for the schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class ComponentRef(Block):
    """Names a registered component and configures it. ``name`` alone may be written as a string."""

    name: str = Field(min_length=1)
    """Component name as listed by ``dynmm plugins list``, or ``distribution/name``."""
    config: dict[str, Any] = {}
    """Settings of the component; checked against its own model (``dynmm plugins info NAME``).

    They belong to the name: a file that extends another, or an override, that changes the name
    drops the settings made for the old one.
    """

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def distinct(values: Iterable[H]) -> list[H]:
    """Returns the values without repetitions, in their order."""
    return list(dict.fromkeys(values))
