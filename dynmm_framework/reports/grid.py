"""A plain table, as terminal and page draw it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grid:
    """A plain table of text.

    Attributes:
        columns: Heads; the first column names the row.
        rows: Cells, as many as heads.
        caption: What the table shows.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
