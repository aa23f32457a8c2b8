"""The control of popularity."""

from __future__ import annotations

import numpy as np
import pytest

from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import StageError
from dynmm_framework.latents.controls import PopularityBias, rarity
from dynmm_framework.testing import ContextFactory
from dynmm_framework.testing.conformance.align import FixedBackbone


def test_rarity_is_standardised_and_falls_with_the_count() -> None:
    found = rarity(np.array([0, 1, 5, 100]))[:, 0]
    assert found.mean() == pytest.approx(0, abs=1e-6)
    assert found.std() == pytest.approx(1, abs=1e-6)
    assert (np.diff(found) < 0).all()
    assert not rarity(np.array([3, 3])).any()


def test_it_finds_the_popularity_that_the_backbone_lacks(
    dynmm_split: Split, dynmm_dataset: Dataset, dynmm_context: ContextFactory
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items)
    backbone = FixedBackbone(np.zeros((data.n_items, 3), np.float32))
    control, ctx = PopularityBias(), dynmm_context()
    control.fit(data, backbone, ctx)
    assert ctx.validator is not None
    scores = ctx.validator(lambda h: control.user_latents(h) @ control.item_latents().T)
    counts = data.train.item_counts().astype(np.float32)
    popular = ctx.validator(lambda h: np.tile(counts, (len(h), 1)))
    assert scores["ndcg@10"] == pytest.approx(popular["ndcg@10"], abs=1e-6)
    again = PopularityBias()
    again.load_state(control.get_state())
    with pytest.raises(StageError, match="attached to no backbone"):
        again.item_latents()
    again.attach({}, backbone)
    assert np.array_equal(again.item_latents(), control.item_latents())


def test_without_validation_users_it_is_the_backbone(
    dynmm_split: Split, dynmm_dataset: Dataset, dynmm_context: ContextFactory
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items)
    vectors = np.random.default_rng(0).normal(size=(data.n_items, 4)).astype(np.float32)
    control, backbone = PopularityBias(), FixedBackbone(vectors)
    assert control.get_state() == {}
    control.fit(data, backbone, dynmm_context(validate=False))
    histories = dynmm_split.evaluation("test").histories
    scores = control.user_latents(histories) @ control.item_latents().T
    plain = backbone.user_vectors(histories) @ vectors.T
    assert np.allclose(scores, plain, atol=1e-5)
