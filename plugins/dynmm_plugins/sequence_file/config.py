"""Settings of the reader of sequences."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

from pydantic import model_validator

from dynmm_framework.config.blocks import Block


class SequenceFileConfig(Block):
    """Which file is read, and how it is written."""

    record: str | None = None
    """Registered dataset (``dynmm registry list --kind dataset``) of whose files ``path`` and
    ``attributes`` are the names; they are fetched. Null: both are paths of your own.
    """
    path: str
    """Text file, plain or gzip: ``user item item …`` or ``user item`` on a line, oldest first,
    separated by white space.
    """
    layout: Literal["auto", "lines", "pairs"] = "auto"
    """``lines``: one line a user; ``pairs``: one line an interaction; ``auto`` takes ``pairs`` if
    most lines have two tokens and users come on several lines.
    """
    ids: Literal["integer", "any"] = "integer"
    """``integer``: every token is a whole number, others are errors; ``any``: ids are any words."""
    attributes: str | None = None
    """JSON file ``{"item": [attribute, …]}``; the attributes become ``categories``."""

    @model_validator(mode="after")
    def _names_files_of_the_record(self) -> SequenceFileConfig:
        for setting in ("path", "attributes") if self.record is not None else ():
            name = PurePath(getattr(self, setting) or "")
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(
                    f"{setting} must be the name of a file of the record {self.record!r}, not "
                    f"{str(name)!r}; for a file of your own leave record out"
                )
        return self
