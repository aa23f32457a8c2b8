"""Settings of passages as evidence."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block


class RetrievedMetadataConfig(Block):
    """Settings of passages as evidence."""

    k: Annotated[int, Field(ge=1)] = 1
    """Most passages of a pair of user and candidate."""
    columns: list[str] | None = None
    """Columns of the item table whose sentences may be quoted. Null takes ``text`` if there is one.
    """
    reviews: bool = False
    """Quote sentences of reviews too; the data must have them (``data.config.reviews`` of
    ``amazon_reviews``).
    """
    query: list[str] = ["title", "categories", "genres", "text"]
    """Columns whose words tell what a user's items are about; those that do not exist are left
    out.
    """
    words: Annotated[int, Field(ge=1)] = 20
    """Most telling words of an item, by TF-IDF, that go into a query."""
    history: Annotated[int, Field(ge=1)] = 10
    """Newest items of a user that make the query."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Weight of an item's words relative to those of the next newer one."""
    passages: Annotated[int, Field(ge=1)] = 20
    """Most sentences kept of an item, the first ones; of those of reviews likewise."""
    largest_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Largest share of the passages that may hold a word that is asked for."""
    k1: Annotated[float, Field(ge=0)] = 1.2
    """BM25: how soon repetitions of a word count no more."""
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    """BM25: how much long passages are held to have more words by chance."""
