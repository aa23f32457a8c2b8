"""Trainings whose settings change on the way: leg after leg, each from what the last one left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel

from dynmm_framework.engine.context import RunContext
from dynmm_framework.errors import LegFinishedError, StageError
from dynmm_framework.protocols import Leg
from dynmm_framework.training.config import LoopConfig

T = TypeVar("T")


def fit_in_legs(config: BaseModel, ctx: RunContext, fit: Callable[[BaseModel, RunContext], T]) -> T:
    """Trains a component: once, or once for every leg of its schedule.

    The component is made anew for each leg, with the leg's settings, and the shared loop goes on
    from the checkpoint of the leg before. A training that was interrupted goes through the legs
    again, and those that are done end at once.

    Args:
        config: Settings of the component; those with a schedule are of the shared loop.
        ctx: The stage's context.
        fit: Makes the component with the given settings, trains it, and returns what is wanted.

    Raises:
        StageError: If several processes were to train a schedule together.
    """
    keep = ctx.surroundings.keep_epochs
    if not isinstance(config, LoopConfig) or not (config.schedule or keep):
        return fit(config, ctx)
    if ctx.workers.size > 1:
        raise StageError(
            f"stage {ctx.stage}: a schedule of settings is trained in one process",
            hint="Leave compute.workers out, or the schedule.",
        )
    since = 0
    for settings, until in config.legs():
        leg = Leg(since, until, keep)
        try:
            return fit(settings, replace(ctx, leg=leg))
        except LegFinishedError:
            if until is None:
                raise
            since = until
            ctx.log(f"settings change after {until} epochs")
    raise AssertionError("the last leg has no last epoch")
