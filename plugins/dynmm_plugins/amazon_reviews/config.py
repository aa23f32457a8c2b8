"""Settings of the reader of Amazon reviews."""

from __future__ import annotations

from pydantic import model_validator

from dynmm_framework.config.blocks import Block


class AmazonReviewsConfig(Block):
    """Where the reviews of a category are, and the metadata of its products."""

    record: str | None = None
    """Registered dataset (``dynmm registry list --kind dataset``) whose files are read; they are
    fetched. Null: ``path`` is your own.
    """
    path: str | None = None
    """File of reviews, one JSON object a line, plain or gzip; or a folder with one such file and
    perhaps its ``meta_*`` file.
    """
    metadata: str | None = None
    """File of metadata in the same form; null takes the ``meta_*`` file if ``path`` is a folder,
    and reads none if ``path`` is a file.
    """
    keep_unseen_items: bool = False
    """Keep the products that nobody reviewed in the catalogue."""
    reviews: bool = False
    """Read the texts of the reviews too, for components that learn from them or quote them."""

    @model_validator(mode="after")
    def _names_one_place(self) -> AmazonReviewsConfig:
        if (self.record is None) == (self.path is None):
            raise ValueError("name either path, a file or folder of yours, or record")
        if self.record is not None and self.metadata is not None:
            raise ValueError("metadata goes with path; a record brings its own")
        return self
