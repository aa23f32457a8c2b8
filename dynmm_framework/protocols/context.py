"""What a running stage may use of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.protocols.arrays import Precision, Scores

if TYPE_CHECKING:
    from dynmm_framework.config.parts import PartRef
    from dynmm_framework.data.tables import EvaluationSet, Histories


def _alone(values: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    return (values,)


@dataclass(frozen=True)
class Workers:
    """The processes that train one component together, each on its share of every batch.

    Attributes:
        rank: Number of this process, from 0, which is the one that writes files.
        size: Number of processes; 1 where there is no other.
        gather: Gives every process the one-dimensional float64 arrays of all, by rank. All
            processes must call it, and equally often.
    """

    rank: int = 0
    size: int = 1
    gather: Callable[[NDArray[np.float64]], Sequence[NDArray[np.float64]]] = _alone


@dataclass(frozen=True)
class Leg:
    """How much of a training is asked for, where it is done in several legs.

    Attributes:
        since: Epochs that the legs before have trained.
        until: The leg's last epoch, after which the training is left as it is, to go on from with
            other settings; ``None`` trains to the end.
        keep: Whether to write a checkpoint after every epoch, before it is reported.
    """

    since: int = 0
    until: int | None = None
    keep: bool = False


class Validator(Protocol):
    """Scores a model on the validation users while it trains.

    Attributes:
        metric: The metric that is followed, such as ``ndcg@10``.
        higher_is_better: Its direction.
        evaluation: The validation users, for the few weights that are fitted on them.
    """

    metric: str
    higher_is_better: bool
    evaluation: EvaluationSet

    def take(self, rows: NDArray[Any]) -> Validator:
        """Returns the same on some of the evaluation's users, by row."""
        ...

    def __call__(self, score: Callable[[Histories], Scores]) -> Mapping[str, float]:
        """Returns metric values, ``metric`` among them, for a function that scores all items."""
        ...


class Context(Protocol):
    """What a running stage may use of its surroundings.

    Attributes:
        stage: Name of the stage, such as ``fit/sasrec/seed-7``; names what fails.
        seed: The stage's own seed, spawned from the run's by stage name.
        device: A torch device string, already resolved: ``cpu``, ``cuda:0``.
        precision: ``fp32``, or ``bf16`` for autocast in training.
        workdir: Private scratch folder that survives a kill; holds training checkpoints.
        offline: Whether the network must not be touched.
        validator: Scores on validation data; ``None`` if the split has none.
        workers: The processes that train together; usually this one alone. The shared loop and the
            validator see to all of it.
        leg: How much of the training is asked for; all of it if ``None``. The shared loop sees to
            it.
    """

    @property
    def stage(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def workdir(self) -> Path: ...
    @property
    def offline(self) -> bool: ...
    @property
    def validator(self) -> Validator | None: ...
    @property
    def workers(self) -> Workers: ...
    @property
    def leg(self) -> Leg | None: ...

    def rng(self, name: str) -> np.random.Generator:
        """Returns a generator that depends on the stage's seed and ``name`` only."""
        ...

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        """Opens a progress bar; the yielded function is called as ``advance(n=1, note="")``."""
        ...

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tells observers that an epoch (from 1) of this stage is finished."""
        ...

    def record(self, name: str, value: Any) -> None:
        """Keeps a fact about this stage (plain data) in its manifest, such as learning curves."""
        ...

    def fetch(self, record: str) -> Path:
        """Returns the folder of a registered dataset's or model's files, fetched if need be."""
        ...

    def component(self, ref: PartRef) -> Any:
        """Returns a component that the stage's own stands on, as its settings name it.

        Backbones and baselines are new and not fitted; encoders and language models are loaded
        onto the device. A run keeps one language model in memory and gives it to all that ask for
        it: nobody may change it.
        """
        ...

    def part(self, name: str) -> Context:
        """Returns the context in which a part is trained: a stage, seed and folder of its own."""
        ...

    def log(self, message: str) -> None:
        """Writes one line to the run's log."""
        ...
