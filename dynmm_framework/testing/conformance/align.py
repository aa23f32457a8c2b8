"""What holds for adapters of slot ``align``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.protocols import Context, FloatArray
from dynmm_framework.specs import Kind
from dynmm_framework.testing.conformance.component import ComponentConformance, require
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.testing.features import item_features

DIM = 12
"""Width of the backbone that adapters are tested on."""


class FixedBackbone:
    """A backbone with given vectors; a user is the mean of the history's items."""

    def __init__(self, vectors: FloatArray) -> None:
        self.vectors = vectors

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Learns nothing."""

    def item_vectors(self) -> FloatArray:
        return self.vectors.copy()

    def user_vectors(self, histories: Histories) -> FloatArray:
        out = np.zeros((len(histories), self.vectors.shape[1]), np.float32)
        np.add.at(out, histories.rows, self.vectors[histories.items])
        lengths = np.maximum(histories.lengths, 1)[:, None]
        means: FloatArray = (out / lengths).astype(np.float32)
        return means

    def get_state(self) -> Mapping[str, FloatArray]:
        return {"vectors": self.vectors}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.vectors = state["vectors"]


class AlignConformance(ComponentConformance):
    """Conformance of adapters that bring content and collaborative vectors together.

    The generated data's genres are the content, twice: as text and, noisier and with gaps, as
    images.
    """

    kind: ClassVar[Kind] = "adapter"

    @pytest.fixture
    def data(self, dynmm_split: Split, dynmm_dataset: Dataset) -> TrainingData:
        """Training data with features of two modalities."""
        plain = dynmm_split.training_data(dynmm_dataset.items)
        features = item_features(plain.n_items)
        return TrainingData(plain.train, plain.items, features)

    @pytest.fixture
    def backbone(self, data: TrainingData) -> FixedBackbone:
        """A backbone that knows a little: who likes what genre, and what is popular."""
        rng = np.random.default_rng(1)
        vectors = rng.normal(0, 0.5, (data.n_items, DIM)).astype(np.float32)
        vectors[:, :6] += np.eye(6, dtype=np.float32)[np.arange(data.n_items) % 6]
        return FixedBackbone(vectors)

    @pytest.fixture
    def histories(self, dynmm_split: Split) -> Histories:
        return dynmm_split.evaluation("test").histories

    @pytest.fixture
    def fitted(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        backbone: FixedBackbone,
        dynmm_context: ContextFactory,
    ) -> Any:
        adapter = make()
        adapter.fit(data, backbone, dynmm_context())
        return adapter

    def test_latents_are_finite_and_fit_together(
        self, fitted: Any, data: TrainingData, histories: Histories
    ) -> None:
        items, users = fitted.item_latents(), fitted.user_latents(histories)
        require(
            items.shape[0] == data.n_items and users.shape[0] == len(histories),
            f"latents of {items.shape[0]} items and {users.shape[0]} users were returned for"
            f" {data.n_items} and {len(histories)}.",
        )
        require(
            items.shape[1] == users.shape[1],
            f"an item's latent is {items.shape[1]} wide and a user's {users.shape[1]}; the score"
            " is their inner product.",
        )
        finite = np.isfinite(items).all() and np.isfinite(users).all()
        require(bool(finite), "latents hold NaN or infinity.")

    def test_the_backbone_stays_as_it_is(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        backbone: FixedBackbone,
        dynmm_context: ContextFactory,
    ) -> None:
        before = hashlib.sha256(backbone.vectors.tobytes()).hexdigest()
        adapter = make()
        adapter.fit(data, backbone, dynmm_context())
        adapter.item_latents()
        after = hashlib.sha256(backbone.vectors.tobytes()).hexdigest()
        require(before == after, "fit changed the backbone's vectors, which are frozen.")

    def test_a_stored_adapter_gives_the_same_latents(
        self,
        fitted: Any,
        make: Callable[..., Any],
        data: TrainingData,
        backbone: FixedBackbone,
        histories: Histories,
        tmp_path: Path,
    ) -> None:
        save_arrays(tmp_path / "state.safetensors", fitted.get_state())
        again = make()
        again.load_state(load_arrays(tmp_path / "state.safetensors"))
        again.attach(data.features, backbone)
        same = np.array_equal(again.item_latents(), fitted.item_latents())
        same = same and np.array_equal(
            again.user_latents(histories), fitted.user_latents(histories)
        )
        require(same, "a restored and attached adapter gives other latents than the fitted one.")

    def test_the_same_seed_gives_the_same_latents(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        backbone: FixedBackbone,
        dynmm_context: ContextFactory,
    ) -> None:
        latents = []
        for _ in range(2):
            adapter = make()
            adapter.fit(data, backbone, dynmm_context(seed=3))
            latents.append(adapter.item_latents())
        require(
            np.array_equal(*latents),
            "two trainings of the same seed gave different latents; take every random number from"
            " ctx.rng, or torch inside dynmm_framework.training.seeding.seeded.",
        )

    @pytest.mark.parametrize("share", [0.5, 1.0])
    def test_modalities_may_be_missing_afterwards(
        self,
        fitted: Any,
        data: TrainingData,
        backbone: FixedBackbone,
        histories: Histories,
        share: float,
    ) -> None:
        rng = np.random.default_rng(2)
        for name in data.features:
            fewer = {
                other: found.without(rng.random(data.n_items) < share) if other == name else found
                for other, found in data.features.items()
            }
            fitted.attach(fewer, backbone)
            scores = fitted.user_latents(histories) @ fitted.item_latents().T
            require(
                bool(np.isfinite(scores).all()),
                f"without the {name} of {share:.0%} of the items, scores are not finite.",
            )

    def test_it_learns_without_validation_users(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        backbone: FixedBackbone,
        dynmm_context: ContextFactory,
    ) -> None:
        adapter = make()
        adapter.fit(data, backbone, dynmm_context(validate=False))
        require(
            bool(np.isfinite(adapter.item_latents()).all()),
            "trained without a validator, latents are not finite.",
        )
