"""What became of encoding a modality: vectors, and every item that has none with its reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.artifacts.atomic import atomic_path, storage_errors
from dynmm_framework.data.features import Features
from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import Context

_FILES = ("features.safetensors", "missing.parquet")


@dataclass(frozen=True, eq=False)
class Encoded:
    """Vectors of a dataset's items, and which items have none.

    Attributes:
        features: One row for each item of the table.
        missing: Columns ``item`` (raw identifier) and ``reason``, both strings.
    """

    features: Features
    missing: pa.Table

    def counts(self) -> dict[str, int]:
        """Returns the number of missing items by reason, the most frequent first."""
        return dict(Counter(self.missing.column("reason").to_pylist()).most_common())

    def save(self, folder: Path) -> None:
        """Writes ``features.safetensors`` and ``missing.parquet``.

        Raises:
            ArtifactError: If they cannot be written.
        """
        arrays = {"vectors": self.features.vectors, "present": self.features.present}
        save_arrays(folder / _FILES[0], arrays)
        with atomic_path(folder / _FILES[1]) as temporary:
            pq.write_table(self.missing, temporary, compression="zstd")

    @classmethod
    def load(cls, folder: Path) -> Encoded:
        """Reads what :meth:`save` wrote.

        Raises:
            ArtifactError: If a file is missing or damaged.
        """
        arrays = load_arrays(folder / _FILES[0])
        path = folder / _FILES[1]
        try:
            with storage_errors(path, action="read"):
                missing = pq.read_table(path)
            return cls(Features(arrays["vectors"], arrays["present"]), missing)
        except (pa.ArrowException, KeyError) as error:
            raise ArtifactError(
                f"the features in {folder} are damaged: {error}",
                hint="Remove the folder and run again.",
            ) from error


def report(
    features: Features,
    ids: Sequence[str],
    reasons: Sequence[str],
    modality: str,
    ctx: Context,
    started: float,
    *,
    fresh: int,
) -> Encoded:
    """Lists what is missing, and tells the log and the stage's manifest.

    Args:
        features: One row for each item.
        ids: Raw identifier of each item.
        reasons: Why an item has no vector; empty where it has one.
        modality: ``text``, ``image`` or ``audio``.
        ctx: The stage's context.
        started: When the work began, by ``time.perf_counter``.
        fresh: How many inputs were encoded rather than found in the cache.
    """
    rows = np.flatnonzero(~features.present).tolist()
    missing = pa.table(
        {
            "item": pa.array([ids[row] for row in rows], pa.string()),
            "reason": pa.array([reasons[row] for row in rows], pa.string()),
        }
    )
    encoded = Encoded(features, missing)
    counts = encoded.counts()
    listed = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    present = int(features.present.sum())
    ctx.log(
        f"{modality}: {present:,} of {len(ids):,} items have a vector of {features.dim} dimensions"
        + (f"; {len(rows):,} have none ({listed})" if counts else "")
    )
    ctx.record(
        f"features_{modality}",
        {
            "items": len(ids),
            "present": present,
            "dim": features.dim,
            "encoded": fresh,
            "missing": counts,
            "seconds": round(time.perf_counter() - started, 3),
        },
    )
    return encoded
