"""Writes the tables of README.md from stored results.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; what is outside is prose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measure import number

Result = Mapping[str, Any]
"""What one measurement printed as JSON, and the machine's state around it."""


@dataclass(frozen=True)
class Table:
    """One table of README.md.

    Attributes:
        name: Its name in the page's comments.
        measurements: Names of the results that it is made of; all must be there.
        columns: Column of the results to heading; empty: all columns under their own names.
        grouped: Leading columns in which a value is not repeated.
    """

    name: str
    measurements: tuple[str, ...]
    columns: Mapping[str, str] | None = None
    grouped: int = 0


def cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(cell(part) for part in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else number(value)


def conditions(results: Sequence[Result]) -> str:
    """Says how many cores there were and how busy others kept them."""
    cores = sorted({result["cores"] for result in results})
    busy = [share for result in results for share in result["busy_cores"]]
    low, high = min(busy), max(busy)
    others = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
    plural = "" if cores == [1] else "s"
    return f"{' or '.join(map(str, cores))} core{plural}, {others} of them busy with other work."


def render(table: Table, results: Mapping[str, Result]) -> str:
    """Returns a table's Markdown: rows, then notes, then conditions."""
    chosen = [results[name] for name in table.measurements]
    rows = [row for result in chosen for row in result["document"]["rows"]]
    columns = table.columns or {name: name for row in rows for name in row}
    numeric = {
        name: any(isinstance(row.get(name), (int, float)) for row in rows) for name in columns
    }
    lines = ["| " + " | ".join(columns.values()) + " |"]
    lines.append("|" + "|".join("---:" if numeric[name] else "---" for name in columns) + "|")
    before: list[str] = []
    for row in rows:
        cells = [cell(row.get(name, "")) for name in columns]
        shown = list(cells)
        for index in range(table.grouped):
            if before[: index + 1] == cells[: index + 1]:
                shown[index] = ""
        lines.append("| " + " | ".join(shown) + " |")
        before = cells
    notes = dict.fromkeys(note for result in chosen for note in result["document"]["notes"])
    return "\n\n".join(["\n".join(lines), *notes, conditions(chosen)])


def rewrite(page: str, tables: Sequence[Table], results: Mapping[str, Result]) -> str:
    """Returns the page with every table renewed whose results are all there.

    Raises:
        ValueError: If the page lacks a table's comments.
    """
    for table in tables:
        if not set(table.measurements) <= set(results):
            continue
        begin, end = f"<!-- table: {table.name} -->", "<!-- end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        fresh = f"{begin}\n{render(table, results)}\n{end}"
        page, found = pattern.subn(lambda _, fresh=fresh: fresh, page)
        if found != 1:
            raise ValueError(f"README.md has {found} tables {table.name!r}; 1 is needed")
    return page
