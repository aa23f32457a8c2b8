"""Evidence that keeps up with events: when an extractor is refreshed, and with what."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.config.evidence import RefreshBlock
from dynmm_framework.config.windows import WindowRule
from dynmm_framework.data.tables import Interactions
from dynmm_framework.data.windows import Events
from dynmm_framework.errors import PluginError
from dynmm_framework.explain.refresh import FreshEvidence
from dynmm_framework.explain.source import EvidenceSource

HOUR = 3600


class Ageing:
    """Keeps what it is given at each refresh."""

    def __init__(self) -> None:
        self.given: list[Interactions] = []
        self.restored: Any = None

    def refresh(self, recent: Interactions) -> None:
        self.given.append(recent)

    def get_state(self) -> dict[str, Any]:
        return {"given": np.asarray(len(self.given))}

    def load_state(self, state: Any) -> None:
        self.restored = int(state["given"])

    def attach(self, base: Any) -> None:
        self.restored = (self.restored, base)


def fresh(extractor: Any, rule: dict[str, Any], *, window: str = "1h") -> FreshEvidence:
    return FreshEvidence(
        EvidenceSource({"one": extractor}),
        {"one": RefreshBlock(**rule)},
        window=WindowRule.parse(window),
        n_users=4,
        n_items=10,
        newest=0,
    )


def hourly(n: int, *, first: int = 1) -> Events:
    """Events of user 0, one in the middle of each hour."""
    hours = np.arange(first, first + n)
    return Events.of(hours * 0, hours % 10, hours * HOUR + HOUR // 2)


def test_it_is_refreshed_after_so_many_windows() -> None:
    ageing = Ageing()
    evidence = fresh(ageing, {"windows": 3})
    assert evidence.push(hourly(3)) == []  # the third window is open
    assert evidence.push(hourly(4, first=4)) == ["one", "one"]
    assert [given.items.tolist() for given in ageing.given] == [[1, 2, 3], [4, 5, 6]]
    assert evidence.refreshed == 2


def test_it_is_refreshed_when_what_it_knows_is_so_old() -> None:
    ageing = Ageing()
    evidence = fresh(ageing, {"age": "5h"})
    evidence.push(hourly(12))
    # Events stand in the middle of an hour: 5 h after the start of time is passed in hour 5.
    assert [given.items.tolist() for given in ageing.given] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]


def test_unknown_items_are_left_out_and_new_users_counted() -> None:
    ageing = Ageing()
    events = Events.of([9, 1, 2], [3, 10, 3], [10, 20, 2 * HOUR])
    fresh(ageing, {"windows": 1}).push(events)
    (given_,) = ageing.given
    assert (given_.users.tolist(), given_.items.tolist()) == ([9], [3])
    assert (given_.n_users, given_.n_items) == (10, 10)


@given(st.lists(st.integers(0, 40), max_size=6))
def test_any_pieces_give_the_same_refreshes(cuts: list[int]) -> None:
    events = hourly(40)
    whole, pieces = Ageing(), Ageing()
    fresh(whole, {"windows": 4}).push(events)
    evidence = fresh(pieces, {"windows": 4})
    edges = [0, *sorted(cuts), len(events)]
    for start, stop in pairwise(edges):
        evidence.push(events.take(slice(start, stop)))
    assert [g.items.tolist() for g in pieces.given] == [g.items.tolist() for g in whole.given]


def test_windows_that_a_stream_has_closed_need_no_cutting() -> None:
    ageing = Ageing()
    evidence = fresh(ageing, {"windows": 2})
    evidence.push(hourly(3))
    assert evidence.flush() == []  # the third; the second had made it refresh
    assert evidence.flush() == []
    assert evidence.learn(hourly(5, first=4)) == ["one"]
    assert [given.items.tolist() for given in ageing.given] == [[1, 2], [3, 4, 5, 6, 7, 8]]


@pytest.mark.parametrize("rule", [{"windows": 3}, {"age": "5h"}])
def test_it_goes_on_from_its_state(rule: dict[str, Any]) -> None:
    ageing, again = Ageing(), Ageing()
    evidence, resumed = fresh(ageing, rule), fresh(again, rule)
    evidence.push(hourly(8))
    state = {name: np.array(array) for name, array in evidence.get_state().items()}
    resumed.load_state(state, base="base")  # type: ignore[arg-type]
    done = len(ageing.given)
    assert again.restored == (done, "base")
    assert resumed.refreshed == done > 0
    for each in (evidence, resumed):
        each.push(hourly(8, first=9))
    assert len(again.given) > 0
    assert [g.items.tolist() for g in again.given] == [
        g.items.tolist() for g in ageing.given[done:]
    ]


def test_what_cannot_be_refreshed_is_named() -> None:
    with pytest.raises(PluginError, match="the extractor one cannot be brought up to date") as e:
        fresh(object(), {"windows": 1})
    assert "Leave refresh out" in str(e.value.hint)
