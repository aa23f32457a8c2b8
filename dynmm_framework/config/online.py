"""The block of online adaptation: an adapter that learns from the stream after the offline part."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import ComponentRef


class OnlineRef(ComponentRef):
    """An online adapter, and what it is compared with on the same stream."""

    controls: bool = True
    """Meet the stream with what could explain the adapter's gain, too: the frozen base alone, with
    a static prior, with decayed popularity, with popularity and transitions; the adapter over the
    static prior alone, without summaries, and frozen after 12 windows."""
    baselines: bool = True
    """Meet it with baselines that learn from every window: recent popularity, decayed transitions,
    item-kNN and session-kNN."""
    ablations: bool = False
    """Meet it with the adapter without each of its parts in turn, and as the paper prints it."""
    retrain_every: Annotated[int, Field(ge=0)] = 0
    """Compare with training the backbone again from scratch every so many windows; 0 for never."""
