"""Contexts for tests: real ones of the engine, over the generated data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.data.splits import Split
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.evaluation.evaluate import expand, make_validator
from dynmm_framework.protocols import Validator


class TrainingStopped(BaseException):
    """Ends a training like a kill would: no ``except Exception`` of a component holds it up."""


@dataclass(frozen=True)
class RecordingContext(RunContext):
    """A context that keeps what a component reports, and can end its training.

    Attributes:
        stop_after: Raise :class:`TrainingStopped` when this epoch is reported; 0 for never.
        epochs: The epochs that were reported, in order.
    """

    stop_after: int = 0
    epochs: list[int] = field(default_factory=list)

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        super().epoch_finished(epoch, metrics)
        self.epochs.append(epoch)
        if epoch == self.stop_after:
            raise TrainingStopped(f"stopped after epoch {epoch}")


@dataclass(frozen=True)
class ContextFactory:
    """Makes contexts with fresh workdirs and a validator on the split's validation users.

    Attributes:
        catalogue: The components that a context knows.
        split: Gives the validation users.
        folder: Where workdirs are made.
    """

    catalogue: Catalogue
    split: Split
    folder: Path
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    def __call__(
        self,
        *,
        seed: int = 0,
        device: str = "cpu",
        workdir: Path | None = None,
        validate: bool = True,
        stop_after: int = 0,
    ) -> RecordingContext:
        """Makes a context.

        Args:
            seed: The stage's seed.
            device: A torch device.
            workdir: Scratch folder, to go on from what an earlier training left there; a fresh
                one if ``None``.
            validate: Whether there is a validator (NDCG@10), as in a split with validation users.
            stop_after: End the training, as a kill would, when this epoch is reported; 0 for
                never.
        """
        if workdir is None:
            workdir = self.folder / f"work-{next(self._numbers)}"
        workdir.mkdir(parents=True, exist_ok=True)
        return RecordingContext(
            Surroundings(self.catalogue),
            stage="test",
            seed=seed,
            device=device,
            workdir=workdir,
            validator=self._validator() if validate else None,
            stop_after=stop_after,
        )

    def _validator(self) -> Validator:
        (request,) = expand([self.catalogue.metric("ndcg")], [10])
        return make_validator(self.split.evaluation("valid"), request)
