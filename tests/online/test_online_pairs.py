"""Pairs that are read while others learn: readers keep what they were given, without copies."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import N_ITEMS, make_session, random_events

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.intake import Vocabulary
from dynmm_framework.online.pairs import FAINT, DensePairs, SparsePairs
from dynmm_framework.online.recommender import OnlineRecommender

N = 12


def added(pairs: Any, seed: int, n: int = 5) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random(n).astype(np.float32)
    pairs.add(rng.integers(0, N, n), rng.integers(0, N, n), values, faint=0.0)


@given(st.lists(st.sampled_from(["add", "freeze", "drop", "fade"]), max_size=40), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_lent_matrices_are_those_that_copies_would_be(steps: list[str], seed: int):
    lent, copied = DensePairs(N), np.zeros((N, N), np.float32)
    readers: list[tuple[DensePairs, np.ndarray]] = []
    for place, step in enumerate(steps):
        if step == "add":
            added(lent, seed + place, n=3)
            rng = np.random.default_rng(seed + place)
            values = rng.random(3).astype(np.float32)
            np.add.at(copied, (rng.integers(0, N, 3), rng.integers(0, N, 3)), values)
        elif step == "freeze":
            readers.append((lent.frozen(), copied.copy()))
        elif step == "drop" and readers:
            readers.pop(0)
        elif step == "fade":
            lent.fade(0.5)
            copied *= np.float32(0.5)
            copied[copied < FAINT] = 0
        np.testing.assert_array_equal(lent.table, copied)
        for reader, then in readers:
            np.testing.assert_array_equal(reader.table, then)


def test_a_snapshot_a_window_needs_two_matrices_and_no_copy():
    pairs = DensePairs(100)
    reader, seen = None, set()
    for seed in range(20):
        added(pairs, seed, n=3)
        reader = pairs.frozen()  # the one before is let go
        seen.add(pairs.table.__array_interface__["data"][0])
    assert len(seen) == 2
    assert reader is not None
    assert len(pairs._lent._missing) <= 1


def test_who_reads_for_long_costs_a_copy_and_sees_no_change():
    pairs = DensePairs(100)
    added(pairs, 0)
    slow = pairs.frozen()
    before = slow.table.copy()
    for seed in range(1, 6):
        added(pairs, seed)
        pairs.frozen()
    np.testing.assert_array_equal(slow.table, before)
    assert not np.shares_memory(slow.table, pairs.table)
    twin = slow.frozen()
    del slow
    gc.collect()
    added(pairs, 6)
    np.testing.assert_array_equal(twin.table, before)


def test_without_readers_nothing_is_kept_besides():
    pairs = DensePairs(N)
    pairs.frozen()
    for seed in range(50):
        added(pairs, seed)
    assert pairs._lent._other is None or len(pairs._lent._missing) * 5 * 8 <= N * N
    again = DensePairs(N)
    for seed in range(50):
        added(again, seed)
    np.testing.assert_array_equal(pairs.table, again.table)


@pytest.mark.parametrize("kind", [DensePairs, lambda n: SparsePairs(n, 1000)])
def test_readers_in_threads_keep_their_sums(kind: Any):
    pairs = kind(N)
    added(pairs, 0, n=40)
    asked = Histories.of([[n] for n in range(N)], N)
    weights = np.ones(N, np.float32)
    wrong: list[int] = []
    stop = threading.Event()
    served = [pairs.frozen()]

    def read() -> None:
        while not stop.is_set():
            reader = served[0]
            first = reader.counts(asked, weights).copy()
            if not np.array_equal(first, reader.counts(asked, weights)):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(1, 200):
        added(pairs, seed)
        served[0] = pairs.frozen()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(st.lists(st.sampled_from(["extend", "copy", "drop"]), max_size=30), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_lent_histories_are_those_that_copies_would_be(steps: list[str], seed: int):
    lent, users = HistoryStore(N_ITEMS, longest=4, most=6), np.arange(12)
    plain: dict[int, list[int]] = {}
    place, last = 0, {}
    readers: list[tuple[HistoryStore, list[list[int]], list[int]]] = []

    def seen(store: HistoryStore) -> list[list[int]]:
        found = store.of(users)
        return [found[row].tolist() for row in range(len(users))]

    for number, step in enumerate(steps):
        if step == "extend":
            events = random_events(7, seed=seed + number)
            lent.extend(events)
            for row, (user, item) in enumerate(
                zip(events.users.tolist(), events.items.tolist(), strict=True)
            ):
                plain[user] = [*plain.pop(user, []), item][-4:]
                last[user] = place + row
            place += 7
            for user in [*plain][: max(len(plain) - 6, 0)]:
                del plain[user], last[user]
        elif step == "copy":
            copy = lent.copy()
            readers.append((copy, seen(copy), copy.last(users).tolist()))
        elif readers:
            readers.pop(0)
        assert seen(lent) == [plain.get(user, []) for user in users.tolist()]
        assert lent.last(users).tolist() == [last.get(user, place) for user in users.tolist()]
        assert [*lent.users()] == [*plain]
        for reader, then, places in readers:
            assert seen(reader) == then
            assert reader.last(users).tolist() == places


def test_a_copy_that_goes_on_leaves_its_origin_as_it_is():
    store = HistoryStore(N_ITEMS)
    store.extend(random_events(20))
    before = store.get_state()
    copy = store.copy()
    copy.extend(random_events(20, seed=1))
    for name, array in store.get_state().items():
        np.testing.assert_array_equal(array, before[name])
    store.extend(random_events(20, seed=2))
    assert copy.place == store.place == 40


def test_a_snapshot_that_is_kept_scores_as_it_did():
    vocabulary = Vocabulary([f"i{n}" for n in range(N_ITEMS)], [f"u{n}" for n in range(12)])
    live = OnlineRecommender(make_session(guard=False), vocabulary)

    def records(events: Events) -> list[dict[str, Any]]:
        columns = (events.users.tolist(), events.items.tolist(), events.times.tolist())
        rows = zip(*columns, strict=True)
        return [{"user": f"u{u}", "item": f"i{i}", "time": t} for u, i, t in rows]

    users = np.arange(12, dtype=np.int32)
    kept: list[tuple[Any, Any]] = []
    for part in range(8):
        live.update(records(random_events(25, seed=part, start=1000 + 100 * part)))
        if part % 3 == 0:
            kept.append((live.snapshot, live.snapshot.scores(users)[0].clone()))
    for snapshot, scores in kept:
        assert np.array_equal(snapshot.scores(users)[0].numpy(), scores.numpy())
