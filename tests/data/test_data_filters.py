"""Filters against written-out examples and a plain Python k-core."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.config.pipeline import Filters
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.filters import apply_filters
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError

OFF = Filters(deduplicate="none")


def tiny(pairs: str, *, ratings: list[float] | None = None, items: str = "") -> Dataset:
    """``a1 a2 b1`` is user a with items 1 and 2, then user b with item 1."""
    words = pairs.split()
    table = {"user": [w[0] for w in words], "item": [w[1:] for w in words]}
    table |= {"timestamp": list(range(len(words)))}
    table |= {"rating": ratings} if ratings else {}
    return assemble(table, name="tiny", items={"id": items.split()} if items else None)


def raw(dataset: Dataset) -> str:
    items, users = dataset.items["id"].to_pylist(), dataset.users["id"].to_pylist()
    rows = dataset.interactions
    assert (rows.n_users, rows.n_items) == (len(users), len(items))
    return " ".join(users[u] + items[i] for u, i in zip(rows.users, rows.items, strict=True))


def test_filters_that_are_off_change_nothing() -> None:
    dataset = tiny("a1 a1 b2")
    assert apply_filters(dataset, OFF) is dataset


def test_deduplicate_keeps_the_last_or_the_first_of_a_pair() -> None:
    dataset = tiny("a1 a2 a1 b1 b1 a2 a3")
    last = apply_filters(dataset, Filters(deduplicate="last"))
    assert raw(last) == "a1 a2 a3 b1"
    assert last.interactions.timestamps is not None
    assert last.interactions.timestamps.tolist() == [2, 5, 6, 4]
    first = apply_filters(dataset, Filters(deduplicate="first"))
    assert raw(first) == "a1 a2 a3 b1"
    assert first.interactions.timestamps is not None
    assert first.interactions.timestamps.tolist() == [0, 1, 6, 3]
    assert first.log == (("read", 2, 3, 7), ("deduplicate first", 2, 3, 4))


def test_min_rating_comes_before_deduplication() -> None:
    dataset = tiny("a1 a1 a2 b1", ratings=[4, 2, 3.5, 1])
    kept = apply_filters(dataset, Filters(min_rating=3.5))
    assert raw(kept) == "a1 a2"
    assert kept.interactions.timestamps is not None
    assert kept.interactions.timestamps.tolist() == [0, 2]
    assert kept.log == (
        ("read", 2, 2, 4),
        ("min_rating 3.5", 2, 2, 2),
        ("deduplicate last", 2, 2, 2),
    )


def test_k_core_repeats_and_renumbers() -> None:
    # each falls because of the one before: item 9, user c, item 3, user b
    dataset = tiny("c9 d1 d2 e1 e2 b3 b1 c3", items="0 3 1 2")
    kept = apply_filters(dataset, Filters(k_core=2))
    assert raw(kept) == "d1 d2 e1 e2"
    assert kept.users["id"].to_pylist() == ["d", "e"]
    assert kept.items["id"].to_pylist() == ["0", "1", "2"]
    assert kept.interactions.users.dtype == kept.interactions.items.dtype == "int32"
    assert kept.log[-2:] == (
        ("deduplicate last", 4, 5, 8),
        ("k_core 2 (4 rounds)", 2, 3, 4),
    )


def test_items_that_never_had_interactions_stay_others_go() -> None:
    dataset = tiny("a1 a2 b1 b2 c3", ratings=[5, 5, 5, 5, 1], items="7 3 1 2")
    rated = apply_filters(dataset, Filters(min_rating=2))
    assert rated.items["id"].to_pylist() == ["7", "3", "1", "2"]
    assert rated.users["id"].to_pylist() == ["a", "b", "c"]
    cored = apply_filters(dataset, Filters(min_rating=2, min_user_interactions=1))
    assert cored.items["id"].to_pylist() == ["7", "1", "2"]
    assert cored.users["id"].to_pylist() == ["a", "b"]
    assert raw(cored) == "a1 a2 b1 b2"


def test_minimum_of_users_only_and_of_items_only() -> None:
    dataset = tiny("a1 a2 a3 b1 b2 c1")
    users = apply_filters(dataset, Filters(min_user_interactions=3))
    assert raw(users) == "a1 a2 a3"
    assert users.log[-1] == ("min_user_interactions 3 (1 round)", 1, 3, 3)
    items = apply_filters(dataset, Filters(min_item_interactions=3))
    assert raw(items) == "a1 b1 c1"
    assert items.log[-1] == ("min_item_interactions 3 (1 round)", 3, 1, 3)


def test_later_minimum_does_not_undo_an_earlier_one() -> None:
    # item 3 goes for lack of users; b then has one item left, less than it needs
    kept = apply_filters(
        tiny("a1 a2 c1 c2 b1 b3"), Filters(min_user_interactions=2, min_item_interactions=2)
    )
    assert raw(kept) == "a1 a2 c1 c2"
    assert [line[0] for line in kept.log] == [
        "read",
        "deduplicate last",
        "min_user_interactions 2 (0 rounds)",
        "min_item_interactions 2 (2 rounds)",
    ]


pairs = st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("12345")), max_size=25)


@given(pairs.filter(bool), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_minimums_agree_with_a_plain_k_core(
    table: list[tuple[str, str]], k: int, per_user: int, per_item: int
) -> None:
    filters = Filters(
        deduplicate="none",
        k_core=k,
        min_user_interactions=per_user,
        min_item_interactions=per_item,
    )
    dataset = tiny(" ".join(u + i for u, i in table))
    left = raw(dataset).split()
    while True:
        users, items = Counter(w[0] for w in left), Counter(w[1] for w in left)
        kept = [
            w for w in left if users[w[0]] >= max(k, per_user) and items[w[1]] >= max(k, per_item)
        ]
        if kept == left:
            break
        left = kept
    if not left:
        with pytest.raises(DataError, match="leaves none of"):
            apply_filters(dataset, filters)
        return
    filtered = apply_filters(dataset, filters)
    assert raw(filtered).split() == left
    assert filtered.users["id"].to_pylist() == list(dict.fromkeys(w[0] for w in left))
    assert set(filtered.items["id"].to_pylist()) == {w[1] for w in left}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (
            Filters(min_rating=6),
            "dataset 'tiny': the filter min_rating 6 leaves none of 3 interactions\n  Lower it "
            "under data.filters; `dynmm data stats` shows what the data has.",
        ),
        (Filters(min_rating=2, k_core=2), "the filter k_core 2 (1 round) leaves none of 2 inter"),
        (Filters(min_user_interactions=9), "the filter min_user_interactions 9 (1 round) leaves"),
    ],
)
def test_error_names_the_step_that_leaves_nothing(filters: Filters, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        apply_filters(tiny("a1 a2 b1", ratings=[3, 1, 2]), filters)
    assert expected in str(caught.value)


def test_rating_filter_needs_ratings() -> None:
    with pytest.raises(DataError) as caught:
        apply_filters(tiny("a1"), Filters(min_rating=4))
    assert str(caught.value).splitlines() == [
        "dataset 'tiny' has no ratings, so data.filters.min_rating (4) cannot be applied",
        "  Remove min_rating, or name the rating column in the reader's settings.",
    ]
