"""BM25 over sparse matrices."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from dynmm_framework.protocols import FloatArray


def bm25_weights(counts: sp.csr_matrix, *, k1: float, b: float) -> sp.csr_matrix:
    """Returns what each word of each passage adds to a score.

    Robertson et al., "Okapi at TREC-3", 1994, with the idf log(1 + (n - df + 0.5) / (df + 0.5)),
    which is never negative. A passage's score for a query of weights q is Σ_t q_t · idf_t ·
    tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)).

    Args:
        counts: How often each passage has each word, ``(n_passages, n_words)``.
        k1: How soon repetitions count no more.
        b: How much length counts.

    Returns:
        Weights of the same shape, each below ``idf_t · (k1 + 1)``.
    """
    out = counts.astype(np.float32).tocsr()
    lengths = np.asarray(out.sum(axis=1))[:, 0]
    mean = max(float(lengths.mean()), 1e-12) if len(lengths) else 1.0
    rows = np.repeat(np.arange(out.shape[0]), np.diff(out.indptr))
    damping = k1 * (1 - b + b * lengths[rows] / mean)
    out.data = out.data * (k1 + 1) / (out.data + damping)
    out.data = (out.data * idf(counts)[out.indices]).astype(np.float32)
    return out


def idf(counts: sp.csr_matrix) -> FloatArray:
    """Returns the inverse document frequency of each word, ``(n_words,)``; above 0."""
    matrix = counts.tocsr()
    documents = np.bincount(matrix.indices, minlength=matrix.shape[1])
    n = matrix.shape[0]
    weights: FloatArray = np.log1p((n - documents + 0.5) / (documents + 0.5)).astype(np.float32)
    return weights
