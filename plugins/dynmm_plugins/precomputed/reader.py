"""Reads features that somebody has computed before, and gives them to the right items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.data.features import Features
from dynmm_framework.data.files import require_file
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import Context, FloatArray
from dynmm_plugins.precomputed.config import PrecomputedConfig
from dynmm_plugins.precomputed.formats import Table, read_ids, read_table

SETTING = "encoders.….config.path"
_SHOWN = 5


class Precomputed:
    """Features from a file, matched with a dataset's items by identifier or by place.

    An item without a row has no feature; a row without an item is left out. Everything else that
    does not fit is an error, because a matrix that is off by one row still trains.
    """

    def __init__(self, config: PrecomputedConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        """Returns the files that :meth:`read` will open.

        Raises:
            DataError: If one is missing or empty; names it.
        """
        settings = (SETTING, SETTING.replace("path", "ids"))
        return [
            require_file(path, setting=setting)
            for path, setting in zip(self.config.files, settings, strict=False)
        ]

    def read(self, items: pa.Table, ctx: Context) -> Features:
        path, *further = self.files(ctx)
        table = read_table(path, self.config)
        ids = read_ids(further[0]) if further else table.ids
        self._check_width(table, path)
        rows = self._match(table, ids, items, path, further[0] if further else path)
        present = rows >= 0
        vectors = np.zeros((items.num_rows, table.matrix.shape[1]), np.float32)
        vectors[present] = table.matrix[rows[present]]
        present &= self._finite(vectors, rows, path)
        if self.config.zeros_are_missing:
            present &= vectors.any(axis=1)
        vectors[~present] = 0
        self._require_some(present, ids, items, path)
        unused = len(table.matrix) - len(np.unique(rows[rows >= 0]))
        ctx.log(
            f"{path.name}: {int(present.sum()):,} of {items.num_rows:,} items have features, "
            f"{vectors.shape[1]} numbers each; {unused:,} rows belong to no item"
        )
        return Features(vectors, present)

    def _check_width(self, table: Table, path: Path) -> None:
        width = table.matrix.shape[1]
        if self.config.dim is not None and width != self.config.dim:
            raise DataError(
                [Problem(f"its rows have {width} numbers, not {self.config.dim}", str(path))],
                hint="Name the right file, or set dim to its width or to null.",
            )
        if not width:
            raise DataError([Problem("its rows have no numbers", str(path))])

    def _match(
        self, table: Table, ids: Sequence[str] | None, items: pa.Table, path: Path, named: Path
    ) -> NDArray[np.int64]:
        """Returns the row of each item, ``(n_items,)``; -1 where there is none."""
        n = len(table.matrix)
        wanted = items["id"].to_pylist()
        if ids is None and self.config.rows == "number":
            ids = list(map(str, range(n)))
        if ids is None:
            if n != items.num_rows:
                raise DataError(
                    [Problem(f"it has {n:,} rows, and there are {len(wanted):,} items", str(path))],
                    hint="Say which item a row belongs to: ids, or rows: number if an item's "
                    "identifier is the number of its row, from 0.",
                )
            return np.arange(n)
        if len(ids) != n:
            raise DataError(
                [Problem(f"it has {len(ids):,} identifiers for {n:,} rows of {path}", str(named))],
                hint="Every row needs one identifier, in the same order.",
            )
        places: dict[str, int] = {}
        repeated: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            first = places.setdefault(name, row)
            if first != row:
                repeated.setdefault(name, [first]).append(row)
        if repeated:
            raise DataError(
                [
                    Problem(f"item {name!r} has {len(rows)} rows: {_few(rows)}", str(named))
                    for name, rows in list(repeated.items())[:_SHOWN]
                ]
                + _and_more(len(repeated), "items", named),
                hint="Keep one row for each item.",
            )
        return np.array([places.get(name, -1) for name in wanted], dtype=np.int64)

    def _finite(
        self, vectors: FloatArray, rows: NDArray[np.int64], path: Path
    ) -> NDArray[np.bool_]:
        finite: NDArray[np.bool_] = np.isfinite(vectors).all(axis=1)
        bad = rows[~finite]
        if len(bad) and self.config.not_finite == "refuse":
            raise DataError(
                [
                    Problem(
                        f"{len(bad):,} rows have NaN or infinity: {_few(sorted(bad.tolist()))}",
                        str(path),
                    )
                ],
                hint="Repair them, or set not_finite: missing to count these items as missing.",
            )
        return finite

    def _require_some(
        self, present: NDArray[np.bool_], ids: Sequence[str] | None, items: pa.Table, path: Path
    ) -> None:
        if present.any():
            return
        reason, hint = "no item has a usable row", "Look at the file, and at zeros_are_missing."
        if self.config.rows == "number":
            theirs = ", ".join(map(repr, items["id"][:3].to_pylist()))
            reason = f"no item's identifier ({theirs} …) is the number of a usable row"
            hint = "rows: number is for identifiers 0, 1, 2 …; name those of the rows in ids."
        if ids is not None:
            mine = ", ".join(map(repr, list(ids)[:3]))
            theirs = ", ".join(map(repr, items["id"][:3].to_pylist()))
            reason = f"none of its identifiers ({mine} …) is that of an item ({theirs} …)"
            hint = "Identifiers are compared as texts; write them as the dataset does."
        raise DataError([Problem(reason, str(path))], hint=hint)


def _few(rows: Sequence[Any]) -> str:
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return ", ".join(map(str, rows[:_SHOWN])) + more


def _and_more(count: int, what: str, path: Path) -> list[Problem]:
    if count <= _SHOWN:
        return []
    return [Problem(f"{count - _SHOWN:,} more {what} have several rows", str(path))]
