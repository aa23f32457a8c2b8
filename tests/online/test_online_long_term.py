"""Those who have long been away, popularity that is served as far as it helps, dense and sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import N_ITEMS, base_of, make_session, random_events

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.engine.streaming import StreamParts
from dynmm_framework.engine.streaming import make_session as session_of
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.memory import FrozenBase, Memory
from dynmm_framework.online.pairs import DensePairs, SparsePairs
from dynmm_framework.online.priors import DecayedTransitions, LongTermPriors
from dynmm_framework.online.ranks import metrics_of, ranks_of
from dynmm_framework.online.session import Session
from dynmm_framework.online.snapshot import Snapshot
from dynmm_framework.online.strategies import Fusion
from dynmm_framework.online.weights import Weights
from dynmm_plugins.gated_mlp.config import GatedMLPConfig

OFFLINE = random_events(160, seed=9)
SPARSE = N_ITEMS**2 // 4 - 1
"""Pairs to keep with which a matrix of all is too large."""


def transitions(most: int, **changed: Any) -> DecayedTransitions:
    return DecayedTransitions(N_ITEMS, half_life=30, last=3, most=most, **changed)


@given(st.integers(1, SPARSE // 6), st.integers(0, 50), st.booleans())  # no pair too many
@settings(max_examples=20, deadline=None)
def test_dense_and_sparse_transitions_are_the_same(n: int, seed: int, both: bool):
    dense, sparse = transitions(SPARSE + 1, both=both), transitions(SPARSE, both=both)
    assert isinstance(dense._pairs, DensePairs)
    assert isinstance(sparse._pairs, SparsePairs)
    events = random_events(n, seed=seed)
    store = HistoryStore(N_ITEMS)
    for start in range(0, n, 10):
        window = events.take(slice(start, start + 10))
        known = store.before(window)
        dense.learn(window, known)
        sparse.learn(window, known)
        store.extend(window)
    asked = store.of(np.arange(15))
    np.testing.assert_allclose(dense.counts(asked), sparse.counts(asked), atol=0.1)
    np.testing.assert_allclose(dense.log(asked), np.log1p(dense.counts(asked)), atol=1e-6)
    np.testing.assert_allclose(sparse.log(asked), np.log1p(sparse.counts(asked)), atol=1e-6)
    again = transitions(SPARSE + 1, both=both)
    again.load_state(dense.get_state())
    np.testing.assert_array_equal(again.counts(asked), dense.counts(asked))


def test_transitions_of_both_directions_are_symmetric():
    prior = transitions(SPARSE, both=True)
    prior.learn(Events.of([0], [7], [1]), Histories.of([[2, 3]], N_ITEMS))
    counts = prior.counts(Histories.of([[i] for i in range(N_ITEMS)], N_ITEMS))
    np.testing.assert_array_equal(counts, counts.T)
    assert counts[7, 3] == pytest.approx(1)


@pytest.mark.parametrize("most", [SPARSE, SPARSE + 1])
def test_frozen_transitions_stay_while_others_learn(most: int):
    prior = transitions(most)
    known = Histories.of([[1]], N_ITEMS)
    prior.learn(Events.of([0], [7], [1]), known)
    frozen = prior.frozen()
    before = frozen.counts(known).copy()
    for _ in range(40):
        prior.learn(Events.of([0], [7], [2]), known)
    np.testing.assert_array_equal(frozen.counts(known), before)
    assert prior.counts(known)[0, 7] > 10


def test_a_store_tells_where_each_user_was_last():
    store = HistoryStore(N_ITEMS, most=2)
    store.extend(Events.of([1, 2, 1], [5, 6, 7], [1, 2, 3]))
    assert store.last(np.array([1, 2, 9])).tolist() == [2, 1, 3]  # 9 comes now
    snapshot = store.copy()
    store.extend(Events.of([3, 1], [8, 9], [4, 5]))  # 2 is forgotten
    assert store.last(np.array([1, 2, 3])).tolist() == [4, 5, 3]
    assert snapshot.last(np.array([1, 2])).tolist() == [2, 1]
    again = HistoryStore(N_ITEMS)
    again.load_state(store.get_state())
    assert again.last(np.array([1, 2, 3])).tolist() == [4, 5, 3]
    assert again.place == 5


def test_the_share_of_long_term_priors_grows_with_absence():
    priors = LongTermPriors(100.0, np.zeros(N_ITEMS, np.float32), transitions(SPARSE))
    assert priors.share(np.array([0, 100, 200, 1000])).tolist() == pytest.approx([0, 0, 0.5, 0.9])


def met(**changed: Any) -> Memory:
    config = GatedMLPConfig(half_life=20, lasting_half_life=1000, **changed)
    memory = Memory(base_of(OFFLINE), config)
    for _ in memory.remember(OFFLINE, size=20):
        pass
    return memory


def test_scores_of_the_absent_are_of_priors_that_have_hardly_faded():
    memory = met()
    place = memory.histories.place
    users = np.unique(OFFLINE.users)[:3]
    memory.histories._last.update(
        {int(user): place - away for user, away in zip(users, (1, 40, 80), strict=True)}
    )
    events = Events.of([*users, users[1], 99], [1, 2, 3, 4, 5], [900, 900, 900, 901, 902])
    scene = memory.scene_of(events)
    # Who comes for the second time in a window, or for the first time at all, has not been away.
    rows, part = scene.absent
    assert rows.tolist() == [1, 2]
    assert part.tolist() == [0.5, 0.75]

    weights = Weights(popularity=0.7, transitions=2.0, long_term_popularity=0.2)
    popularity, follows = memory._long_term
    m = np.array([0, 0.5, 0.75, 0, 0])[:, None]
    known = scene.people.known
    expected = scene.people.vectors @ memory.base.items.T
    expected = expected + 0.7 * (1 - m) * memory.popularity.log() + 0.2 * m * popularity.log()
    logs = (1 - m) * memory.transitions.log(known) + m * follows.log(known)
    np.testing.assert_allclose(weights(scene).numpy(), expected + 2 * logs, atol=1e-5)
    np.testing.assert_allclose(
        weights.popular(scene).numpy(), 0.7 * (1 - m) * memory.popularity.log(), atol=1e-6
    )
    alike = Weights(popularity=0.7, transitions=2.0)(scene).numpy()
    np.testing.assert_allclose(alike[[0, 3, 4]], weights(scene).numpy()[[0, 3, 4]], atol=1e-6)


def test_the_absent_are_met_with_less_of_the_correction():
    session = make_session(half_life=5, lasting_half_life=1000, learning_rate=0.05)
    for _ in session.push(random_events(60, seed=3, start=2000)):
        pass
    fusion = session.strategies["adapter"]
    fusion.guard._sums[:] = [0, 0, 0, 1]
    users = np.unique(OFFLINE.users)
    scene = session.memory.standing(users, session.memory.histories.of(users))
    rows, part = scene.absent
    assert len(rows)
    base = scene.people.vectors @ session.base.items.T
    corrected = fusion.learner.users(scene) @ fusion.learner.table(scene.summaries).T
    change = (corrected.numpy() - base)[rows] * (1 - part[:, None])
    found = fusion.score(scene).numpy() - fusion.served(scene).numpy()
    assert np.abs(change).max() > 1e-3
    np.testing.assert_allclose(found[rows], change, atol=1e-5)


def test_without_long_term_priors_nobody_has_been_away():
    config = GatedMLPConfig(half_life=20, lasting_half_life=None)
    memory = Memory(base_of(OFFLINE), config)
    for _ in memory.remember(OFFLINE, size=20):
        pass
    scene = memory.scene_of(Events.of([int(OFFLINE.users[0])], [1], [900]))
    assert not len(scene.absent[0])
    assert not any(name.startswith("long_term") for name in memory.get_state())


def test_a_snapshot_serves_the_absent_as_the_stream_predicts_them():
    session = make_session(half_life=5, lasting_half_life=1000)
    for _ in session.push(random_events(60, seed=3, start=2000)):
        pass
    snapshot = Snapshot.of(session, 0)
    users = np.unique(OFFLINE.users)
    histories = session.memory.histories.of(users)
    scene = session.memory.standing(users, histories)
    idle = session.windower.pending.users
    rows = ~np.isin(users, idle)
    assert np.isin(scene.absent[0], np.flatnonzero(rows)).any()
    scores, _ = snapshot.scores(users)
    expected = session.strategies["adapter"].score(scene)
    np.testing.assert_allclose(scores.numpy()[rows], expected.numpy()[rows], atol=1e-5)


def guarded(popularity: float, events: Events) -> Fusion:
    config = GatedMLPConfig(window=20, probe=0, drift=False)
    fusion = Fusion(Weights(popularity=popularity, base=0.0), popularity_half_lives=(100.0, 1e6))
    session = Session(base_of(OFFLINE), config, {"popular": fusion})
    session.begin(OFFLINE, Events.none())
    for _ in session.push(events):
        pass
    return fusion


def test_popularity_is_served_as_far_as_it_helps():
    rng = np.random.default_rng(0)
    popular = np.where(rng.random(400) < 0.9, rng.integers(0, 4, 400), rng.integers(0, 40, 400))
    users = np.arange(400)
    helped = guarded(0.7, Events.of(users, popular, 5000 + users))
    assert helped.served.popularity > 0
    again = Fusion(Weights(popularity=0.7), popularity_half_lives=(100.0, 1e6))
    again.load_state(helped.get_state())
    assert again.served.popularity == helped.served.popularity
    assert again.shares() == helped.shares()


def test_long_term_popularity_is_weighed_by_all_results_and_short_term_by_the_newest():
    fusion = Fusion(
        Weights(popularity=0.7, long_term_popularity=0.7), popularity_half_lives=(10.0, 1e6)
    )
    for values, n in (([0.0, 0.1, 0.2], 100), ([0.2, 0.1, 0.0], 50)):
        for guard in (fusion.popularity_guard, fusion.long_term_popularity_guard):
            guard.observe(np.repeat(np.array(values)[:, None], n, axis=1))
    assert fusion.served.popularity == 0
    assert fusion.served.long_term_popularity == pytest.approx(0.7)


@pytest.mark.parametrize("guarded", [True, False])
def test_settings_decide_who_is_guarded_and_what_is_long_term(guarded: bool):
    class Split:
        n_items, train = N_ITEMS, None

        def item_counts(self) -> np.ndarray:
            return np.ones(N_ITEMS, np.int64)

    split = Split()
    split.train = split  # type: ignore[assignment]
    config = GatedMLPConfig(popularity_guard=guarded, lasting_half_life=1000.0 if guarded else None)
    model = base_of(OFFLINE).model
    parts = StreamParts(model, split, config, lambda own: None, None)  # type: ignore[arg-type, return-value]
    parts = parts.__class__(**{**vars(parts), "context": type("C", (), {"seed": 0})()})
    made = session_of(parts, ["popularity_transitions", "popularity_prior", "static_prior"])
    for name in ("popularity_transitions", "popularity_prior"):
        fusion = made.strategies[name]
        assert (fusion.popularity_guard is not None) == guarded
        assert fusion.weights.long_term_popularity == (0.7 if guarded else None)
    assert made.strategies["static_prior"].popularity_guard is None


def ndcg_of(scores: Any, scene: Any) -> np.ndarray:
    ranks = ranks_of(scores, scene.people.known, scene.targets)
    return metrics_of(ranks, [10])["ndcg@10"]


@pytest.mark.parametrize("long_term", [1000.0, None])
def test_the_gains_of_every_candidate_are_those_of_serving_it(long_term: float | None):
    session = make_session(half_life=5, lasting_half_life=long_term, learning_rate=0.05)
    for _ in session.push(random_events(80, seed=3, start=2000)):
        pass
    fusion = session.strategies["adapter"]
    fusion.popularity_guard._sums[:] = [0, 1, 0]
    fusion.guard._sums[:] = [0, 0, 1, 0]
    scene = session.memory.scene_of(random_events(30, seed=6, start=3000))
    gains = fusion.gains(scene)
    assert gains["guard"].shape == (4, 30)
    assert gains["popularity_guard"].shape == (3, 30)
    for name, others in (("guard", "popularity_guard"), ("popularity_guard", "guard")):
        guard = getattr(fusion, name)
        at, other = guard._sums.copy(), getattr(fusion, others)._sums.copy()
        for row, expected in enumerate(gains[name]):
            guard._sums[:] = 0
            guard._sums[row] = 1
            assert guard.strength == guard.strengths[row]
            np.testing.assert_allclose(ndcg_of(fusion.score(scene), scene), expected, atol=1e-12)
        guard._sums[:] = at
        np.testing.assert_array_equal(getattr(fusion, others)._sums, other)
    assert np.ptp(gains["guard"].mean(axis=1)) > 0
    assert np.ptp(gains["popularity_guard"].mean(axis=1)) > 0


class Pairs:
    """A base that knows which two items belong together."""

    def item_vectors(self) -> np.ndarray:
        return np.repeat(np.eye(N_ITEMS // 2, dtype=np.float32), 2, axis=0)

    def user_vectors(self, histories: Histories) -> np.ndarray:
        newest = histories.last(1)
        out = np.zeros((len(histories), N_ITEMS // 2), np.float32)
        out[newest.rows] = self.item_vectors()[newest.items]
        return out


def met_with_pairs(held_out: int) -> Session:
    """Eight items were popular; from then on everyone chooses the two of a pair of others."""
    n, place = np.arange(800), np.arange(400)
    popular = Events.of(n, 32 + n % 8, n)
    pairs = Events.of(10_000 + place // 2, place // 2 % 16 * 2 + place % 2, 5000 + place)
    base = FrozenBase(Pairs(), np.bincount(popular.items, minlength=N_ITEMS))
    fusion = Fusion(Weights(popularity=0.7), popularity_half_lives=(100.0, 1e6))
    config = GatedMLPConfig(window=20, probe=0, drift=False, warm_up=0)
    session = Session(base, config, {"popular": fusion})
    session.begin(popular, pairs.take(slice(0, held_out)))
    for _ in session.push(pairs.take(slice(held_out, None))):
        pass
    return session


def test_popularity_that_harms_is_driven_out():
    session = met_with_pairs(0)
    shares = [report.served["popular"]["popularity"] for report in session.reports]
    assert shares[0] == 1
    assert shares[1:] == [0] * (len(shares) - 1)
    gains = [report.metrics["popular"]["ndcg@10"] for report in session.reports]
    assert min(gains[1:]) > 2 * gains[0]
    assert session.strategies["popular"].served.popularity == 0


def test_what_was_held_out_decides_what_a_stream_begins_with_even_if_nothing_is_warmed_up():
    session = met_with_pairs(100)
    assert session.reports[0].served["popular"]["popularity"] == 0
    # No adapter is needed for that; of λ nothing is known if none has learned.
    session = make_session(warm_up=0)
    fusion = session.strategies["adapter"]
    assert fusion.guard._weight == 0
    assert fusion.popularity_guard._weight > 0


def test_a_stream_that_begins_without_anything_serves_popularity_but_no_correction():
    session = make_session(offline=Events.none())
    fusion = session.strategies["adapter"]
    assert fusion.shares() == {"correction": 0, "popularity": 1, "long_term_popularity": 1}
    assert fusion.served.popularity == fusion.weights.popularity
    (report,) = session.push(random_events(25, seed=3, start=2000))
    assert report.served["adapter"] == {
        "correction": 0, "popularity": 1, "long_term_popularity": 1,
    }  # fmt: skip


def test_a_window_tells_what_was_served_in_it():
    session = make_session(popularity_guard_half_life=10, guard_half_life=10)
    fusion = session.strategies["adapter"]
    expected = []
    for start in range(0, 200, 20):
        shares = dict(fusion.shares())
        events = random_events(20, seed=start, start=2000 + 100 * start)
        expected += [(report, shares) for report in session.push(events)]
    assert len(expected) > 3
    for report, shares in expected:
        assert report.served == {"adapter": shares}
    assert len({tuple(shares.items()) for _, shares in expected}) > 1
