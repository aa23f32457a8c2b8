"""Contexts for tests: real ones of the engine, over the generated data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.data.splits import Split
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.evaluation.evaluate import expand, make_validator


@dataclass(frozen=True)
class ContextFactory:
    """Makes contexts with fresh workdirs and a validator on the split's validation users."""

    catalogue: Catalogue
    split: Split
    folder: Path
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    def __call__(self, *, seed: int = 0, device: str = "cpu") -> RunContext:
        workdir = self.folder / f"work-{next(self._numbers)}"
        workdir.mkdir(parents=True)
        (request,) = expand([self.catalogue.metric("ndcg")], [10])
        return RunContext(
            Surroundings(self.catalogue),
            stage="test",
            seed=seed,
            device=device,
            workdir=workdir,
            validator=make_validator(self.split.evaluation("valid"), request),
        )
