"""Titles of items, as a component keeps them among its learned arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dynmm_framework.language.tokens import clean
from dynmm_framework.protocols import State

TEXT, ENDS = "titles", "title_ends"


def titles_of(items: pa.Table) -> list[str]:
    """Returns the title of each item, empty where it has none that can be read."""
    if "title" not in items.column_names:
        return [""] * len(items)
    titles = [(title or "").strip() for title in items["title"].to_pylist()]
    return [title if clean(title) else "" for title in titles]


def pack_titles(titles: Sequence[str]) -> State:
    """Returns titles as arrays."""
    encoded = [title.encode("utf-8", "replace") for title in titles]
    return {
        TEXT: np.frombuffer(b"".join(encoded), dtype=np.uint8),
        ENDS: np.cumsum([len(title) for title in encoded], dtype=np.int64),
    }


def unpack_titles(state: State) -> list[str]:
    """Restores what :func:`pack_titles` returned; nothing if it is not among the arrays."""
    if ENDS not in state:
        return []
    text, ends = np.asarray(state[TEXT]).tobytes(), np.asarray(state[ENDS]).tolist()
    return [text[a:b].decode() for a, b in zip([0, *ends[:-1]], ends, strict=True)]
