"""What a search and the place where its trials run know of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dynmm_framework.tuning.epochs import Epoch
from dynmm_framework.tuning.records import Objective, TrialRecord
from dynmm_framework.tuning.trial import Order, Outcome


class Host(Protocol):
    """The search: gives trials out, and is told of what they do.

    Attributes:
        objective: What early stopping follows.
        known: Trials of earlier sittings.
        template: What all trials are told alike; number and settings are left open.
        seed: Of the search.
        over: Whether no other trial will be given out.
    """

    @property
    def objective(self) -> Objective: ...
    @property
    def known(self) -> Sequence[TrialRecord]: ...
    @property
    def template(self) -> Order: ...
    @property
    def seed(self) -> int: ...
    @property
    def over(self) -> bool: ...

    def next(self) -> Order | None:
        """Returns another trial; ``None`` if none is wanted at present."""
        ...

    def epoch(self, number: int, epoch: Epoch) -> None:
        """Takes an epoch of a trial that runs."""
        ...

    def begun(self, number: int, params: Mapping[str, Any]) -> None:
        """Notes that a worker has taken a trial, or has taken it again with other settings."""
        ...

    def ended(self, number: int, outcome: Outcome) -> None:
        """Takes what a trial gave."""
        ...

    def look(self) -> None:
        """Called a few times a second, so that a person sees what happens."""
        ...


class Executor(Protocol):
    """Where trials run."""

    @property
    def name(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def startup_seconds(self) -> float: ...

    def run(self, host: Host) -> None:
        """Runs trials until the search has no more."""
        ...

    def stop(self) -> None:
        """Ends what runs."""
        ...
