"""Which metric at which cut-off, and how its function is found and called."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.errors import DynmmError, PluginError
from dynmm_framework.evaluation import metrics
from dynmm_framework.evaluation.outcome import Outcome
from dynmm_framework.protocols import Metric
from dynmm_framework.specs import MetricSpec


@dataclass(frozen=True)
class MetricRequest:
    """A metric at a cut-off.

    Attributes:
        name: As in results: ``ndcg@10``, or ``mrr`` for a metric without cut-off.
        spec: The registered metric.
        k: The cut-off; ``None`` for a metric without one.
    """

    name: str
    spec: MetricSpec
    k: int | None

    @property
    def function_name(self) -> str:
        return self.spec.target.partition(":")[2]

    @property
    def from_ranks(self) -> bool:
        """Whether the metric is known to need ranks only, no lists of items."""
        module = self.spec.target.partition(":")[0]
        return module == metrics.__name__ and self.function_name in metrics.FROM_RANKS

    def load(self) -> Metric:
        """Imports the metric's function.

        Raises:
            PluginError: If it cannot be imported.
        """
        module, _, attribute = self.spec.target.partition(":")
        try:
            function: Metric = operator.attrgetter(attribute)(importlib.import_module(module))
        except (ImportError, AttributeError) as error:
            raise PluginError(f"metric {self.spec.name} cannot be loaded: {error}") from error
        return function

    def __call__(self, outcome: Outcome) -> NDArray[np.float64] | float:
        """Computes the metric: one value for each row of the outcome, or one for all.

        Raises:
            PluginError: If the function fails or returns another shape than its spec says.
        """
        try:
            found = self.load()(outcome, self.k)
        except DynmmError:
            raise
        except Exception as error:
            raise PluginError(
                f"metric {self.name} ({self.spec.target}) failed: {type(error).__name__}: {error}"
            ) from error
        if not self.spec.per_user:
            return float(found)
        values = np.asarray(found, dtype=np.float64)
        if values.shape != (len(outcome),):
            raise PluginError(
                f"metric {self.name} ({self.spec.target}) returned shape {values.shape} where one"
                f" value for each of {len(outcome)} rows was asked for",
                hint="Set per_user=False in its MetricSpec if it returns one value for all.",
            )
        return values


def expand(specs: Iterable[MetricSpec], at: Iterable[int]) -> tuple[MetricRequest, ...]:
    """Returns every metric at every cut-off, smallest first; once if it takes none."""
    cutoffs = sorted(set(at))
    requests = []
    for spec in specs:
        if spec.at_cutoff:
            requests += [MetricRequest(f"{spec.name}@{k}", spec, k) for k in cutoffs]
        else:
            requests.append(MetricRequest(spec.name, spec, None))
    return tuple(requests)
