"""Settings of the training loop, to be included by components' own configuration models."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from dynmm_framework.config.blocks import Block


class LoopConfig(Block):
    """Settings that every gradient-trained component shares; components override defaults."""

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

    def divided(self, workers: int) -> Self:
        """Returns the settings with which each of several workers trains its share of a batch.

        Together they train on ``batch_size`` rows in one step, on a few more if it is not a
        multiple of their number. Components with further batch sizes divide those too.
        """
        return self.model_copy(update={"batch_size": -(-self.batch_size // workers)})
