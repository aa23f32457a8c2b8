"""Settings of the reader of sparse matrices."""

from __future__ import annotations

from dynmm_framework.config.blocks import Block


class SparseMatrixConfig(Block):
    """Which matrices are read."""

    path: str
    """File of ``scipy.sparse.save_npz``: users × items, a 1 for each interaction. Row and column
    numbers, from 0, are the ids; columns without interactions are items too.
    """
    more: list[str] = []
    """Further matrices of the same shape, whose interactions are added. Not needed for a ``given``
    split, which reads its files itself.
    """
