"""Settings of the KuaiRec reader."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynmm_framework.config.blocks import Block


class KuaiRecConfig(Block):
    """Where KuaiRec is, and which of it is read."""

    path: str
    """Folder with ``big_matrix.csv`` and ``small_matrix.csv``, or the one above its ``data``. Read
    when they are there: ``item_categories.csv`` and ``kuairec_caption_category.csv``.
    """
    matrix: Literal["big", "small"] = "big"
    """``big``: 7,176 users, 10,728 videos, 16 % of all pairs; ``small``: 1,411 users, 3,327 videos,
    nearly all pairs, meant for unbiased testing.
    """
    min_watch_ratio: Annotated[float, Field(ge=0)] | None = None
    """Keep views whose watch ratio (time watched by length of the video, above 1 for repeats) is at
    least this; 2 is the data set's own example of a liked video. Null keeps all.
    """
    undated: Literal["drop", "error"] = "drop"
    """What happens to views without time, of which the small matrix has some."""
    keep_unseen_items: bool = False
    """Keep the videos that nobody watched in the catalogue."""
