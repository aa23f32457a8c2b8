"""How recommenders are asked: the protocols that a pipeline may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from dynmm_framework.config.blocks import Block

LIKED_ABOVE = 3.0
"""What is rated higher than this is liked, if nothing else is said; on the usual scale of five."""


class SampledProtocol(Block):
    """Ranks each target among uniformly drawn negatives."""

    sampled: Annotated[int, Field(ge=1)]
    """Number of negatives for each target; drawn once, stored and hashed."""

    @property
    def name(self) -> str:
        return f"sampled:{self.sampled}"


class FullProtocol(Block):
    """Ranks the whole catalogue, the user's known items masked."""

    full: Literal[True] = True

    @property
    def name(self) -> str:
        return "full"


class ColdProtocol(Block):
    """Ranks the items with few training interactions among themselves, for the users who are
    asked for one of them.
    """

    cold: Annotated[int, Field(ge=1)]
    """The ranked items have fewer training interactions than this; 1 for those that have none."""

    @property
    def name(self) -> str:
        return f"cold:{self.cold}"


class AUCProtocol(Block):
    """Scores each rated target after all that was known before it, and tells how well the scores
    part the liked ones from the others: the area under the ROC curve.
    """

    auc: float = LIKED_ABOVE
    """Targets rated higher than this are liked; on the usual scale of five 3."""

    @property
    def name(self) -> str:
        return "auc" if self.auc == LIKED_ABOVE else f"auc:{self.auc:g}"


def _protocol(value: Any) -> Any:
    """Reads the short spellings ``full``, ``sampled:100``, ``cold:1`` and ``auc``."""
    if value == "full":
        return {"full": True}
    if value == "auc":
        return {"auc": LIKED_ABOVE}
    if isinstance(value, str) and re.fullmatch(r"auc:-?[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return {"auc": float(value.partition(":")[2])}
    if isinstance(value, str) and value.startswith(("sampled:", "cold:")):
        key, _, number = value.partition(":")
        return {key: int(number) if re.fullmatch("[0-9]{1,9}", number) else number}
    return value


def _protocol_tag(value: Any) -> str | None:
    for key, kind in _PROTOCOLS.items():
        if isinstance(value, kind) or (isinstance(value, Mapping) and key in value):
            return kind.__name__
    return None


_PROTOCOLS: Mapping[str, type[Block]] = {
    "full": FullProtocol,
    "sampled": SampledProtocol,
    "cold": ColdProtocol,
    "auc": AUCProtocol,
}

ProtocolBlock = Annotated[
    Annotated[FullProtocol, Tag("FullProtocol")]
    | Annotated[SampledProtocol, Tag("SampledProtocol")]
    | Annotated[ColdProtocol, Tag("ColdProtocol")]
    | Annotated[AUCProtocol, Tag("AUCProtocol")],
    Discriminator(
        _protocol_tag,
        custom_error_type="protocol",
        custom_error_message="must be full, {sampled: N} with N negatives for each target,"
        " {cold: N} for items with fewer than N training interactions, or auc for rated targets",
    ),
    BeforeValidator(
        _protocol,
        json_schema_input_type=Literal["full", "auc"]
        | Annotated[str, Field(pattern=r"^((sampled|cold):[1-9][0-9]{0,8}|auc:-?[0-9.]+)$")]
        | FullProtocol
        | SampledProtocol
        | ColdProtocol
        | AUCProtocol,
    ),
]
