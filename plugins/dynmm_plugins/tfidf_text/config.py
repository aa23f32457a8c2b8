"""Settings of texts by TF-IDF and truncated SVD."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from dynmm_framework.config.blocks import Block


class TfidfTextConfig(Block):
    """Settings of texts by TF-IDF and truncated SVD."""

    dim: Annotated[int, Field(ge=1)] = 256
    """Width of the vectors; less if the texts have fewer documents or terms."""
    max_terms: Annotated[int, Field(ge=1)] = 50_000
    """Most frequent terms that are kept."""
    min_documents: Annotated[int, Field(ge=1)] = 2
    """Texts that a term must appear in; 1 if no term appears in so many."""
    max_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Terms that appear in a larger share of the texts say nothing and are left out."""
    ngrams: Annotated[int, Field(ge=1, le=3)] = 1
    """Longest run of words that is a term."""
    stop_words: bool = False
    """Leave out the function words of English."""

    @model_validator(mode="after")
    def _terms_allow_width(self) -> TfidfTextConfig:
        if self.dim > self.max_terms:
            raise ValueError(f"dim ({self.dim}) is more than max_terms ({self.max_terms})")
        return self
