"""Settings of the reader of sequences."""

from __future__ import annotations

from typing import Literal

from dynmm_framework.config.pipeline import Block


class SequenceFileConfig(Block):
    """Which file is read, and how it is written."""

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
