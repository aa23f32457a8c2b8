"""Whatever comes in: skipped or bounded, counted, reported, and the stream goes on as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stream_cases import N_ITEMS, make_session, random_events, trending_events

from dynmm_framework.data import windows as windows_room
from dynmm_framework.data.windows import Events
from dynmm_framework.errors import DataError
from dynmm_framework.online.intake import Vocabulary
from dynmm_framework.online.recommender import OnlineRecommender
from dynmm_framework.online.session import Session, digest_of

START = 1000


def live(**changed: Any) -> OnlineRecommender:
    vocabulary = Vocabulary([f"i{n}" for n in range(N_ITEMS)], [f"u{n}" for n in range(12)])
    return OnlineRecommender(make_session(guard=False, **changed), vocabulary)


def records(events: Events) -> list[Any]:
    return [
        {"user": f"u{user}", "item": f"i{item}", "time": time}
        for user, item, time in zip(
            events.users.tolist(), events.items.tolist(), events.times.tolist(), strict=True
        )
    ]


def learned(session: Session) -> str:
    """A digest of all that was learned and remembered, but not of what was skipped."""
    parts = {"memory": session.memory, "learner": session.learners[0], "windower": session.windower}
    return digest_of(
        {
            f"{name}.{key}": array
            for name, part in parts.items()
            for key, array in part.get_state().items()
        }
    )


def usable(recommender: OnlineRecommender) -> None:
    """It learns on and recommends."""
    before = recommender.digest()
    newest = recommender._session.intake.newest
    recommender.update(records(trending_events(60, seed=8, start=newest + 1)), flush=True)
    assert recommender.digest() != before
    assert len(recommender.recommend("u1", k=5)) == 5
    assert all(np.isfinite(entry["score"]) for entry in recommender.recommend("u1", k=5))
    assert np.isfinite(recommender.means["ndcg@10"])


def test_what_is_skipped_changes_nothing_of_what_is_learned():
    clean = records(random_events(60, seed=1, start=START))
    dirty: list[Any] = []
    for place, event in enumerate(clean):
        dirty.append(event)
        match place % 6:
            case 0:
                dirty.append(event)  # once more
            case 1:
                dirty.append(None)  # a line that could not be read
            case 2:
                dirty.append({**event, "item": "no such item"})
            case 3:
                dirty.append({**event, "time": event["time"] + 10 * 365 * 86400})
            case 4:
                dirty.append({**event, "time": -5})
            case 5:
                dirty.append({"item": event["item"], "time": event["time"]})
    plain, mixed = live(), live()
    plain.update(clean, flush=True)
    mixed.update(dirty, flush=True)
    assert learned(mixed._session) == learned(plain._session)
    skipped = {reason: n for reason, n in mixed.skipped.items() if n}
    again = plain.skipped["duplicate"]  # of the clean stream itself
    assert skipped == {
        "duplicate": 10 + again, "malformed": 20, "unknown item": 10, "far future": 10,
        "bad time": 10,
    }  # fmt: skip
    assert mixed.offset == len(dirty)
    usable(mixed)


def test_events_from_the_past_are_kept_at_the_border_and_counted():
    recommender = live()
    recommender.update(records(random_events(60, seed=2, start=START)))
    border = recommender._session.windower._border
    assert recommender.update([{"user": "u3", "item": "i7", "time": border - 500}]) == []
    assert recommender.skipped["late, kept"] == 1
    assert recommender._session.windower.pending.times[0] == border
    assert recommender.skipped["bad time"] == 0
    usable(recommender)


def test_the_first_event_may_be_late():
    recommender = live()
    recommender.update([{"user": "u3", "item": "i7", "time": 1}])
    assert recommender.skipped["late, kept"] == 1
    usable(recommender)


@pytest.mark.parametrize("given", [{"user": "u3", "item": "i7", "time": START}, "abc", None, 3])
def test_what_is_no_list_of_events_is_an_error_and_not_malformed(given: Any):
    recommender = live()
    with pytest.raises(DataError, match=r"update\(\) takes a list of events, not"):
        recommender.update(given)
    assert (recommender.offset, recommender.skipped["malformed"]) == (0, 0)


def test_a_stream_from_the_future_is_believed_after_ten_in_a_row():
    recommender = live()
    recommender.update(records(random_events(30, seed=3, start=START)))
    ahead = START + 3 * 365 * 86400
    jumped = [{"user": f"u{n}", "item": f"i{n}", "time": ahead + n} for n in range(12)]
    recommender.update(jumped[:9])
    assert recommender._session.intake.newest < ahead
    assert recommender.skipped["far future, waiting"] == 9
    recommender.update(jumped[9:])
    assert recommender._session.intake.newest == ahead + 11
    assert recommender.skipped["far future"] == 0
    usable(recommender)


def test_unknown_users_come_in_and_unknown_items_stay_out():
    recommender = live()
    known = len(recommender._vocabulary)
    recommender.update([{"user": "x", "item": "i99", "time": START}])
    assert len(recommender._vocabulary) == known  # of whom nothing is known need not be remembered
    recommender.update([{"user": "x", "item": "i9", "time": START}])
    assert len(recommender._vocabulary) == known + 1
    assert "i9" not in [entry["item"] for entry in recommender.recommend("x", k=N_ITEMS)]
    assert recommender.skipped["unknown item"] == 1
    usable(recommender)


@pytest.mark.parametrize("window", [20, "1h"])
def test_an_empty_window_is_none(window: int | str):
    recommender = live(window=window)
    recommender.update(records(random_events(45, seed=4, start=START)), flush=True)
    before = recommender.digest()
    assert recommender.update([], flush=True) == []
    assert recommender.digest() == before
    nothing = [None, {"user": "u1", "item": "nothing", "time": START}]
    assert recommender.update(nothing, flush=True) == []
    assert learned(recommender._session)
    usable(recommender)


def test_a_window_of_one_user_is_predicted_and_learned():
    recommender = live()
    events = Events.of([5] * 20, np.arange(20), START + np.arange(20))
    reports = recommender.update(records(events), flush=True)
    assert [report.events for report in reports] == [20]
    assert 0 <= reports[0].metrics["adapter"]["ndcg@20"] <= 1
    assert recommender.recommend("u5", k=40)[0]["item"] not in {f"i{n}" for n in range(20)}
    usable(recommender)


def test_a_burst_of_a_hundred_windows_is_cut_and_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(windows_room, "LARGEST", 500)
    usual, burst = random_events(20, seed=5, start=START), random_events(2000, seed=6)
    at = Events(burst.users, burst.items, np.full(2000, START + 100))
    for window, longest in ((20, 40), ("1h", 1000)):
        session = make_session(window=window, batch=64, repeats=10_000, per_user=10_000)
        session.intake.admit(usual)
        list(session.push(usual))
        reports = [*session.push(at), *session.flush()]
        assert max(report.events for report in reports) <= longest
        assert session.events + sum(session.intake.skipped.values()) == 2020
        assert all(len(kept) <= 64 for kept in session.learners[0].replay.kept)
        assert np.isfinite(session.means["adapter"]["ndcg@10"])


def test_a_poisoned_stream_moves_nothing_beyond_its_cap():
    poisoned, honest = (live(repeats=2, popularity=0.7) for _ in range(2))
    events = random_events(200, seed=7, start=START)
    honest.update(records(events), flush=True)
    poison = [{"user": "u11", "item": "i39", "time": START + n // 5} for n in range(1000)]
    both = sorted([*records(events), *poison], key=lambda record: record["time"])
    reports = poisoned.update(both, flush=True)
    counts = poisoned._session.memory.popularity.counts
    honest_counts = honest._session.memory.popularity.counts
    assert counts[39] <= honest_counts[39] + 2 * len(reports)
    assert poisoned.skipped["repeated"] + poisoned.skipped["duplicate"] >= 1000 - 2 * len(reports)
    usable(poisoned)
