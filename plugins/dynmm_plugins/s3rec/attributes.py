"""Attributes of items, from a column of lists in the item table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.errors import StageError


@dataclass(frozen=True, eq=False)
class Attributes:
    """Distinct attributes of every item, in one array.

    Attributes:
        offsets: Item ``i`` has ``ids[offsets[i]:offsets[i + 1]]``, ``(n_items + 1,)``.
        ids: Attributes, from 0 to ``size - 1``.
        size: Number of different attributes.
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.int64]
    size: int

    @classmethod
    def read(cls, items: pa.Table, column: str, *, stage: str) -> Attributes:
        """Reads a column of lists; a table without it has no attributes.

        Raises:
            StageError: If the column is not one of lists; names it and its type.
        """
        if column not in items.column_names:
            return cls(np.zeros(items.num_rows + 1, np.int64), np.empty(0, np.int64), 0)
        values = items[column].combine_chunks()
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
            raise StageError(
                f"stage {stage}: column {column!r} of the item table holds {values.type}, not "
                "lists of attributes",
                hint="Name a column of lists in pretraining.attributes, such as categories.",
            )
        words = pc.list_flatten(values)
        rows = pc.list_parent_indices(values).to_numpy().astype(np.int64)
        filled = words.is_valid().to_numpy(zero_copy_only=False)
        encoded = words.filter(pa.array(filled)).dictionary_encode()
        size = len(encoded.dictionary)
        codes = encoded.indices.to_numpy().astype(np.int64)
        keys = np.unique(rows[filled] * max(size, 1) + codes)
        rows, ids = np.divmod(keys, max(size, 1))
        counts = np.bincount(rows, minlength=items.num_rows)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), ids, size)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of attributes of each item, ``(n_items,)``."""
        return np.diff(self.offsets)

    def of(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the attributes of some items one after another, and where each begins."""
        counts = self.offsets[items + 1] - self.offsets[items]
        starts = np.cumsum(counts) - counts
        within = np.arange(counts.sum()) - np.repeat(starts, counts)
        return self.ids[np.repeat(self.offsets[items], counts) + within], starts
