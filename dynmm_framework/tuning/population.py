"""Population-based training: what may change on the way, and what a member has been trained with.

Members of a population are trained side by side. Now and then the worst take over the weights of
the best and go on with settings that are a little different (Jaderberg et al., Population Based
Training of Neural Networks, arXiv:1711.09846). What is found is no setting but a schedule of them:
the way that the best member's weights have come. Written down as the component's ``schedule``, it
is a pipeline like any other, and running it trains the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.config.search import Dimension, SearchBlock
from dynmm_framework.errors import Problem
from dynmm_framework.training.config import LoopConfig

SCHEDULE = "schedule"


def population_problems(loaded: LoadedPipeline, block: SearchBlock) -> list[Problem]:
    """Returns what of a search cannot be done by population-based training."""
    if block.scheduler.name != "pbt":
        return []
    root, label = _learner(loaded)
    if loaded.pipeline.online is not None or label is None:
        message = "pbt: a stream's adapter is not trained in epochs; leave the scheduler out"
        return [Problem(message, path="search.scheduler")]
    config = loaded.configs[label]
    if not isinstance(config, LoopConfig) or not config.changeable:
        message = f"pbt: {label} is not trained in one sequence of epochs"
        return [Problem(message, path="search.scheduler")]
    problems = []
    if config.schedule:
        message = "pbt finds the schedule; leave this one out"
        problems.append(Problem(message, path=f"{root}.config.{SCHEDULE}"))
    for name in ("interval", "grace"):
        if getattr(block.scheduler, name) >= config.epochs:
            message = f"nothing would ever change: {label} has no more than {config.epochs} epochs"
            problems.append(Problem(message, path=f"search.scheduler.{name}"))
    if block.time_budget is not None:
        message = "pbt trains all members to the end; set epochs and trials instead"
        problems.append(Problem(message, path="search.time_budget"))
    if block.sampler == "grid":
        problems.append(Problem("pbt has no grid; write random or tpe", path="search.sampler"))
    if block.trials < 2:
        problems.append(Problem("pbt needs a population of 2 at least", path="search.trials"))
    for path, dimension in loaded.space.items():
        block_path, _, name = path.rpartition(".")
        if block_path != f"{root}.config" or name not in config.changeable:
            known = ", ".join(sorted(config.changeable))
            message = f"pbt: cannot change while {label} is trained; {root}.config can in {known}"
            problems.append(Problem(message, path=f"search.space.{path}"))
        elif dimension.when:
            message = "pbt: a setting changes on the way, so nothing can depend on another"
            problems.append(Problem(message, path=f"search.space.{path}.when"))
    return problems


def population_epochs(loaded: LoadedPipeline, block: SearchBlock) -> int:
    """Returns how many epochs a population is trained for; 0 if the search trains none."""
    label = _learner(loaded)[1]
    if block.scheduler.name != "pbt" or label is None:
        return 0
    return int(getattr(loaded.configs[label], "epochs"))  # noqa: B009


def _learner(loaded: LoadedPipeline) -> tuple[str, str | None]:
    """Returns the block, and the label, of what the search judges."""
    for root, role in (("prompt", "prompt"), ("align", "align"), ("backbone", "fit")):
        if getattr(loaded.pipeline, root) is not None:
            return root, loaded.pipeline.own(role)  # type: ignore[arg-type]
    return "baseline", loaded.pipeline.own("fit")


def drawn(dimension: Dimension, rng: np.random.Generator) -> Any:
    """Draws one of a dimension's values."""
    if dimension.values is not None:
        return dimension.values[int(rng.integers(len(dimension.values)))]
    if dimension.log is not None:
        low, high = np.log([dimension.log.low, dimension.log.high])
        return bounded(dimension, float(np.exp(rng.uniform(low, high))))
    assert dimension.float is not None  # one of the kinds is given
    return float(rng.uniform(dimension.float.low, dimension.float.high))


def bounded(dimension: Dimension, value: Any) -> Any:
    """Returns the value of a dimension that is nearest to one that may be outside it."""
    if dimension.int is not None:
        step, low = dimension.int.step, dimension.int.low
        last = (dimension.values or (low,))[-1]
        return min(max(low + round((value - low) / step) * step, low), last)
    found = dimension.float or dimension.log
    return value if found is None else float(min(max(value, found.low), found.high))


@dataclass(frozen=True)
class Lineage:
    """What the weights of a member have been trained with.

    Attributes:
        first: Settings of the space from the first epoch on.
        changes: Epochs that were trained before each change, and what changed.
    """

    first: Mapping[str, Any]
    changes: tuple[tuple[int, Mapping[str, Any]], ...] = field(default=())

    @property
    def present(self) -> dict[str, Any]:
        """The settings after the last change."""
        values = dict(self.first)
        for _, changed in self.changes:
            values |= changed
        return values

    def going_on(self, params: Mapping[str, Any], *, after: int) -> Self:
        """Returns the lineage of who goes on from here with other settings, if they are others."""
        present = self.present
        changed = {path: value for path, value in params.items() if value != present[path]}
        if not changed:
            return self
        if after == 0:
            return replace(self, first={**self.first, **changed})
        earlier = self.changes
        if earlier and earlier[-1][0] == after:
            *before, (_, last) = earlier
            earlier, changed = tuple(before), {**last, **changed}
        return replace(self, changes=(*earlier, (after, changed)))

    def params(self) -> dict[str, Any]:
        """Returns the settings as a pipeline takes them, with the schedule where there is one."""
        if not self.changes:
            return dict(self.first)
        block = next(iter(self.first)).rpartition(".")[0]
        schedule = [
            {
                "after": after,
                "settings": {path.rpartition(".")[2]: v for path, v in changed.items()},
            }
            for after, changed in self.changes
        ]
        return {**self.first, f"{block}.{SCHEDULE}": schedule}

    def as_json(self) -> dict[str, Any]:
        """Returns the lineage as plain data."""
        changes = [[after, dict(changed)] for after, changed in self.changes]
        return {"first": dict(self.first), "changes": changes}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Turns round what :meth:`as_json` does."""
        return cls(found["first"], tuple((after, changed) for after, changed in found["changes"]))
