"""Windows: what stands on which side of a border, whatever pieces a stream comes in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.config.windows import WindowRule
from dynmm_framework.data import windows
from dynmm_framework.data.tables import Interactions
from dynmm_framework.data.windows import Events, Windower, stream_of, windows_of
from dynmm_framework.errors import DataError


def at(*times: int) -> Events:
    return Events.of(np.arange(len(times)) % 3, np.arange(len(times)), times)


def lengths(events: Events, rule: WindowRule) -> list[int]:
    return [len(window.events) for window in windows_of(events, rule)]


def test_a_window_by_count_ends_at_the_first_change_of_time_after_its_size():
    assert lengths(at(1, 2, 3, 4, 5), WindowRule(events=2)) == [2, 2, 1]
    assert lengths(at(1, 2, 2, 2, 5, 6), WindowRule(events=2)) == [4, 2]


def test_a_tie_longer_than_two_windows_is_split_and_says_so():
    found = list(windows_of(at(*[7] * 5, 8), WindowRule(events=2)))
    assert [len(w.events) for w in found] == [4, 2]
    assert [w.splits_tie for w in found] == [True, False]


def test_a_window_by_time_is_one_interval_and_knows_how_many_were_empty():
    found = list(windows_of(at(0, 59, 60, 300), WindowRule(seconds=60)))
    assert [len(w.events) for w in found] == [2, 1, 1]
    assert [w.gap for w in found] == [0, 0, 3]
    assert [w.number for w in found] == [1, 2, 3]


def test_a_burst_within_an_interval_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(windows, "LARGEST", 3)
    found = list(windows_of(at(0, 1, 2, 3, 4, 5, 6, 99), WindowRule(seconds=60)))
    assert [len(w.events) for w in found] == [3, 3, 1, 1]
    assert [w.gap for w in found] == [0, 0, 0, 0]


def test_an_empty_stream_has_no_window():
    assert lengths(at(), WindowRule(events=5)) == []


times = st.lists(st.integers(0, 30), max_size=40).map(sorted)
rules = st.one_of(
    st.integers(1, 6).map(lambda n: WindowRule(events=n)),
    st.integers(1, 9).map(lambda s: WindowRule(seconds=s)),
)


@given(times, rules, st.lists(st.integers(1, 9), max_size=20))
def test_any_pieces_give_the_same_windows(moments: list[int], rule: WindowRule, sizes: list[int]):
    events = at(*moments)
    whole = list(windows_of(events, rule))
    cutter, found, start = Windower(rule), [], 0
    for size in [*sizes, len(events)]:
        found += cutter.push(events.take(slice(start, start + size)))
        start += size
    found += cutter.flush()
    assert [w.events.items.tolist() for w in found] == [w.events.items.tolist() for w in whole]
    assert [(w.gap, w.splits_tie) for w in found] == [(w.gap, w.splits_tie) for w in whole]
    assert cutter.late == 0


@given(times, rules)
def test_every_event_is_in_one_window_and_no_tie_is_split_in_silence(
    moments: list[int], rule: WindowRule
):
    events = at(*moments)
    found = list(windows_of(events, rule))
    joined = Events.joined(window.events for window in found)
    assert joined.items.tolist() == events.items.tolist()
    for before, after in pairwise(found):
        tied = before.events.times[-1] == after.events.times[0]
        assert tied == before.splits_tie
        if tied:
            assert len(before.events) == 2 * rule.events


def test_events_out_of_order_are_sorted_within_the_open_window():
    cutter = Windower(WindowRule(events=4))
    assert list(cutter.push(at(5, 3, 9))) == []
    (window,) = cutter.push(at(4, 10))
    assert window.events.times.tolist() == [3, 4, 5, 9]
    assert cutter.late == 0


def test_an_event_older_than_a_closed_window_is_late_and_kept_at_the_border():
    cutter = Windower(WindowRule(events=2))
    list(cutter.push(at(5, 6, 7)))
    (window,) = [*cutter.push(at(1)), *cutter.flush()]
    assert window.events.times.tolist() == [6, 7]
    assert cutter.late == 1


def test_a_restored_windower_goes_on_where_it_stopped():
    rule, events = WindowRule(events=3), at(1, 2, 3, 3, 4, 5, 6, 7)
    cutter = Windower(rule)
    first = list(cutter.push(events.take(slice(0, 5))))
    again = Windower(rule)
    again.load_state(cutter.get_state())
    rest = [*again.push(events.take(slice(5, None))), *again.flush()]
    assert [len(w.events) for w in [*first, *rest]] == lengths(events, rule)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (500, WindowRule(events=500)),
        ("500 events", WindowRule(events=500)),
        ("1h", WindowRule(seconds=3600)),
        ("30min", WindowRule(seconds=1800)),
        ("2w", WindowRule(seconds=14 * 86400)),
    ],
)
def test_rules_are_read(text: int | str, rule: WindowRule):
    assert WindowRule.parse(text) == rule


@pytest.mark.parametrize("text", [0, -1, True, "", "h", "1 month", "0h", "1.5h"])
def test_what_is_no_length_is_refused(text: int | str):
    with pytest.raises(ValueError, match="must be a number of events, as in 500, or a time"):
        WindowRule.parse(text)


def test_a_stream_is_in_the_order_of_time_and_needs_times():
    rows = Interactions(
        np.array([0, 0, 1], np.int32),
        np.array([0, 1, 2], np.int32),
        2,
        3,
        timestamps=np.array([5, 9, 5], np.int64),
    )
    assert stream_of(rows).items.tolist() == [0, 2, 1]
    undated = Interactions(rows.users, rows.items, 2, 3)
    with pytest.raises(DataError, match="a stream needs timestamps"):
        stream_of(undated)


@given(st.lists(st.integers(0, 30), max_size=40), rules, st.lists(st.integers(1, 9), max_size=20))
def test_what_is_out_of_order_meets_the_same_windows_in_any_pieces(
    moments: list[int], rule: WindowRule, sizes: list[int]
):
    events = at(*moments)

    def met(cuts: list[int]) -> tuple[list[list[int]], int]:
        cutter, found, start = Windower(rule), [], 0
        for size in [*cuts, len(events)]:
            found += cutter.push(events.take(slice(start, start + size)))
            start += size
        found += cutter.flush()
        return [w.events.items.tolist() for w in found], cutter.late

    assert met(sizes) == met([1] * len(events))


def test_what_is_older_than_where_a_stream_begins_is_late():
    cutter = Windower(WindowRule(events=2))
    cutter.since(10)
    (window,) = cutter.push(at(3, 10, 11))
    assert cutter.late == 1
    assert window.events.times.tolist() == [10, 10]
