"""Latent semantic analysis: TF-IDF, then truncated SVD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from dynmm_framework.errors import StageError
from dynmm_framework.protocols import Context, FloatArray
from dynmm_plugins.tfidf_text.config import TfidfTextConfig


class TfidfText:
    """Latent semantic analysis (Deerwester et al., JASIS 1990) on TF-IDF weights.

    Terms are words of at least two letters, weighted (1 + log count) · idf and L2-normalised; the
    matrix is reduced to its ``dim`` largest singular directions and the vectors are normalised
    again. A text without a known term gets zeros. Where texts are few, the width is the number of
    texts or terms, whichever is less.

    Time is O(terms in the texts · dim), memory O(max_terms · dim). It learns from the texts, so
    its vectors belong to that set of texts.
    """

    modality = "text"

    def __init__(self, config: TfidfTextConfig) -> None:
        self.config = config
        self.dim = config.dim
        self._terms: TfidfVectorizer | None = None
        self._svd: TruncatedSVD | None = None
        self._fitted = False

    def load(self, ctx: Context) -> None:
        """Has nothing to load: what there is to know is learned from the texts."""

    def prepare(self, value: str) -> str:
        return value

    def fit(self, inputs: Sequence[str], ctx: Context) -> None:
        """Learns the terms and their directions.

        Args:
            inputs: The texts of all items that have one.
            ctx: The stage's context.
        """
        self._terms, matrix = self._count(inputs, ctx)
        documents, terms = matrix.shape if matrix is not None else (len(inputs), 0)
        self.dim = max(1, min(self.config.dim, documents, terms))
        if self.dim < self.config.dim:
            ctx.log(
                f"tfidf_text: {documents:,} texts with {terms:,} terms allow a width of {self.dim}"
                f" instead of {self.config.dim}"
            )
        self._svd = None
        if terms > 1:  # a single term is its own direction, and the library wants two
            seed = int(ctx.rng("tfidf_text").integers(2**31))
            self._svd = TruncatedSVD(self.dim, n_iter=7, random_state=seed)
            # One text, or texts that are all alike, have no variance to explain.
            with np.errstate(invalid="ignore", divide="ignore"):
                self._svd.fit(matrix)
        self._fitted = True

    def encode(self, batch: Sequence[str]) -> FloatArray:
        if not self._fitted:
            raise StageError("tfidf_text is not fitted", hint="Call fit with all texts first.")
        if self._terms is None or not batch:
            return np.zeros((len(batch), self.dim), np.float32)
        weights = self._terms.transform(batch)
        vectors = weights.toarray() if self._svd is None else self._svd.transform(weights)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        out: FloatArray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
        return out

    def _count(self, inputs: Sequence[str], ctx: Context) -> tuple[TfidfVectorizer | None, Any]:
        """Returns the vectoriser and its matrix; loosened until there are terms, if ever."""
        config = self.config
        for fewest, largest in ((config.min_documents, config.max_share), (1, 1.0)):
            if fewest > largest * len(inputs):
                continue
            terms = TfidfVectorizer(
                max_features=config.max_terms,
                min_df=fewest,
                max_df=largest,
                ngram_range=(1, config.ngrams),
                stop_words="english" if config.stop_words else None,
                strip_accents="unicode",
                sublinear_tf=True,
                dtype=np.float32,
            )
            try:
                matrix = terms.fit_transform(inputs)
            except ValueError as error:  # no term is left, which the library calls an error
                if "no terms remain" not in str(error) and "empty vocabulary" not in str(error):
                    raise
                continue
            if (fewest, largest) != (config.min_documents, config.max_share):
                ctx.log(
                    "tfidf_text: too few texts to leave rare and common terms out; all are kept"
                )
            return terms, matrix
        ctx.log("tfidf_text: the texts have no terms, so their vectors are zero")
        return None, None
