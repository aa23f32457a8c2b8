"""Explanations of a recommender that learns from a stream, by evidence that keeps up with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dynmm_framework.config.explain import ExplainBlock
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.engine.device import guess_device
from dynmm_framework.engine.evidence import fresh_evidence
from dynmm_framework.engine.explaining import make_writer
from dynmm_framework.explain.explanations import Explainer
from dynmm_framework.protocols import FloatArray, IntArray, Retriever, State

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run
    from dynmm_framework.explain.writers import Writer


class LiveEvidence:
    """Explains by a run's extractors, each refreshed as its block says.

    It learns from the windows that the recommender has learned, after it has, and begins with the
    run's own stream. What a window says is therefore not told before the window is closed.

    Args:
        run: A run with a stream and evidence.
        base: What the extractors stand on.
        seed: The model seed; the first one by default.

    Raises:
        PluginError: If an extractor is not installed any more, or cannot be brought up to date.
    """

    def __init__(self, run: Run, base: Retriever, *, seed: int | None = None) -> None:
        self._run, self._base = run, base
        self._pipeline = Pipeline.model_validate(run.manifest.pipeline)
        self._fresh = fresh_evidence(run, seed=seed, base=base)
        self._fresh.flush()  # the recommender has closed its last window, too
        block = self._pipeline.explain or ExplainBlock()
        self._explainer = Explainer(self._fresh.source, run.dataset.items, block)

    def learn(self, events: Events) -> list[str]:
        """Takes a closed window; returns the names of the extractors that it made refresh."""
        return self._fresh.learn(events)

    def explain(
        self,
        user: str,
        history: Histories,
        items: IntArray,
        scores: FloatArray,
        *,
        ranks: Sequence[int],
    ) -> list[dict[str, Any]]:
        """Explains items ``(1, k)`` to a user; see :meth:`Run.explain` for the records."""
        found = self._explainer.explain(history, items, scores, writer=self._writer, ranks=ranks)
        return [self._explainer.record(explanation, user) for explanation in found]

    def get_state(self) -> State:
        """Returns what the extractors have learned of the stream."""
        return self._fresh.get_state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores it; of a checkpoint without any, evidence stays at the run's own stream."""
        if state:
            self._fresh.load_state(state, base=self._base)

    @cached_property
    def _writer(self) -> Writer:
        device = guess_device(self._pipeline.compute.device)
        ctx = RunContext(Surroundings(self._run.components), "explain", device=device)
        return make_writer(self._explainer.block, self._explainer, ctx)
