"""Settings of the reader of saved datasets."""

from __future__ import annotations

from dynmm_framework.config.blocks import Block


class SavedDatasetConfig(Block):
    """Settings of the reader of saved datasets."""

    path: str
    """The folder that ``Dataset.save`` wrote; relative to the working folder."""
