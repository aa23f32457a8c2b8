"""The blocks of evidence: extractors, and when what they know is brought up to date."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from dynmm_framework.config.blocks import Block, ComponentRef
from dynmm_framework.config.windows import WindowRule


class RefreshBlock(Block):
    """When an extractor takes in what came after training; one of the two."""

    windows: Annotated[int, Field(ge=1)] | None = None
    """After so many windows of the stream, whose length the settings of ``online`` say."""
    age: str | None = None
    """When the newest event is so much newer than those it knows: ``1h``, ``1d``, ``2w``."""

    @field_validator("age")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None and (value.strip().isdigit() or not WindowRule.parse(value).seconds):
            raise ValueError(f"must be a time, as in 1h or 1d, not {value!r}")
        return value

    @model_validator(mode="after")
    def _says_when(self) -> RefreshBlock:
        if (self.windows is None) == (self.age is None):
            raise ValueError("give either windows or age")
        return self


class EvidenceRef(ComponentRef):
    """An extractor of evidence, and when it is brought up to date."""

    refresh: RefreshBlock | None = None
    """For an extractor that has a method ``refresh``, such as ``trend``, where a stream goes on
    after training (:func:`dynmm_framework.engine.evidence.fresh_evidence`); null leaves it as it
    was trained."""
