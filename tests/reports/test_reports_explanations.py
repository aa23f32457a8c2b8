"""Records of evidence in words that someone reads who has not seen the code."""

from __future__ import annotations

from typing import Any

import pytest

from dynmm_framework.explain.cases import Cited, record_of
from dynmm_framework.explain.records import Fact
from dynmm_framework.reports.explanations import evidence_words


def words(fact: Fact, **of_the_pair: Any) -> str:
    return evidence_words(record_of(Cited("e1", "some", fact, 0.5, **of_the_pair), ["i0", "i1"]))


@pytest.mark.parametrize(
    ("fact", "of_the_pair", "expected"),
    [
        (Fact("neighbour", "Babe", item=1), {}, "close to “Babe”"),
        (
            Fact("neighbour", "Babe", item=1),
            {"own": True, "support": 1},
            "close to “Babe”, which is in the history",
        ),
        (
            Fact("attribute", "Comedy", "genre"),
            {"support": 7, "of": 20, "windowed": True},
            "genre: Comedy, like 7 of the newest 20 in the history",
        ),
        (
            Fact("attribute", "Comedy", "main_genre"),
            {"support": 7, "of": 1200},
            "main genre: Comedy, like 7 of 1,200 in the history",
        ),
        (Fact("attribute", "pig"), {}, "attribute: pig"),
        (
            Fact("cohort", values={"count": 82.0, "users": 131.0}),
            {},
            "82 of 131 people of similar taste chose it",
        ),
        (
            Fact("cohort", "Babe", values={"count": 82.0, "users": 131.0}),
            {},
            "82 of 131 people who chose “Babe” chose it",
        ),
        (
            Fact("trend", values={"count": 55.0, "days": 30.0, "before": 20.0, "growth": 2.75}),
            {},
            "55 people chose it in the last 30 days, 20 before",
        ),
        (
            Fact("trend", values={"count": 1412.0, "of": 9000.0}),
            {},
            "1,412 people chose it among the newest 9,000 choices",
        ),
        (Fact("trend", values={"count": 12.0}), {}, "12 people chose it lately"),
        (
            Fact("passage", passage="A pig.", source="description"),
            {},
            "“A pig.” (from the description)",
        ),
        (Fact("review", passage="Nice pig.", source="reviews"), {}, "“Nice pig.” (from a review)"),
        (Fact("trend", values={"share": 0.5}), {}, "trend: share 0.5"),
    ],
)
def test_what_a_record_says(fact: Fact, of_the_pair: dict[str, Any], expected: str):
    assert words(fact, **of_the_pair) == expected


def test_numbers_are_whole_where_they_are():
    fact = Fact("trend", values={"count": 123456.0, "days": 7.0})
    assert words(fact) == "123,456 people chose it in the last 7 days"
