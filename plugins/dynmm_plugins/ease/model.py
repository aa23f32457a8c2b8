"""Embarrassingly shallow autoencoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from dynmm_framework.errors import StageError
from dynmm_plugins.ease.config import EASEConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, State

BLOCK_ROWS = 1024
"""Rows of the item-item matrix that are worked on at once."""


class EASE:
    """Scores an item by the sum of its learned weights from the items of the history.

    Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019. With the binary
    user-item matrix X, the item-item weights B minimise ‖X − XB‖² + λ‖B‖² under a zero diagonal:
    P = (XᵀX + λI)⁻¹, B = −P / diag(P) column by column, B_jj = 0. A score is x B.

    Differences from the paper: none in the weights. A history without any item that has training
    interactions, the empty one above all, says nothing, and all its scores would be 0: it gets
    the items' training counts instead, so popular items come first. An item that stands several
    times in a history, or that a user chose several times, counts once. An item without training
    interactions has no weights: it neither adds to a score nor gets one. Users are their
    histories, known or not.

    Shapes: B is ``(n_items, n_items)`` float32, dense: 4 n² bytes, and training works in place on
    the CPU, so memory is bounded by that and a block of rows. Time is O(Σ_u |history_u|² + n³)
    for training, with the inverse from a Cholesky factor in float32, and O(|history| · n) for a
    user. ``max_items`` refuses a catalogue that would not fit.
    """

    def __init__(self, config: EASEConfig) -> None:
        self.config = config
        self._weights: FloatArray | None = None  # (history item, scored item)
        self._counts: FloatArray | None = None  # (n_items,)

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Solves for the weights.

        Raises:
            StageError: If there are more than ``max_items`` items, memory runs out, or λ is too
                small for float32.
        """
        n = data.n_items
        place = f"stage {ctx.stage}"
        if n > self.config.max_items:
            raise StageError(
                f"{place}: EASE needs a dense matrix of {n:,} × {n:,} items, {_gigabytes(n)}, and "
                f"max_items allows {self.config.max_items:,} items",
                hint="If that fits into memory, raise max_items; otherwise keep fewer items "
                "(data filters) or use item_knn, whose matrix is sparse.",
            )
        train = data.train
        chosen = sp.csr_matrix(
            (np.ones(len(train), np.float32), (train.users, train.items)),
            shape=(train.n_users, n),
        )
        chosen.sum_duplicates()
        chosen.data[:] = 1
        try:
            with ctx.progress("item weights", 2) as advance:
                gram = _gram(chosen)
                gram.flat[:: n + 1] += self.config.regularisation
                advance()
                inverse = invert(gram) if ctx.device == "cpu" else invert_on(ctx.device, gram)
                advance()
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise StageError(
                f"{place}: out of memory for the matrix of {n:,} × {n:,} items, {_gigabytes(n)}",
                hint="Keep fewer items (data filters), or use item_knn, whose matrix is sparse.",
            ) from error
        except ArithmeticError as error:
            raise StageError(
                f"{place}: the item-item matrix cannot be inverted with regularisation "
                f"{self.config.regularisation:g} ({error})",
                hint="Raise regularisation; a few hundred is usual.",
            ) from error
        diagonal = -inverse.diagonal()
        for start in range(0, n, BLOCK_ROWS):
            inverse[start : start + BLOCK_ROWS] /= diagonal
        inverse.flat[:: n + 1] = 0
        self._weights = inverse
        self._counts = train.item_counts().astype(np.float32)

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        if self._weights is None or self._counts is None:
            raise StageError("EASE is not fitted", hint="Call fit or load_state first.")
        rows, items = histories.rows, histories.items
        chosen = sp.csr_matrix(
            (np.ones(len(items), np.float32), (rows, items)),
            shape=(len(histories), histories.n_items),
        )
        chosen.sum_duplicates()
        chosen.data[:] = 1
        scores: FloatArray = chosen @ self._weights
        says = np.bincount(rows[self._counts[items] > 0], minlength=len(histories)) > 0
        scores[~says] = self._counts
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)

    def get_state(self) -> State:
        if self._weights is None or self._counts is None:
            return {}
        return {"weights": self._weights, "counts": self._counts}

    def load_state(self, state: State) -> None:
        self._weights = np.asarray(state["weights"], dtype=np.float32) if state else None
        self._counts = np.asarray(state["counts"], dtype=np.float32) if state else None


def _gram(chosen: sp.csr_matrix) -> FloatArray:
    """Returns how many users chose both of two items, ``(n_items, n_items)``, in blocks of rows.

    The sparse product's indices would take three times the room of the dense result.
    """
    by_item = chosen.T.tocsr()
    gram = np.empty((chosen.shape[1], chosen.shape[1]), dtype=np.float32)
    for start in range(0, len(gram), BLOCK_ROWS):
        block = (by_item[start : start + BLOCK_ROWS] @ chosen).toarray()
        gram[start : start + BLOCK_ROWS] = block
    return gram


def invert(gram: FloatArray) -> FloatArray:
    """Inverts a symmetric positive definite matrix ``(n, n)`` float32 in its own memory.

    Raises:
        ArithmeticError: If it is not positive definite.
    """
    # The transpose of a C-ordered array is Fortran-ordered, so LAPACK works without a copy.
    factor, failed = lapack.spotrf(gram.T, lower=1, clean=0, overwrite_a=1)
    if failed:
        raise ArithmeticError("not positive definite")
    inverse, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ArithmeticError("its Cholesky factor is singular")
    result: NDArray[Any] = inverse.T  # the upper triangle is filled
    for start in range(0, len(result), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(result))
        square = result[start:stop, start:stop]
        square[:] = np.triu(square) + np.triu(square, 1).T
        result[stop:, start:stop] = result[start:stop, stop:].T
    return result


def invert_on(device: str, gram: FloatArray) -> FloatArray:
    """Inverts a symmetric positive definite matrix ``(n, n)`` float32 on a torch device.

    Raises:
        ArithmeticError: If it is not positive definite.
    """
    import torch

    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(gram).to(device))
    if failed:
        raise ArithmeticError("not positive definite")
    inverse: FloatArray = torch.cholesky_inverse(factor).cpu().numpy()
    return inverse


def _gigabytes(n_items: int) -> str:
    return f"{4 * n_items**2 / 1e9:,.1f} GB"
