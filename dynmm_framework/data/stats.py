"""What a dataset looks like in numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.data.arrow import plain
from dynmm_framework.data.tables import Dataset

CONTENTS: Final = ("title", "text", "categories", "image", "audio")
"""Columns of the item table whose coverage is reported."""


def dataset_stats(dataset: Dataset) -> dict[str, Any]:
    """Returns a dataset's figures, fit for JSON.

    ``users``, ``items``, ``interactions`` and ``sparsity`` are the paper's table 1; sparsity is
    one minus the share of distinct pairs of user and item that occur.

    Returns:
        - ``name``; ``users``, ``items``, ``interactions`` (counts); ``sparsity`` (0 to 1).
        - ``interactions_per_user`` and ``interactions_per_item``: ``min``, ``median``, ``mean``,
          ``max`` over all of them, and ``none``, how many have no interaction.
        - ``repeated_pairs``: interactions whose pair of user and item occurred before.
        - ``time``: ``first`` and ``last`` as ISO dates in UTC and ``days`` between them; ``None``
          without timestamps.
        - ``ratings``: ``min``, ``mean``, ``max``; ``None`` without ratings.
        - ``coverage``: for each of :data:`CONTENTS`, the share of items (0 to 1) for which it is
          neither null nor empty.
        - ``columns``: all columns of the item table, of which ``encoders.text.fields`` may be made.
        - ``log``: what reading and filters left, one mapping for each step.
    """
    rows = dataset.interactions
    pairs = np.unique(rows.users.astype(np.int64) * rows.n_items + rows.items)
    cells = dataset.n_users * dataset.n_items
    steps = ("step", "users", "items", "interactions")
    return {
        "name": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": len(rows),
        "sparsity": 1 - len(pairs) / cells if cells else 1.0,
        "interactions_per_user": _spread(np.bincount(rows.users, minlength=rows.n_users)),
        "interactions_per_item": _spread(rows.item_counts()),
        "repeated_pairs": len(rows) - len(pairs),
        "time": _time(rows.timestamps),
        "ratings": _ratings(rows.ratings),
        "coverage": coverage(dataset.items),
        "columns": list(dataset.items.column_names),
        "log": [dict(zip(steps, line, strict=True)) for line in dataset.log],
    }


def coverage(items: pa.Table) -> dict[str, float]:
    """Returns, for each content column, the share of items that have it; 0 without the column."""
    return {name: _covered(items, name) for name in CONTENTS}


def _covered(items: pa.Table, name: str) -> float:
    if name not in items.column_names or not items.num_rows:
        return 0.0
    column = plain(items.column(name))
    if pa.types.is_string(column.type):
        present = pc.not_equal(pc.utf8_trim_whitespace(column), "")
    elif pa.types.is_list(column.type):
        present = pc.greater(pc.list_value_length(column), 0)
    else:
        present = column.is_valid()
    return float(pc.sum(present).as_py() or 0) / float(items.num_rows)


def _spread(counts: NDArray[np.int64]) -> dict[str, float]:
    if not len(counts):
        return {"min": 0, "median": 0.0, "mean": 0.0, "max": 0, "none": 0}
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "max": int(counts.max()),
        "none": int((counts == 0).sum()),
    }


def _time(timestamps: NDArray[np.int64] | None) -> dict[str, Any] | None:
    if timestamps is None or not len(timestamps):
        return None
    first, last = int(timestamps.min()), int(timestamps.max())
    return {
        "first": datetime.fromtimestamp(first, UTC).date().isoformat(),
        "last": datetime.fromtimestamp(last, UTC).date().isoformat(),
        "days": (last - first) / 86_400,
    }


def _ratings(ratings: NDArray[np.float32] | None) -> dict[str, float] | None:
    if ratings is None or not len(ratings):
        return None
    return {
        "min": float(ratings.min()),
        "mean": float(ratings.mean(dtype=np.float64)),
        "max": float(ratings.max()),
    }
