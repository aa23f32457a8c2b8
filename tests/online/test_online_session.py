"""Streams: predicted before learned, the same after a kill, usable whatever comes in."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from stream_cases import N_ITEMS, FixedModel, make_session, random_events, trending_events

from dynmm_framework.data.windows import Events
from dynmm_framework.errors import ArtifactError, DataError
from dynmm_framework.online import drift as drift_room
from dynmm_framework.online import intake as intake_room
from dynmm_framework.online.baselines import IncrementalItemKNN, SessionKNN
from dynmm_framework.online.checkpoint import load_session, save_session
from dynmm_framework.online.drift import DriftWatch
from dynmm_framework.online.intake import Intake, Vocabulary, read_line
from dynmm_framework.online.memory import FrozenBase
from dynmm_framework.online.recommender import OnlineRecommender
from dynmm_framework.online.session import Session
from dynmm_framework.online.strategies import Fusion
from dynmm_framework.online.weights import Weights

START = 1000


def played(session: Session, events: Events, size: int = 7) -> list[int]:
    closed = []
    for start in range(0, len(events), size):
        closed += [r.window for r in session.push(events.take(slice(start, start + size)))]
    return closed + [r.window for r in session.flush()]


def test_a_window_is_predicted_by_the_state_before_it():
    events = trending_events(80, start=START)  # each at a time of its own: windows of 20
    whole, cut = make_session(), make_session()
    played(whole, events)
    # What comes later, and what is in the window itself, must not change how it is predicted.
    other = trending_events(80, seed=5, start=START)
    mixed = Events.joined([events.take(slice(0, 43)), other.take(slice(43, None))])
    played(cut, mixed)
    for before, after in zip(list(whole.reports)[:2], list(cut.reports)[:2], strict=True):
        assert before.metrics == after.metrics


def test_a_stream_in_pieces_is_the_stream_in_one():
    events = random_events(90, start=START)
    a, b = make_session(), make_session()
    played(a, events, size=3)
    played(b, events, size=90)
    assert a.digest() == b.digest()
    assert a.means == b.means


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_stream_that_was_killed_goes_on_as_if_it_had_not(preset: str, tmp_path: Path):
    events = random_events(130, start=START)
    whole = make_session(preset=preset, drift_boost=2.0)
    played(whole, events, size=10)

    first = make_session(preset=preset, drift_boost=2.0)
    for start in range(0, 70, 10):
        list(first.push(events.take(slice(start, start + 10))))
        save_session(tmp_path / "s.safetensors", first)
    list(first.push(events.take(slice(70, 90))))  # lost with the process

    again = make_session(preset=preset, drift_boost=2.0)
    load_session(tmp_path / "s.safetensors", again)
    assert again.offset == 70
    played(again, events.take(slice(again.offset, None)), size=10)
    assert again.digest() == whole.digest()
    assert again.means == whole.means
    assert [r.metrics for r in again.reports] == [r.metrics for r in whole.reports]


def test_a_checkpoint_of_another_stream_is_refused(tmp_path: Path):
    save_session(tmp_path / "s.safetensors", make_session())
    for other in (make_session(steps=3), make_session(offline=random_events(100, seed=1))):
        with pytest.raises(ArtifactError, match="belongs to another stream"):
            load_session(tmp_path / "s.safetensors", other)


def test_the_base_stays_frozen_and_the_adapter_changes():
    session = make_session()
    before = session.base.digest()
    learner = session.learners[0]
    weights = dict(learner.adapter.get_state())
    played(session, random_events(60, start=START))
    assert session.base.digest() == before
    after = learner.adapter.get_state()
    assert any(not np.array_equal(weights[name], after[name]) for name in weights)
    with pytest.raises(ValueError, match="read-only"):
        session.base.items[0] = 0


def test_it_adapts_to_a_planted_drift_and_its_base_does_not():
    session = make_session(
        offline=random_events(300, items=30), window=100, steps=10, replay=100, guard=False,
        popularity=0.0, transitions=0.0, learning_rate=0.01,
    )  # fmt: skip
    # Ten windows as before, then, from one event to the next, other items.
    before = trending_events(1000, seed=3, start=START, first=0)
    after = trending_events(1500, start=int(before.times[-1]) + 1)
    list(session.push(Events.joined([before, after])))
    values = {
        name: [report.metrics[name]["ndcg@10"] for report in session.reports]
        for name in ("adapter", "static")
    }
    assert np.mean(values["adapter"][-5:]) > 1.5 * np.mean(values["static"][-5:])
    # What was learned is of no use at once, and half of what is gained is there after five windows.
    assert values["adapter"][10] < 0.5 * values["adapter"][9]
    gain = np.mean(values["adapter"][-5:]) - values["adapter"][10]
    assert np.mean(values["adapter"][15:17]) > values["adapter"][10] + gain / 2


def test_drift_is_noticed_and_the_watch_survives_a_restart():
    rng = np.random.default_rng(0)
    easy, hard = rng.random(4000) < 0.6, rng.random(4000) < 0.1
    watch, half = DriftWatch(), DriftWatch()
    assert not watch.observe(easy.astype(float))
    half.observe(easy.astype(float))
    again = DriftWatch()
    again.load_state(half.get_state())
    assert watch.observe(hard.astype(float))
    assert again.observe(hard.astype(float))
    assert again.get_state()["values"].tolist() == watch.get_state()["values"].tolist()


def test_memory_does_not_grow_with_the_stream(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intake_room, "REMEMBERED", 100)
    monkeypatch.setattr(drift_room, "REMEMBERED", 10)
    session = make_session(history=50)
    sizes = []
    for part in range(4):
        list(session.push(random_events(300, seed=part, start=START + 1500 * part)))
        sizes.append(sum(array.nbytes for array in session.get_state().values()))
    assert sizes[3] < 1.1 * sizes[1]


# What comes in from outside.


def intake() -> Intake:
    return Intake(N_ITEMS, horizon=1000)


def test_events_that_cannot_be_are_skipped_and_counted():
    door = intake()
    door.newest = 100
    found = door.admit(Events.of([1, 1, 1, 1], [5, -1, 99, 6], [100, 101, 102, -5]))
    assert found.items.tolist() == [5]
    assert door.skipped["unknown item"] == 2
    assert door.skipped["bad time"] == 1


def test_a_wrong_clock_is_skipped_and_a_real_gap_believed():
    door = intake()
    door.newest = 100
    assert door.admit(Events.of([1, 2], [1, 2], [99_999, 101])).times.tolist() == [101]
    assert door.skipped["far future"] == 1
    later = Events.of(range(12), range(12), range(50_000, 50_012))
    assert len(door.admit(later.take(slice(0, 7)))) == 0
    again = intake()
    again.load_state(door.get_state())
    assert again.admit(later.take(slice(7, None))).items.tolist() == list(range(12))
    assert again.skipped["far future"] == 1
    assert again.newest == 50_011


def test_duplicates_are_found_within_and_across_batches():
    door = intake()
    door.newest = 0
    assert len(door.admit(Events.of([1, 1, 2], [5, 5, 5], [7, 7, 7]))) == 2
    assert len(door.admit(Events.of([1, 1], [5, 5], [7, 8]))) == 1
    assert door.skipped["duplicate"] == 2


def test_a_poisoned_stream_is_bounded_and_stays_usable():
    session = make_session(repeats=2, per_user=5)
    poison = Events.of([3] * 1000, [7] * 1000, range(START, START + 1000))
    played(session, poison)
    assert session.skipped["repeated"] == 1000 - 2 * len(session.reports)
    assert session.memory.popularity.counts.max() < 150
    many = Events.of([4] * 30, range(30), range(START + 2000, START + 2030))
    list(session.push(many))
    assert session.skipped["too many of one user"] > 0
    played(session, random_events(60, start=START + 3000))
    assert np.isfinite(session.means["adapter"]["ndcg@10"])


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", '{"user": 1}', '{"user": 1, "item": 2, "time": "soon"}',
     '{"user": true, "item": 2, "time": 1}', '{"user": "", "item": 2, "time": 1}',
     '{"user": 1, "item": 2, "time": 1e300}', '{"user": 1, "item": 2, "time": null}', "[" * 5000],
)  # fmt: skip
def test_malformed_lines_are_none(line: str):
    assert read_line(line) is None


def test_times_are_seconds_or_iso():
    for time in ('"2020-01-01T00:00:00+00:00"', "1577836800", "1577836800.9"):
        event = read_line(f'{{"user": 1, "item": "x", "time": {time}}}')
        assert event is not None
        assert (event.user, event.item, event.time) == ("1", "x", 1577836800)


@pytest.mark.parametrize("window", [1, "5s", "1h"])
def test_windows_of_one_event_or_of_time_work(window: int | str):
    session = make_session(window=window)
    played(session, random_events(30, start=START))
    assert session.events + sum(session.intake.skipped.values()) == 30


def test_a_burst_is_learned_in_part():
    session = make_session(window="1h", batch=16)
    numbers = np.arange(2000)
    burst = Events.of(numbers // N_ITEMS, numbers % N_ITEMS, [START] * 2000)
    played(session, burst)
    assert [report.events for report in session.reports] == [2000]


# The recommender.


def live() -> OnlineRecommender:
    vocabulary = Vocabulary([f"i{n}" for n in range(N_ITEMS)], [f"u{n}" for n in range(12)])
    return OnlineRecommender(make_session(guard=False), vocabulary)


def records(events: Events) -> list[dict[str, object]]:
    return [
        {"user": f"u{user}", "item": f"i{item}", "time": time}
        for user, item, time in zip(
            events.users.tolist(), events.items.tolist(), events.times.tolist(), strict=True
        )
    ]


def test_recommendations_leave_out_what_is_known_at_once():
    recommender = live()
    first = recommender.recommend("someone new", k=3)
    assert [entry["rank"] for entry in first] == [1, 2, 3]
    recommender.update([{"user": "someone new", "item": first[0]["item"], "time": START}])
    assert first[0]["item"] not in [e["item"] for e in recommender.recommend("someone new", k=9)]
    assert len(recommender.recommend("someone new", k=500)) == N_ITEMS - 1


def test_a_history_is_served_like_a_user():
    recommender = live()
    recommender.update(
        [{"user": "a", "item": "i1", "time": START}, {"user": "a", "item": "i2", "time": START + 1}]
    )
    assert recommender.recommend("a", k=5) == recommender.recommend(history=["i1", "i2"], k=5)


def test_odd_events_are_counted_and_never_fatal():
    recommender = live()
    recommender.update([None, {"user": 1}, {"user": "a", "item": "nothing", "time": START}])
    assert recommender.skipped["malformed"] == 2
    assert recommender.skipped["unknown item"] == 1
    assert recommender.offset == 3


def test_names_are_forgotten_with_histories_and_numbers_never_come_again(tmp_path: Path):
    def small() -> OnlineRecommender:
        vocabulary = Vocabulary([f"i{n}" for n in range(N_ITEMS)], ["u0"])
        return OnlineRecommender(make_session(guard=False, known_users=20), vocabulary)

    def met(recommender: OnlineRecommender, first: int, last: int) -> None:
        recommender.update(
            [{"user": f"n{n}", "item": f"i{n % 40}", "time": START + n} for n in range(first, last)]
        )

    whole, again = small(), small()
    for start in range(0, 300, 10):
        met(whole, start, start + 10)
        assert len(whole._vocabulary) < 60
    names = whole._vocabulary
    assert names.user("n299") == 300  # the number that nobody had before
    assert names.user("n0") == -1
    assert names.user("u0") == 0
    whole.save(tmp_path / "s.safetensors")
    again.load(tmp_path / "s.safetensors")
    for recommender in (whole, again):
        met(recommender, 300, 340)
    assert again.digest() == whole.digest()
    assert again._vocabulary.get_state().keys() == names.get_state().keys()
    for name, array in names.get_state().items():
        np.testing.assert_array_equal(again._vocabulary.get_state()[name], array)


def test_what_cannot_be_asked_is_refused():
    recommender = live()
    with pytest.raises(DataError, match="there is no item 'i400'; did you mean i4"):
        recommender.recommend(history=["i400"])
    for wrong in ({}, {"user": "a", "history": ["i1"]}, {"user": "a", "k": 0}):
        with pytest.raises(DataError, match="takes a user or a list of items"):
            recommender.recommend(**wrong)  # type: ignore[arg-type]


def test_a_saved_recommender_goes_on_with_users_that_came_later(tmp_path: Path):
    events = [*records(random_events(50, start=START)), {"user": "é", "item": "i3", "time": 1100}]
    more = records(random_events(30, seed=4, start=START + 200))
    first, again = live(), live()
    first.update(events)
    first.save(tmp_path / "s.safetensors")
    assert again.load(tmp_path / "s.safetensors") == 51
    for recommender in (first, again):
        recommender.update(more, flush=True)
    assert first.digest() == again.digest()
    assert first.recommend("é", k=5) == again.recommend("é", k=5)


def test_readers_see_all_of_an_update_or_nothing():
    recommender = live()
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            snapshot = recommender.snapshot
            users = np.array([3], np.int32)
            first, _ = snapshot.scores(users)
            second, _ = snapshot.scores(users)
            if not np.array_equal(first.numpy(), second.numpy()):
                wrong.append(snapshot.number)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for part in range(6):
        recommender.update(records(random_events(25, seed=part, start=START + 100 * part)))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert recommender.snapshot.number == 6


# Baselines.


def test_baselines_score_what_was_chosen_together():
    base = FrozenBase(FixedModel(), np.zeros(N_ITEMS, np.int64))
    strategies = {
        "knn": IncrementalItemKNN(N_ITEMS, last=3),
        "session": SessionKNN(N_ITEMS, sessions=5, neighbours=2),
        "popular": Fusion(Weights(popularity=1, base=0)),
    }
    config = make_session().config
    session = Session(base, config, strategies)
    users = np.repeat(np.arange(30), 2)
    items = np.tile([4, 5], 30)
    list(session.push(Events.of(users, items, np.arange(60) * 10)))
    asked = session.memory.standing(
        np.array([99], np.int32), type(session.memory.histories.of(users)).of([[4]], N_ITEMS)
    )
    for name in ("knn", "session"):
        scores = session.strategies[name].score(asked)[0].numpy().copy()
        scores[4] = 0
        assert scores.argmax() == 5
        assert (scores > 0).sum() == 1
        restored = type(strategies[name])(N_ITEMS)
        restored.__dict__.update(
            {k: v for k, v in strategies[name].__dict__.items() if isinstance(v, int)}
        )
        restored.load_state(strategies[name].get_state())
        np.testing.assert_allclose(
            restored.score(asked).numpy(), session.strategies[name].score(asked).numpy(), rtol=1e-6
        )
    popular = session.strategies["popular"].score(asked)[0]
    assert set(popular.topk(2).indices.tolist()) == {4, 5}
    assert json.dumps(session.means)
