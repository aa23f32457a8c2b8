"""Settings of the training loop, to be included by components' own configuration models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import Field, ValidationError, model_validator

from dynmm_framework.config.blocks import Block

CHANGEABLE: Final = frozenset({"learning_rate", "weight_decay", "clip_norm", "batch_size"})
"""Settings of the loop that can change while a component is trained."""


class Change(Block):
    """Settings that are others from some epoch on."""

    after: Annotated[int, Field(ge=1)]
    """Epochs that are trained before the change."""
    settings: Annotated[dict[str, Any], Field(min_length=1)]
    """What changes: ``{learning_rate: 0.0003}``. Only settings of how the component learns."""


class LoopConfig(Block):
    """Settings that every gradient-trained component shares; components override defaults."""

    changeable: ClassVar[frozenset[str]] = CHANGEABLE
    """Settings that can change while the component is trained: they decide how it learns, never the
    shape of its weights, nor how it scores. Components add theirs. None if it is trained in parts
    with epochs of their own, so that a schedule would not say which of them it means."""

    epochs: Annotated[int, Field(ge=1)] = 200
    """Most passes over the training data."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Training rows in one step; the component says what a row is."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Step size of the optimiser."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay; 0 is off."""
    clip_norm: Annotated[float, Field(ge=0)] = 5.0
    """Largest norm of the gradient; 0 is off."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights, one update a step; the averaged
    weights are validated and kept. 0 keeps the weights themselves. Over the first steps the
    average is shorter, about a tenth of the steps so far."""
    patience: Annotated[int, Field(ge=0)] = 10
    """Validations without improvement before training stops; 0 trains all epochs."""
    validate_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between checkpoints from which an interrupted training resumes."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 10.0
    """Least time between checkpoints, in seconds, so that short epochs are not slowed down."""
    schedule: list[Change] = []
    """Settings that change while the component is trained, such as ``[{after: 20, settings:
    {learning_rate: 0.0003}}]``: a step of the learning rate, or what population-based training
    has found. Weights and the optimiser's moments are kept."""

    @model_validator(mode="after")
    def _schedule_is_right(self) -> Self:
        if self.schedule and not self.changeable:
            raise ValueError("schedule: this component is trained in parts, and takes none")
        before = 0
        for change in self.schedule:
            if change.after <= before:
                raise ValueError("schedule: every change comes after more epochs than the last")
            before = change.after
        if before >= self.epochs:
            raise ValueError(f"schedule: after {before} epochs, and there are only {self.epochs}")
        for _ in self.legs():  # every leg's settings are checked
            pass
        return self

    def legs(self) -> Iterator[tuple[Self, int | None]]:
        """Yields settings without a schedule, and the last epoch that is trained with them.

        Of the last leg, which is the only one without a schedule, that epoch is ``None``.

        Raises:
            ValueError: If the settings of a leg are wrong.
        """
        given = self.model_dump(mode="json", exclude={"schedule"})
        config = self.model_copy(update={"schedule": []})
        for change in self.schedule:
            if change.after >= self.epochs:  # fewer epochs turned out to be enough
                break
            yield config, change.after
            for name in change.settings:
                if name not in self.changeable:
                    known = ", ".join(sorted(self.changeable))
                    raise ValueError(f"schedule: {name} cannot change on the way, but {known} can")
            given |= change.settings
            try:
                config = type(self).model_validate(given)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join(map(str, first["loc"]))
                raise ValueError(
                    f"schedule: after {change.after} epochs {place}: {first['msg']}"
                ) from error
        yield config, None

    def divided(self, workers: int) -> Self:
        """Returns the settings with which each of several workers trains its share of a batch.

        Together they train on ``batch_size`` rows in one step, on a few more if it is not a
        multiple of their number. Components with further batch sizes divide those too.
        """
        return self.model_copy(update={"batch_size": -(-self.batch_size // workers)})
