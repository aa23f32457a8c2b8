"""Settings that every online adapter shares; read without importing anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from dynmm_framework.config.blocks import Block
from dynmm_framework.config.windows import WindowRule

Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
HalfLife = Annotated[float, Field(gt=0)]


class OnlineConfig(Block):
    """Settings of the stream around an adapter; an adapter's own configuration derives from it."""

    window: int | str = 500
    """Length of a window: a number of events, or a time as ``1h``, ``30min`` or ``1d`` (paper)."""
    span: Literal[1, 6, 24] = 24
    """Windows in which an item must have had an event to be corrected (paper: 1)."""
    recent_users: bool = False
    """Summarise users by the last window (paper) instead of by their history."""
    steps: Count = 5
    """Steps of learning after each window; 0 never learns."""
    batch: Size = 1024
    """Most events of a window in one step; of a longer window as many are drawn."""
    replay: Count = 1024
    """Most past events replayed in one step (paper: 1,024)."""
    replay_windows: Count = 2
    """Past windows that they come from, each with the summaries that were its own."""
    replay_kept: Count = 16
    """Past windows of which events are kept, by reservoir sampling."""
    warm_up: Count | None = None
    """Windows before the stream, the newest, on which the adapter learns already; at most, and if
    null, all of those held out for validation, as the base knows the others by heart. Popularity's
    guard sees all of these in any case."""
    prior: Weight = 1.0
    """Weight of log(training events + 1), which is added to the base's scores where there are no
    decayed priors; without any learning."""
    popularity: Weight = 0.7
    """Weight of log(decayed events + 1)."""
    popularity_guard: bool = True
    """Serve as much of that weight, none, half or all, as its recent results support, all of it
    before there are any; without it always all."""
    popularity_guard_half_life: HalfLife = 2_000.0
    """Events after which a result counts half for that."""
    transitions: Weight = 2.0
    """Weight of log(decayed transitions from the last items + 1)."""
    half_life: HalfLife = 10_000.0
    """Events after which an event counts half in decayed popularity."""
    transition_half_life: HalfLife = 50_000.0
    """Events after which a transition counts half."""
    lasting_half_life: HalfLife | None = 400_000.0
    """Half-life of a long-term memory of popularity and transitions, for users who have been away
    for more than ``half_life`` events; null for none."""
    transition_items: Size = 5
    """Newest items of a history from which transitions lead to the next."""
    transition_fading: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Factor from each of these items to the one before it."""
    guard: bool = True
    """Serve as much of the correction, λ of 0, 0.3, 0.6 or 1, as its recent results support;
    without it always all."""
    guard_half_life: HalfLife = 10_000.0
    """Events after which a result counts half for the guard."""
    history: Size = 1000
    """Newest items of each user that are kept and masked."""
    known_users: Size = 1_000_000
    """Users whose history is kept: those seen last."""
    repeats: Size = 3
    """Events of one user with one item in one window that count; further ones are skipped."""
    per_user: Size = 1000
    """Events of one user in one window that count."""
    probe: Count = 1000
    """Events, drawn from those held out before the stream and at most a fifth of them, that
    nothing is ever learned from: on them it is measured what the stream makes forget."""
    probe_every: Count = 10
    """Windows between two such measurements; 0 measures only before and after the stream."""
    horizon_days: Annotated[float, Field(gt=0)] = 365.0
    """An event this much after the newest is taken for a wrong clock and skipped, unless ten in a
    row agree."""
    drift: bool = True
    """Watch the prequential NDCG with ADWIN; an alarm is logged and reported."""
    drift_boost: Annotated[float, Field(ge=1)] = 1.0
    """Factor on the learning rate for ten windows after an alarm; 1 for none."""

    @field_validator("window")
    @classmethod
    def _is_a_length(cls, value: int | str) -> int | str:
        WindowRule.parse(value)
        return value

    @property
    def rule(self) -> WindowRule:
        return WindowRule.parse(self.window)

    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns, for ablations, what is set otherwise, by the name of the strategy it makes.

        What concerns the stream and not the adapter, as windows and half-lives, is shared by all
        strategies and cannot vary.
        """
        return {}

    def varied(self, changes: Mapping[str, Any]) -> Self:
        """Returns the settings with some of them changed.

        Raises:
            pydantic.ValidationError: If a changed one is not valid.
        """
        return type(self).model_validate({**self.model_dump(), **changes})
