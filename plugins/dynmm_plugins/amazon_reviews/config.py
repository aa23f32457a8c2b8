"""Settings of the reader of Amazon reviews."""

from __future__ import annotations

from dynmm_framework.config.blocks import Block


class AmazonReviewsConfig(Block):
    """Where the reviews of a category are, and the metadata of its products."""

    path: str
    """File of reviews, one JSON object a line, plain or gzip; or a folder with one such file and
    perhaps its ``meta_*`` file.
    """
    metadata: str | None = None
    """File of metadata in the same form; null takes the ``meta_*`` file if ``path`` is a folder,
    and reads none if ``path`` is a file.
    """
    keep_unseen_items: bool = False
    """Keep the products that nobody reviewed in the catalogue."""
