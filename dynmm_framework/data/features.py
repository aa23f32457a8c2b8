"""Vectors of items in one modality, and which items have one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.errors import DataError
from dynmm_framework.protocols import FloatArray


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of all items in one modality.

    Attributes:
        vectors: ``(n_items, dim)`` float32; zeros where the item has none.
        present: Which items have a vector, ``(n_items,)`` bool.

    Raises:
        DataError: If a present vector is not finite, or the two do not fit together.
    """

    vectors: FloatArray
    present: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.present.shape != self.vectors.shape[:1]:
            raise DataError(
                f"features of shape {self.vectors.shape} do not fit a mask of shape "
                f"{self.present.shape}"
            )
        bad = np.flatnonzero(self.present & ~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise DataError(
                f"the features of {len(bad)} items are not finite, first item {bad[0]}",
                hint="Repair the source of the features, or mark these items as missing.",
            )

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def without(self, items: NDArray[Any]) -> Features:
        """Returns the features as if some items, by index or mask, had none."""
        present = self.present.copy()
        present[items] = False
        vectors = np.where(present[:, None], self.vectors, np.float32(0))
        return Features(vectors, present)

    def shuffled(self, rng: np.random.Generator) -> Features:
        """Returns the features dealt anew among the items that have one: a control.

        What is left of a gain with shuffled features does not come from content.
        """
        rows = np.flatnonzero(self.present)
        vectors = self.vectors.copy()
        vectors[rows] = self.vectors[rng.permutation(rows)]
        return replace(self, vectors=vectors)
