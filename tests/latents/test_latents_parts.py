"""Inputs, profiles, the content map and the blend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import DataError, StageError
from dynmm_framework.latents.blend import Term, fit_mixture, fit_weights, mixed
from dynmm_framework.latents.cold import ContentMap
from dynmm_framework.latents.inputs import Standardiser, draw_prefixes, sample_prefixes
from dynmm_framework.latents.profiles import Directions, recent_profiles

RNG = np.random.default_rng(0)


def features(n: int = 40, dim: int = 6, share: float = 0.8) -> Features:
    present = np.random.default_rng(1).random(n) < share
    vectors = np.random.default_rng(2).normal(3, 2, (n, dim)).astype(np.float32)
    return Features(np.where(present[:, None], vectors, np.float32(0)), present)


def test_features_refuse_nan_where_an_item_has_some() -> None:
    vectors = np.zeros((3, 2), np.float32)
    vectors[1, 0] = np.nan
    with pytest.raises(DataError, match="1 items are not finite, first item 1"):
        Features(vectors, np.ones(3, np.bool_))


def test_shuffled_features_keep_who_has_some() -> None:
    found = features()
    dealt = found.shuffled(np.random.default_rng(0))
    assert np.array_equal(dealt.present, found.present)
    order = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    assert np.array_equal(order(dealt.vectors[dealt.present]), order(found.vectors[found.present]))
    assert not np.array_equal(dealt.vectors, found.vectors)


def test_standardised_features_have_mean_0_and_deviation_1() -> None:
    found = features()
    scaled = Standardiser.fit({"text": found}).apply("text", found)
    assert np.allclose(scaled[found.present].mean(axis=0), 0, atol=1e-5)
    assert np.allclose(scaled[found.present].std(axis=0), 1, atol=1e-4)
    assert not scaled[~found.present].any()


def test_a_modality_that_no_item_has_is_named() -> None:
    with pytest.raises(StageError, match="no item has the modality 'audio'"):
        Standardiser.fit({"audio": features(share=0)})


def test_features_of_another_width_are_refused() -> None:
    scaler = Standardiser.fit({"text": features()})
    with pytest.raises(StageError, match=r"5 wide, the alignment was trained on 6"):
        scaler.apply("text", features(dim=5))


def test_the_standardiser_survives_its_state() -> None:
    scaler, found = Standardiser.fit({"text": features()}), features()
    again = Standardiser.restore(scaler.state())
    assert np.array_equal(again.apply("text", found), scaler.apply("text", found))


def test_prefixes_are_followed_by_their_targets() -> None:
    histories = Histories.of([[1, 2, 3, 4, 5], [7], [], [8, 9]], 10)
    prefixes, targets = sample_prefixes(histories, 2, rng=np.random.default_rng(0))
    whole = [[1, 2, 3, 4, 5], [8, 9]]
    assert len(prefixes) == 3
    for row, target in enumerate(targets):
        prefix = prefixes[row].tolist()
        assert any(
            list_[: len(prefix)] == prefix and list_[len(prefix)] == target for list_ in whole
        )
    assert {5, 9} <= set(targets.tolist())  # the newest is always among them


def test_all_prefixes_are_drawn_when_asked_for() -> None:
    histories = Histories.of([[1, 2, 3], [4, 5, 6, 7]], 10)
    _, targets = sample_prefixes(histories, 100, rng=np.random.default_rng(0))
    assert sorted(targets.tolist()) == [2, 3, 5, 6, 7]


def test_what_was_chosen_later_is_told_of_each_prefix() -> None:
    histories = Histories.of([[1, 2, 3, 1], [7], [4, 5]], 10)
    drawn = draw_prefixes(histories, 100, rng=np.random.default_rng(0))
    assert drawn.rows.tolist() == [0, 0, 0, 2]
    asked = np.tile(np.array([1, 2, 3, 4, 5, 7, -1], np.int32), (4, 1))
    later = drawn.chosen_later(asked)
    assert [np.array([1, 2, 3, 4, 5, 7, -1])[row].tolist() for row in later] == [
        [2, 3],  # after [1]; that 1 came again tells nothing that the prefix does not
        [3],  # after [1, 2]
        [],  # after [1, 2, 3]
        [5],  # after [4]
    ]
    some = drawn.take(np.array([3]))
    assert some.targets.tolist() == [5]
    assert some.chosen_later(asked[:1]).tolist() == later[3:].tolist()


def test_profiles_are_decayed_sums_of_the_newest() -> None:
    directions = RNG.normal(size=(6, 3)).astype(np.float32)
    histories = Histories.of([[0, 1, 2, 3], [5], []], 6)
    found = recent_profiles(histories, directions, items=3, decay=0.5)
    expected = directions[3] + 0.5 * directions[2] + 0.25 * directions[1]
    assert np.allclose(found[0], expected, atol=1e-6)
    assert np.allclose(found[1], directions[5])
    assert not found[2].any()


def test_directions_are_centred_and_scaled() -> None:
    found = features(n=400, dim=8, share=1)
    directions = Directions.fit(found, 8).of(found)
    products = (directions @ directions.T)[~np.eye(400, dtype=bool)]
    assert products.std() == pytest.approx(1, rel=0.05)
    again = Directions.restore(Directions.fit(found, 8).state())
    assert np.array_equal(again.of(found), directions)


def test_directions_of_missing_items_are_0() -> None:
    found = features()
    assert not Directions.fit(found, 4).of(found)[~found.present].any()


def content_problem(n: int = 200) -> tuple[Features, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    content = rng.normal(size=(n, 5)).astype(np.float32)
    targets = (content @ rng.normal(size=(5, 3)) + 0.05 * rng.normal(size=(n, 3))).astype(
        np.float32
    )
    return Features(content, np.ones(n, np.bool_)), targets, rng.integers(10, 50, n)


def test_the_content_map_is_weighted_ridge() -> None:
    found, targets, counts = content_problem()
    fitted, _ = ContentMap.fit(
        {"text": found},
        targets,
        counts,
        sizes={"text": 5},
        alphas=[10.0],
        least=1,
        rng=np.random.default_rng(0),
    )
    oracle = Ridge(alpha=10.0).fit(found.vectors, targets, sample_weight=np.sqrt(counts))
    assert np.allclose(fitted.predict({"text": found}), oracle.predict(found.vectors), atol=1e-3)


def test_the_content_map_predicts_items_that_it_did_not_see() -> None:
    found, targets, counts = content_problem()
    fitted, held_out = ContentMap.fit(
        {"text": found},
        targets,
        counts,
        sizes={"text": 5},
        alphas=[0.1, 1e5],
        least=1,
        rng=np.random.default_rng(0),
    )
    assert fitted.alpha == pytest.approx(0.1)
    assert np.corrcoef(held_out.ravel(), targets.ravel())[0, 1] > 0.98
    again = ContentMap.restore(fitted.state())
    assert np.array_equal(again.predict({"text": found}), fitted.predict({"text": found}))


def blend_problem() -> tuple[list[Term], EvaluationSet]:
    """Targets drawn from a softmax over 2 · signal + 0 · noise."""
    rng = np.random.default_rng(5)
    n_users, n_items = 1500, 30
    signal = Term(
        "signal", *(rng.normal(size=(n, 4)).astype(np.float32) for n in (n_users, n_items))
    )
    noise = Term("noise", *(rng.normal(size=(n, 2)).astype(np.float32) for n in (n_users, n_items)))
    logits = 0.7 * signal.users @ signal.items.T
    gumbel = rng.gumbel(size=logits.shape)
    history = rng.integers(0, n_items, (n_users, 1))
    logits[np.arange(n_users), history[:, 0]] = -np.inf
    targets = (logits + gumbel).argmax(axis=1)
    users = np.arange(n_users, dtype=np.int32)
    return [signal, noise], EvaluationSet(
        users=users,
        histories=Histories.of(history.tolist(), n_items, users),
        targets=Histories.of([[t] for t in targets], n_items, users),
    )


def test_the_blend_finds_the_weights_that_made_the_data() -> None:
    terms, evaluation = blend_problem()
    found = fit_weights(terms, evaluation, start=[1.0, 0.5])
    assert found["signal"] == pytest.approx(0.7, abs=0.08)
    assert found["noise"] == pytest.approx(0.0, abs=0.08)


def test_the_blend_at_the_top_finds_them_too_and_asks_nobody_else() -> None:
    terms, evaluation = blend_problem()
    found = fit_weights(terms, evaluation, start=[1.0, 0.5], best=12)
    assert found["signal"] == pytest.approx(0.7, abs=0.12)
    assert found["noise"] == pytest.approx(0.0, abs=0.12)
    # With as many as there are, it is the fit over all.
    whole = fit_weights(terms, evaluation, start=[1.0, 0.5])
    assert fit_weights(terms, evaluation, start=[1.0, 0.5], best=30) == whole
    nearly = fit_weights(terms, evaluation, start=[1.0, 0.5], best=29)
    assert nearly == pytest.approx(whole, abs=0.05)


def test_what_is_excluded_does_not_compete_where_few_are_left() -> None:
    terms, evaluation = blend_problem()
    among = np.arange(30) < 10
    cheat = Term("cheat", np.ones((1500, 1), np.float32), (~among)[:, None].astype(np.float32))
    asked = [*terms, cheat]
    plain = fit_weights(asked, evaluation, start=[1.0, 0.5, 0.1], among=among)
    found = fit_weights(asked, evaluation, start=[1.0, 0.5, 0.1], among=among, best=20)
    assert found == pytest.approx(plain, abs=1e-3)


def test_a_mixture_is_the_minimum_of_its_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=(400, 5)) for _ in range(2)]
    targets = (1.5 * scores[0] - 0.5 * scores[1] + rng.gumbel(size=(400, 5))).argmax(axis=1)

    def loss(weights: Sequence[float]) -> float:
        mixed_ = sum(w * part for w, part in zip(weights, scores, strict=True))
        return float((np.log(np.exp(mixed_).sum(1)) - mixed_[np.arange(400), targets]).mean())

    found = fit_mixture(scores, targets, start=[1.0, 0.0])
    assert found == pytest.approx((1.5, -0.5), abs=0.3)
    for step in (-0.01, 0.01):
        assert loss(found) < loss((found[0] + step, found[1]))
        assert loss(found) < loss((found[0], found[1] + step))


def test_the_blend_without_targets_is_the_first_guess() -> None:
    terms, evaluation = blend_problem()
    none = np.zeros(30, np.bool_)
    assert fit_weights(terms, evaluation, start=[1.0, 0.5], among=none) == {
        "signal": 1.0,
        "noise": 0.5,
    }


def test_the_blend_is_one_inner_product() -> None:
    terms, _ = blend_problem()
    weights = {"signal": 0.3, "noise": -2.0}
    items = mixed({term.name: term.items for term in terms}, weights)
    users = np.concatenate([term.users for term in terms], axis=1)
    expected = sum(weights[term.name] * (term.users @ term.items.T) for term in terms)
    assert np.allclose(users @ items.T, expected, atol=1e-4)
