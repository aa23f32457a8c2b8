"""Histories, summaries, priors, replay, guard: each against a plain account of the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import DIM, N_ITEMS, FixedModel, random_events

from dynmm_framework.config.windows import WindowRule
from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events, Window, windows_of
from dynmm_framework.online.consolidation import Average, Consolidation
from dynmm_framework.online.guard import Guard
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.lesson import Lesson, People, Summary, profiles_of
from dynmm_framework.online.priors import DecayedPopularity, DecayedTransitions
from dynmm_framework.online.ranks import metrics_of, ranks_of
from dynmm_framework.online.replay import Replay
from dynmm_framework.online.summaries import NAMES, SPANS, ItemSummaries, RunningStandard


@given(st.integers(0, 30), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_history_holds_what_was_strictly_before(n: int, seed: int):
    store = HistoryStore(N_ITEMS)
    past, now = random_events(25, seed=seed), random_events(n, seed=seed + 1, start=100)
    store.extend(past)
    found = store.before(now)
    for row in range(n):
        user, time = now.users[row], now.times[row]
        expected = past.items[past.users == user].tolist()
        expected += now.items[(now.users == user) & (now.times < time)].tolist()
        assert found[row].tolist() == expected


def test_a_store_keeps_the_newest_items_and_users():
    store = HistoryStore(N_ITEMS, longest=2, most=2)
    store.extend(Events.of([1, 1, 1, 2], [5, 6, 7, 8], [1, 2, 3, 4]))
    store.extend(Events.of([3], [9], [5]))
    assert [store.of(np.array([user]))[0].tolist() for user in (1, 2, 3)] == [[], [8], [9]]
    store.extend(Events.of([2], [3], [6]))
    assert store.of(np.array([2]))[0].tolist() == [8, 3]


def test_a_copy_of_a_store_does_not_change():
    store = HistoryStore(N_ITEMS)
    store.extend(Events.of([1], [5], [1]))
    copy = store.copy()
    store.extend(Events.of([1], [6], [2]))
    assert copy.of(np.array([1]))[0].tolist() == [5]
    restored = HistoryStore(N_ITEMS)
    restored.load_state(store.get_state())
    assert restored.of(np.array([1, 7]))[0].tolist() == [5, 6]


def summaries() -> ItemSummaries:
    return ItemSummaries(FixedModel().vectors, np.full(N_ITEMS, 7))


@given(st.integers(1, 60), st.integers(0, 100), st.booleans())
@settings(max_examples=25, deadline=None)
def test_sliding_counts_are_those_of_counting_again(n: int, seed: int, by_time: bool):
    rule = WindowRule(seconds=7) if by_time else WindowRule(events=3)
    state = summaries()
    met: list[tuple[int, Window]] = []
    place = 0
    for window in windows_of(random_events(4 * n, seed=seed), rule):
        place += window.gap
        met.append((place, window))
        place += 1
        state.advance(window)
        for row, span in enumerate(SPANS):
            inside = [w.events for number, w in met if number > place - 1 - span]
            joined = Events.joined(inside)
            assert (
                state.counts[row].tolist() == np.bincount(joined.items, minlength=N_ITEMS).tolist()
            )
            assert state.totals[row] == len(joined)
        users = np.zeros(N_ITEMS, np.int64)
        for number, w in met:
            if number > place - 1 - SPANS[-1]:
                pairs = {*zip(w.events.users.tolist(), w.events.items.tolist(), strict=True)}
                np.add.at(users, [item for _, item in pairs], 1)
        assert state.users.tolist() == users.tolist()
    everything = Events.joined(w.events for _, w in met)
    assert state.all.tolist() == np.bincount(everything.items, minlength=N_ITEMS).tolist()
    for item in np.unique(everything.items):
        places = np.flatnonzero(everything.items == item)
        assert (state.first[item], state.last[item]) == (places[0], places[-1])


def test_company_is_the_mean_vector_of_what_else_a_user_chose():
    state = summaries()
    # User 1 chose 3, 4 and 5; user 2 chose 3 alone; user 3 chose 3 and 6.
    events = Events.of([1, 1, 1, 2, 3, 3], [3, 4, 5, 3, 3, 6], range(6))
    state.advance(Window(1, events))
    v = state.vectors
    expected = ((v[4] + v[5]) / 2 + v[6]) / 2
    mean = state.company[3] / state.weight[3]
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    np.testing.assert_allclose(state.company[6] / state.weight[6], v[3], atol=1e-5)


def test_features_are_those_of_the_document():
    state = summaries()
    state.remember(Events.of([0, 0], [1, 2], [0, 1]))
    state.advance(Window(1, Events.of([1, 2, 2], [1, 1, 3], [2, 3, 4])))
    row = dict(zip(NAMES, state._raw(np.array([1]))[0], strict=False))
    assert row["log count W"] == row["log count 24W"] == pytest.approx(np.log(3))
    assert row["log count"] == pytest.approx(np.log(4))
    assert row["log growth W / 6W"] == pytest.approx(np.log(3 / (2 / 6 + 1)))
    assert row["log share 24W / share"] == pytest.approx(
        np.log((2 + 1) / (3 + N_ITEMS)) - np.log((3 + 1) / (5 + N_ITEMS))
    )
    assert row["log users 24W"] == pytest.approx(np.log(3))
    assert row["log events since the last"] == pytest.approx(np.log1p(5 - 3))
    assert row["log age"] == pytest.approx(np.log1p(5 - 0))
    assert row["rare in training"] == 0
    assert row["share of W"] == pytest.approx(2 / 3)


def test_a_summary_is_standardised_clipped_and_of_active_items_only():
    state = summaries()
    for window in windows_of(random_events(300), WindowRule(events=10)):
        state.advance(window)
    summary = state.summary()
    assert summary.items.tolist() == np.flatnonzero(state.counts[2]).tolist()
    assert np.abs(summary.features).max() <= 5
    assert summary.features.shape == (len(summary), len(NAMES) + DIM)
    assert state.summary(span=1).items.tolist() == np.flatnonzero(state.counts[0]).tolist()


def test_an_unmet_stream_has_an_empty_summary():
    assert len(summaries().summary()) == 0


def test_restored_summaries_go_on_alike():
    found = list(windows_of(random_events(400, seed=3), WindowRule(events=10)))
    whole, half, rest = summaries(), summaries(), summaries()
    for window in found:
        whole.advance(window)
    for window in found[:15]:
        half.advance(window)
    rest.load_state({name: array.copy() for name, array in half.get_state().items()})
    for window in found[15:]:
        rest.advance(window)
    for name, array in whole.get_state().items():
        np.testing.assert_array_equal(array, rest.get_state()[name], err_msg=name)


def test_running_statistics_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(3, 2, (50, 4))
    standard = RunningStandard(4)
    for part in np.split(rows, [1, 7, 7, 30]):
        standard.update(part)
    np.testing.assert_allclose(standard.mean, rows.mean(axis=0))
    np.testing.assert_allclose(standard.square / standard.n, rows.var(axis=0))


def test_popularity_halves_after_its_half_life():
    prior = DecayedPopularity(N_ITEMS, half_life=4)
    prior.learn(Events.of([0] * 4, [3] * 4, range(4)))
    prior.learn(Events.of([0] * 4, [5] * 4, range(4)))
    assert prior.counts[[3, 5]].tolist() == [2, 4]


def test_transitions_count_what_followed_with_fading_and_decay():
    prior = DecayedTransitions(N_ITEMS, half_life=2, last=2, fading=0.5)
    prior.learn(Events.of([0, 1], [7, 8], [1, 2]), Histories.of([[1, 2, 3], []], N_ITEMS))
    counts = prior.counts(Histories.of([[3], [2], [2, 3], []], N_ITEMS))
    assert counts[0, 7] == 1
    assert counts[1, 7] == 0.5
    assert counts[2, 7] == 0.5 * 0.5 + 1  # 2 is the older of the two
    assert counts[3].sum() == 0
    prior.learn(Events.of([5, 5], [9, 9], [3, 4]), Histories.of([[4], [4]], N_ITEMS))
    assert prior.counts(Histories.of([[3]], N_ITEMS))[0, 7] == 0.5
    restored = DecayedTransitions(N_ITEMS, half_life=2, last=2, fading=0.5)
    restored.load_state(prior.get_state())
    ask = Histories.of([[3], [4]], N_ITEMS)
    np.testing.assert_array_equal(restored.counts(ask), prior.counts(ask))


def test_transitions_forget_the_smallest_pairs_beyond_their_bound():
    prior = DecayedTransitions(N_ITEMS, half_life=1e9, last=1, most=8)
    prior.learn(Events.of([0] * 9, range(9), range(9)), Histories.of([[1]] * 9, N_ITEMS))
    prior.learn(Events.of([0] * 3, [1] * 3, range(3)), Histories.of([[1]] * 3, N_ITEMS))
    prior.get_state()
    assert len(prior.get_state()["values"]) <= 9
    assert prior.counts(Histories.of([[1]], N_ITEMS))[0, 1] == 4


def test_faded_transitions_are_forgotten_and_others_stay():
    prior = DecayedTransitions(N_ITEMS, half_life=2, last=1)
    prior.learn(Events.of([0], [7], [1]), Histories.of([[1]], N_ITEMS))
    for _ in range(5):
        prior.learn(Events.of([0, 0], [8, 8], [2, 2]), Histories.of([[2], [2]], N_ITEMS))
    kept = prior.get_state()
    assert 7 in kept["items"]  # 2 ** -5 is more than a hundredth
    for _ in range(5):
        prior.learn(Events.of([0, 0], [8, 8], [2, 2]), Histories.of([[2], [2]], N_ITEMS))
    assert prior.get_state()["items"].tolist() == [8]
    assert prior.counts(Histories.of([[2]], N_ITEMS))[0, 8] == pytest.approx(4, abs=0.01)


def lesson(number: int, n: int = 5) -> Lesson:
    rng = np.random.default_rng(number)
    summary = Summary(
        np.array([number], np.int32), np.full((1, 3), number, np.float32), np.ones(1, np.bool_)
    )
    known = Histories.of([[number]] * n, N_ITEMS)
    vectors = rng.normal(size=(n, DIM)).astype(np.float32)
    people = People(vectors, vectors[:, :1], np.ones(n, np.bool_), known)
    return Lesson(summary, people, np.full(n, number % N_ITEMS, np.int32))


def test_replay_keeps_events_with_their_own_summary_and_is_restored():
    replay = Replay(windows=4, events=3, seed=1)
    for number in range(50):
        replay.offer(lesson(number))
    assert len(replay.kept) == 4
    assert len(replay) == 12
    for kept in replay.kept:
        assert (kept.targets == kept.summary.items[0] % N_ITEMS).all()
    again = Replay(windows=4, events=3, seed=1)
    again.load_state(replay.get_state())
    drawn, same = replay.draw(2, step=7), again.draw(2, step=7)
    assert [d.summary.items.tolist() for d in drawn] == [d.summary.items.tolist() for d in same]


def test_every_window_is_kept_with_the_same_probability():
    counts = np.zeros(20)
    for seed in range(200):
        replay = Replay(windows=5, events=1, seed=seed)
        for number in range(20):
            replay.offer(lesson(number, n=1))
        for kept in replay.kept:
            counts[kept.summary.items[0]] += 1
    expected = 200 * 5 / 20
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 50  # 19 degrees of freedom: p < 1e-4 beyond


def test_a_replay_of_nothing_draws_nothing():
    assert Replay(windows=0, events=3, seed=0).draw(2, step=0) == ()
    empty = Replay(windows=2, events=3, seed=0)
    empty.offer(lesson(1, n=0))
    assert empty.draw(2, step=0) == ()


def test_the_guard_serves_what_would_have_been_best_lately():
    guard = Guard(half_life=10)
    assert guard.strength == 0
    guard.observe(np.array([[0.1] * 5, [0.2] * 5, [0.3] * 5, [0.2] * 5]))
    assert guard.strength == 0.6
    for _ in range(5):
        guard.observe(np.array([[0.9] * 5, [0.2] * 5, [0.3] * 5, [0.2] * 5]))
    assert guard.strength == 0
    again = Guard(half_life=10)
    again.load_state(guard.get_state())
    assert again.trailing.tolist() == guard.trailing.tolist()


def test_a_guard_begins_with_what_it_is_told_and_stays_there_while_nothing_speaks_against_it():
    guard = Guard(half_life=10, strengths=(0.0, 0.5, 1.0), initial=1.0)
    assert guard.strength == 1.0
    guard.observe(np.zeros((3, 5)))
    assert guard.strength == 1.0
    guard.observe(np.array([[0.2] * 5, [0.2] * 5, [0.1] * 5]))
    assert guard.strength == 0.5
    guard.observe(np.zeros((3, 0)))
    assert guard.strength == 0.5


def test_the_average_follows_its_schedule():
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = Average(module, decay=0.99)
    expected = 0.0
    for k in range(4):
        with torch.no_grad():
            module.weight.fill_(float(k + 1))
        average.update()
        decay = min(0.99, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * (k + 1)
    with average.serving():
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == 4


def test_consolidation_is_a_weighted_distance_from_the_anchor():
    module = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0]]))
    held = Consolidation(module, gamma=0.5)
    assert held.penalty().item() == 0
    held.finish([torch.tensor([[2.0, 0.0]])])
    held.finish([torch.tensor([[1.0, 3.0]])])  # F = (0.5 * 4 + 1, 0.5 * 0 + 9)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[2.0, 3.0]]))
    assert held.penalty().item() == pytest.approx(0.5 * (3 * 1 + 9 * 1))


def test_a_tied_target_has_the_mean_rank_and_is_never_masked():
    scores = torch.tensor([[3.0, 1.0, 1.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    known = Histories.of([[3], [1]], 4)
    ranks = ranks_of(scores, known, np.array([1, 1], np.int32))
    assert ranks.tolist() == [2.5, 2.5]
    found = metrics_of(np.array([1.0, 2.0, 6.0]), [5])
    assert found["hit@5"].tolist() == [1, 1, 0]
    assert found["ndcg@5"].tolist() == [1, 1 / np.log2(3), 0]


def test_profiles_are_length_and_mean_of_the_newest():
    items = FixedModel().vectors
    found = profiles_of(Histories.of([[1, 2, 3], []], N_ITEMS), items, last=2)
    np.testing.assert_allclose(found[0], [np.log(4), *(items[2] + items[3]) / 2], rtol=1e-5)
    assert not found[1].any()
