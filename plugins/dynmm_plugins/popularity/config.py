"""Settings of the popularity baseline."""

from __future__ import annotations

from dynmm_framework.config.blocks import Block


class PopularityConfig(Block):
    """Popularity has no settings: its score is the number of training interactions."""
