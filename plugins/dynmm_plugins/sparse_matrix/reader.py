"""Matrices of users and items, without times, ratings or order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dynmm_framework.data.files import require_file
from dynmm_framework.data.matrices import numbers_as_ids, read_matrices
from dynmm_framework.data.rows import Findings, build
from dynmm_framework.data.tables import Dataset
from dynmm_framework.protocols import Context
from dynmm_plugins.sparse_matrix.config import SparseMatrixConfig


class SparseMatrix:
    """Reads which user has which item; a user's items come in the order of their numbers."""

    def __init__(self, config: SparseMatrixConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        findings = Findings()
        named = [("path", self.config.path), *(("more", name) for name in self.config.more)]
        paths = [(setting, Path(name).expanduser()) for setting, name in named]
        for setting, path in paths:
            with findings.collecting():
                require_file(path, setting=f"data.config.{setting}")
        findings.raise_if_any()
        return [path for _, path in paths]

    def read(self, ctx: Context) -> Dataset:
        paths = list(self.files(ctx))
        found = read_matrices(paths)
        ctx.log(
            f"{paths[0].name}: a matrix has no order, so a user's items stand in the order of "
            "their numbers; models of sequences and splits by time would learn from that"
        )
        ids = numbers_as_ids(max(found[0].n_users, found[0].n_items))
        pairs = pa.table(
            {
                "user": ids.take(pa.array(np.concatenate([matrix.users for matrix in found]))),
                "item": ids.take(pa.array(np.concatenate([matrix.items for matrix in found]))),
            }
        )
        items = pa.table({"id": ids.slice(0, found[0].n_items)})
        return build(paths[0].stem, pairs, ctx=ctx, items=items, keep_unseen_items=True)
