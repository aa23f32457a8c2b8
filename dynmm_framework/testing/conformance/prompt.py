"""What holds for adapters of slot ``prompt``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import BaseModel

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.config.parts import LanguageModelRef, references
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.evaluation.scoring import as_tensor
from dynmm_framework.protocols import FloatArray, IntArray
from dynmm_framework.specs import Kind
from dynmm_framework.testing.conformance.align import FixedBackbone
from dynmm_framework.testing.conformance.component import ComponentConformance, require
from dynmm_framework.testing.contexts import ContextFactory

DIM = 12
"""Width of the vectors that retrieve."""
CANDIDATES = 8
"""Items that are scored for each user."""


class PromptConformance(ComponentConformance):
    """Conformance of adapters by which a frozen language model re-ranks what vectors retrieve.

    Name ``tiny_random`` as the language model: two layers with random weights, made on the spot::

        class TestMyPrompt(PromptConformance):
            component = "my_prompt"
            config = {"llm": "tiny_random", "epochs": 1, "examples": 20}
    """

    kind: ClassVar[Kind] = "adapter"

    @pytest.fixture
    def data(self, dynmm_split: Split, dynmm_dataset: Dataset) -> TrainingData:
        return dynmm_split.training_data(dynmm_dataset.items)

    @pytest.fixture
    def base(self, data: TrainingData) -> FixedBackbone:
        """What retrieves: it knows who likes what genre."""
        rng = np.random.default_rng(1)
        vectors = rng.normal(0, 0.5, (data.n_items, DIM)).astype(np.float32)
        vectors[:, :6] += np.eye(6, dtype=np.float32)[np.arange(data.n_items) % 6]
        return FixedBackbone(vectors)

    @pytest.fixture
    def histories(self, dynmm_split: Split) -> Histories:
        """A few users, the last of them without any history."""
        few = dynmm_split.evaluation("test").histories.take(slice(0, 3))
        rows = [few[row].tolist() for row in range(len(few))]
        return Histories.of([*rows, []], few.n_items)

    @pytest.fixture
    def candidates(self, histories: Histories, data: TrainingData) -> IntArray:
        rng = np.random.default_rng(3)
        drawn = [rng.permutation(data.n_items)[:CANDIDATES] for _ in range(len(histories))]
        return np.stack(drawn).astype(np.int32)

    @pytest.fixture
    def train(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        base: FixedBackbone,
        dynmm_context: ContextFactory,
    ) -> Callable[..., Any]:
        """Trains a new adapter: ``train()``, or with settings of the context."""

        def train(**changed: Any) -> Any:
            ctx = dynmm_context(**changed)
            adapter = make()
            if callable(getattr(adapter, "connect", None)):
                adapter.connect(ctx)
            adapter.fit(data, base, ctx)
            return adapter

        return train

    def test_scores_are_finite_and_of_the_shape_asked_for(
        self, train: Callable[..., Any], histories: Histories, candidates: IntArray
    ) -> None:
        adapter = train()
        every = scores(adapter, histories)
        require(
            every.shape == (len(histories), histories.n_items),
            f"scores of the catalogue have the shape {every.shape}, not"
            f" {(len(histories), histories.n_items)}.",
        )
        some = scores(adapter, histories, candidates)
        require(
            some.shape == candidates.shape,
            f"scores of candidates have the shape {some.shape}, not {candidates.shape}.",
        )
        finite = bool(np.isfinite(every).all() and np.isfinite(some).all())
        require(finite, "scores hold NaN or infinity; the last user has no history.")

    def test_the_order_of_candidates_changes_no_score(
        self, train: Callable[..., Any], histories: Histories, candidates: IntArray
    ) -> None:
        adapter = train()
        order = np.random.default_rng(4).permutation(CANDIDATES)
        straight, shuffled = (
            scores(adapter, histories, asked) for asked in (candidates, candidates[:, order])
        )
        require(
            np.allclose(straight[:, order], shuffled, rtol=1e-4, atol=1e-5),
            "the same candidates in another order have other scores: write them in an order that"
            " does not depend on the one they come in, such as one drawn from ctx.rng in fit.",
        )

    def test_what_is_frozen_stays_as_it_is(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        base: FixedBackbone,
        config_model: type[BaseModel],
        dynmm_context: ContextFactory,
    ) -> None:
        ctx = dynmm_context()
        config = config_model.model_validate(dict(self.config))
        named = [ref for _, ref in references(config) if isinstance(ref, LanguageModelRef)]
        models = [ctx.component(ref) for ref in named]
        before = [_digest(base), *(model.weights_digest() for model in models)]
        adapter = make()
        if callable(getattr(adapter, "connect", None)):
            adapter.connect(ctx)
        adapter.fit(data, base, ctx)
        after = [_digest(base), *(model.weights_digest() for model in models)]
        require(before[0] == after[0], "fit changed the vectors that retrieve, which are frozen.")
        require(before == after, "fit changed the language model's weights, which are frozen.")

    def test_a_stored_adapter_gives_the_same_scores(
        self,
        train: Callable[..., Any],
        make: Callable[..., Any],
        base: FixedBackbone,
        histories: Histories,
        candidates: IntArray,
        dynmm_context: ContextFactory,
        tmp_path: Path,
    ) -> None:
        adapter = train()
        save_arrays(tmp_path / "state.safetensors", adapter.get_state())
        again = make()
        if callable(getattr(again, "connect", None)):
            again.connect(dynmm_context())
        again.load_state(load_arrays(tmp_path / "state.safetensors"))
        again.attach(base)
        same = np.array_equal(
            scores(again, histories, candidates), scores(adapter, histories, candidates)
        )
        require(same, "a restored and attached adapter gives other scores than the fitted one.")

    def test_the_same_seed_gives_the_same_scores(
        self, train: Callable[..., Any], histories: Histories, candidates: IntArray
    ) -> None:
        one, two = (scores(train(seed=3), histories, candidates) for _ in range(2))
        require(
            np.array_equal(one, two),
            "two trainings of the same seed gave different scores; take every random number from"
            " ctx.rng, or torch inside dynmm_framework.training.seeding.seeded.",
        )

    def test_it_learns_without_validation_users(
        self, train: Callable[..., Any], histories: Histories, candidates: IntArray
    ) -> None:
        found = scores(train(validate=False), histories, candidates)
        require(
            bool(np.isfinite(found).all()),
            "trained without a validator, scores are not finite.",
        )


def scores(adapter: Any, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
    """Returns an adapter's scores as an array."""
    found: FloatArray = as_tensor(adapter.score(histories, candidates)).detach().cpu().numpy()
    return found


def _digest(base: FixedBackbone) -> str:
    return hashlib.sha256(base.vectors.tobytes()).hexdigest()
