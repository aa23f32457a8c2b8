"""Joint alignment: conformance of the three fusions, and what each part does."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from dynmm_framework.data.features import Features
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.testing import AlignConformance, ContextFactory
from dynmm_framework.testing.conformance.align import FixedBackbone
from dynmm_plugins.joint_alignment.config import JointAlignmentConfig
from dynmm_plugins.joint_alignment.model import BEHIND, JointAlignment

QUICK: dict[str, Any] = {"epochs": 2, "hidden": 16, "prefixes": 3, "batch_size": 64}
BARE: dict[str, Any] = {
    "similarity": False,
    "similarity_collaborative": False,
    "content_map": False,
    "rarity": False,
}


class TestJointAlignmentConformance(AlignConformance):
    component: ClassVar[str] = "joint_alignment"
    config: ClassVar[dict[str, Any]] = {
        **QUICK,
        "align_weight": 0.1,
        "reconstruction_weight": 0.1,
        "items_per_step": 32,
    }


class TestConcatConformance(AlignConformance):
    component: ClassVar[str] = "concat"
    config: ClassVar[dict[str, Any]] = QUICK


class TestCrossAttentionConformance(AlignConformance):
    component: ClassVar[str] = "cross_attention"
    config: ClassVar[dict[str, Any]] = QUICK


@pytest.fixture
def data(dynmm_split: Split, dynmm_dataset: Dataset) -> TrainingData:
    plain = dynmm_split.training_data(dynmm_dataset.items)
    genre = np.eye(6, 10, dtype=np.float32)[np.arange(plain.n_items) % 6]
    noise = np.random.default_rng(0).normal(0, 0.1, genre.shape).astype(np.float32)
    text = Features(genre + noise, np.ones(plain.n_items, np.bool_))
    return TrainingData(plain.train, plain.items, {"text": text})


@pytest.fixture
def backbone(data: TrainingData) -> FixedBackbone:
    rng = np.random.default_rng(1)
    return FixedBackbone(rng.normal(size=(data.n_items, 8)).astype(np.float32))


@pytest.fixture
def histories(dynmm_split: Split) -> Histories:
    return dynmm_split.evaluation("test").histories


def align(**settings: Any) -> JointAlignment:
    return JointAlignment(JointAlignmentConfig(**{**QUICK, **settings}))


def scores(adapter: JointAlignment, histories: Histories) -> np.ndarray:
    return adapter.user_latents(histories) @ adapter.item_latents().T


@pytest.mark.parametrize("dim", [None, 8, 20])
def test_an_untrained_alignment_ranks_exactly_as_its_backbone(
    data: TrainingData,
    backbone: FixedBackbone,
    histories: Histories,
    dynmm_context: ContextFactory,
    dim: int | None,
) -> None:
    adapter = align(rank_weight=0, dim=dim, **BARE)
    adapter.fit(data, backbone, dynmm_context())
    plain = backbone.user_vectors(histories) @ backbone.item_vectors().T
    known = data.train.item_counts() > 0
    assert np.allclose(scores(adapter, histories)[:, known], plain[:, known], atol=1e-5)


def test_what_does_not_gain_on_validation_is_left_out(
    data: TrainingData,
    backbone: FixedBackbone,
    histories: Histories,
    dynmm_context: ContextFactory,
) -> None:
    # A step this large learns nothing but noise.
    adapter = align(learning_rate=30.0, clip_norm=0, epochs=1, **BARE)
    ctx = dynmm_context()
    adapter.fit(data, backbone, ctx)
    if not ctx.records["alignment"]["kept"]:
        plain = backbone.user_vectors(histories) @ backbone.item_vectors().T
        known = data.train.item_counts() > 0
        assert np.allclose(scores(adapter, histories)[:, known], plain[:, known], atol=1e-4)
    else:
        found = ctx.records["alignment"]
        assert found["trained"] > found["untrained"]


def test_content_helps_where_it_is_what_users_follow(
    data: TrainingData, backbone: FixedBackbone, dynmm_context: ContextFactory
) -> None:
    def ndcg(features: Features) -> float:
        ctx = dynmm_context(seed=5)
        adapter = align(rarity=False)
        given = TrainingData(data.train, data.items, {"text": features})
        adapter.fit(given, backbone, ctx)
        assert ctx.validator is not None
        return ctx.validator(lambda histories: scores(adapter, histories))["ndcg@10"]

    text = data.features["text"]
    assert ndcg(text) > 1.3 * ndcg(text.shuffled(np.random.default_rng(0)))


def test_mapped_items_stand_behind_all_others(
    data: TrainingData,
    backbone: FixedBackbone,
    histories: Histories,
    dynmm_context: ContextFactory,
) -> None:
    unused = data.train.item_counts() == 0
    assert unused.any()
    apart, together = align(), align(cold_offset=0.0)
    for adapter in (apart, together):
        adapter.fit(data, backbone, dynmm_context())
    behind = scores(apart, histories)
    assert behind[:, unused].max() < behind[:, ~unused].min()
    # Apart from the offset nothing changes.
    assert np.allclose(
        behind[:, unused] - BEHIND, scores(together, histories)[:, unused], atol=1e-3
    )


def test_an_item_without_history_is_placed_by_its_content(
    data: TrainingData, dynmm_context: ContextFactory
) -> None:
    genre = np.arange(data.n_items) % 6
    vectors = 3 * np.eye(6, 8, dtype=np.float32)[genre]
    adapter = align(rank_weight=0, **{**BARE, "content_map": True})
    adapter.fit(data, FixedBackbone(vectors), dynmm_context())
    latents = adapter.item_latents()
    latents = latents[:, :8] + latents[:, 8:16]  # the trained latent, and the map
    unused = np.flatnonzero(data.train.item_counts() == 0)
    known = np.flatnonzero(data.train.item_counts() > 0)
    nearest = known[(latents[unused] @ latents[known].T).argmax(axis=1)]
    assert (genre[nearest] == genre[unused]).all()


def test_presets_are_defaults_that_settings_go_before() -> None:
    paper = JointAlignmentConfig(preset="paper")
    assert (paper.dim, paper.residual, paper.similarity, paper.pairs) == (256, False, False, "all")
    assert JointAlignmentConfig(preset="paper", dim=64).dim == 64
    assert JointAlignmentConfig(preset="paper_pairs").pairs == "paper"
    again = JointAlignmentConfig.model_validate(paper.model_dump())
    assert again == paper


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValidationError, match="preset"):
        JointAlignmentConfig(preset="papre")


def test_features_are_needed(
    data: TrainingData, backbone: FixedBackbone, dynmm_context: ContextFactory
) -> None:
    bare = TrainingData(data.train, data.items)
    with pytest.raises(StageError, match="needs features"):
        align().fit(bare, backbone, dynmm_context())


def test_residual_latents_are_not_narrower_than_the_backbone(
    data: TrainingData, backbone: FixedBackbone, dynmm_context: ContextFactory
) -> None:
    with pytest.raises(StageError, match=r"width 4 cannot be added to a backbone's of width 8"):
        align(dim=4).fit(data, backbone, dynmm_context())


def test_a_modality_of_the_training_cannot_be_left_away(
    data: TrainingData, backbone: FixedBackbone, dynmm_context: ContextFactory
) -> None:
    adapter = align()
    adapter.fit(data, backbone, dynmm_context())
    with pytest.raises(StageError, match="trained with text, which is not among the features"):
        adapter.attach({}, backbone)


def test_modalities_that_are_not_named_take_no_part(
    data: TrainingData,
    backbone: FixedBackbone,
    histories: Histories,
    dynmm_context: ContextFactory,
) -> None:
    noise = np.random.default_rng(3).normal(size=(data.n_items, 5)).astype(np.float32)
    both = {**data.features, "vision": Features(noise, np.ones(data.n_items, np.bool_))}
    with_both = TrainingData(data.train, data.items, both)
    alone, chosen = align(rank_weight=0), align(rank_weight=0, modalities=["text"])
    alone.fit(data, backbone, dynmm_context())
    chosen.fit(with_both, backbone, dynmm_context())
    np.testing.assert_allclose(scores(alone, histories), scores(chosen, histories), rtol=1e-5)
    with pytest.raises(StageError, match="names audio, which has no encoder"):
        align(modalities=["audio"]).fit(data, backbone, dynmm_context())


def test_collaborative_similarity_is_a_term_of_its_own(
    data: TrainingData, backbone: FixedBackbone, dynmm_context: ContextFactory
) -> None:
    width = backbone.item_vectors().shape[1]
    terms = []
    for switched in (True, False):
        adapter = align(rank_weight=0, similarity_collaborative=switched, rarity=False)
        adapter.fit(data, backbone, dynmm_context())
        terms.append(adapter.item_latents().shape[1])
    assert terms[0] - terms[1] == width


def test_a_backbone_with_user_biases_is_no_matter(
    data: TrainingData, backbone: FixedBackbone, histories: Histories, dynmm_context: ContextFactory
) -> None:
    adapter = align(preset="paper")
    adapter.fit(data, backbone, dynmm_context())
    assert adapter.item_latents().shape == (data.n_items, 257)  # and the offset
    assert adapter.user_latents(histories).shape == (len(histories), 257)
