"""Values of pairs of items, where new ones are added and old ones fade: dense or sparse."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.online.lending import Lease, Lent
from dynmm_framework.protocols import FloatArray

if TYPE_CHECKING:
    import scipy.sparse as sp

FAINT: Final = 0.01
"""Decayed transitions that are forgotten: seen once, more than six half-lives ago."""


class DensePairs:
    """Values of all pairs in one matrix, which is written in place.

    A reader (:meth:`frozen`) is lent the matrix as it is, without a copy: see
    :class:`~dynmm_framework.online.lending.Lent`.

    Args:
        n: Items of the catalogue.
    """

    least = 0.5
    """Scale at which values are faded, and faint ones forgotten: every half-life."""

    def __init__(self, n: int) -> None:
        self._lent = _lendable(np.zeros((n, n), np.float32))
        self._lease: Lease | None = None  # held by readers only

    @property
    def table(self) -> FloatArray:
        """The values, ``(n, n)``."""
        return self._lent.whole

    def add(
        self, rows: NDArray[Any], columns: NDArray[Any], values: FloatArray, *, faint: float
    ) -> None:
        """Adds values to pairs, some of which may be the same."""
        del faint  # forgotten when values are faded
        places = rows.astype(np.int64) * len(self.table) + columns
        self._lent.write((places, values), size=8 * len(places), most=self.table.size)

    def fade(self, scale: float) -> None:
        """Multiplies all values, and forgets those that are faint then."""
        table = self._lent.rewritten()
        table *= np.float32(scale)
        table[table < FAINT] = 0

    def counts(self, newest: Histories, weights: FloatArray) -> FloatArray:
        """Returns the weighted sums of the rows of histories' items, ``(n, n_items)``."""
        sums: FloatArray = self._sums(newest, weights).numpy()
        return sums

    def log(self, newest: Histories, weights: FloatArray) -> FloatArray:
        """Returns the logarithms of these sums plus one."""
        logs: FloatArray = self._sums(newest, weights).log1p_().numpy()
        return logs

    def frozen(self) -> DensePairs:
        """Returns the same as of now, to be read only, whatever is added afterwards."""
        reader = DensePairs.__new__(DensePairs)
        table, reader._lease = self._lent.lend()
        reader._lent = _lendable(table)
        reader._lent.borrowed(reader._lease)
        return reader

    def matrix(self, *, faint: float) -> sp.csr_matrix:
        """Returns the values that there are."""
        import scipy.sparse as sp

        del faint
        return sp.csr_matrix(self.table)

    def load(self, matrix: sp.csr_matrix) -> None:
        """Takes what :meth:`matrix` returned."""
        self._lent = _lendable(matrix.toarray())

    def _sums(self, newest: Histories, weights: FloatArray) -> Tensor:
        return F.embedding_bag(
            torch.from_numpy(newest.items.astype(np.int64)),
            torch.from_numpy(self.table),
            torch.from_numpy(newest.offsets),
            mode="sum",
            per_sample_weights=torch.from_numpy(weights),
            include_last_offset=True,
        )


_Added = tuple[NDArray[np.int64], FloatArray]
"""Places in the flat matrix, and what is added there."""


def _lendable(table: FloatArray) -> Lent[FloatArray, _Added]:
    return Lent(table, copied=np.copy, change=_add)


def _add(table: FloatArray, added: _Added) -> None:
    np.add.at(table.reshape(-1), *added)


class SparsePairs:
    """Values of the pairs that there are, in matrices that are replaced and never written to.

    Args:
        n: Items of the catalogue.
        most: Pairs that are kept.
    """

    least = 1e-6
    """Scale at which values are faded: before they are too large to be added to."""

    def __init__(self, n: int, most: int) -> None:
        import scipy.sparse as sp

        self.most = most
        self._main: sp.csr_matrix = sp.csr_matrix((n, n), dtype=np.float32)
        self._new: sp.csr_matrix = self._main.copy()

    def add(
        self, rows: NDArray[Any], columns: NDArray[Any], values: FloatArray, *, faint: float
    ) -> None:
        """Adds values to pairs; those below ``faint`` may be forgotten then."""
        self._new = self._new + _matrix((values, (rows, columns)), self._main.shape)
        if self._new.nnz * 8 > self._main.nnz:
            self._merge(faint)

    def fade(self, scale: float) -> None:
        """Multiplies all values."""
        self._main, self._new = self._main * scale, self._new * scale

    def counts(self, newest: Histories, weights: FloatArray) -> FloatArray:
        """Returns the weighted sums of the rows of histories' items, ``(n, n_items)``."""
        counts: FloatArray = self._sums(newest, weights).toarray()
        return counts

    def log(self, newest: Histories, weights: FloatArray) -> FloatArray:
        """Returns the logarithms of these sums plus one."""
        found = self._sums(newest, weights)
        found.data = np.log1p(found.data)  # of what was found; the log of one is zero
        logs: FloatArray = found.toarray()
        return logs

    def frozen(self) -> SparsePairs:
        """Returns the same as of now."""
        return copy.copy(self)

    def matrix(self, *, faint: float) -> sp.csr_matrix:
        """Returns the values that there are."""
        self._merge(faint)
        return self._main

    def load(self, matrix: sp.csr_matrix) -> None:
        """Takes what :meth:`matrix` returned."""
        import scipy.sparse as sp

        self._main = matrix
        self._new = sp.csr_matrix(matrix.shape, dtype=np.float32)

    def _sums(self, newest: Histories, weights: FloatArray) -> sp.csr_matrix:
        chosen = _matrix((weights, (newest.rows, newest.items)), (len(newest), newest.n_items))
        return ((chosen @ self._main) + (chosen @ self._new)).tocsr()

    def _merge(self, faint: float) -> None:
        import scipy.sparse as sp

        main = (self._main + self._new).tocsr()
        small = main.data < faint
        if small.any():
            main.data[small] = 0
            main.eliminate_zeros()
        if main.nnz > self.most:
            kept = self.most * 3 // 4
            limit = np.partition(main.data, main.nnz - kept)[main.nnz - kept]
            main.data[main.data < limit] = 0
            main.eliminate_zeros()
        main.sort_indices()
        self._main = main
        self._new = sp.csr_matrix(main.shape, dtype=np.float32)


def _matrix(pairs: tuple[Any, tuple[Any, Any]], shape: tuple[int, int]) -> sp.csr_matrix:
    import scipy.sparse as sp

    values, places = pairs
    return sp.csr_matrix((np.asarray(values, np.float32), places), shape=shape)
