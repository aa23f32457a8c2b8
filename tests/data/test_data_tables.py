"""Histories and interactions against their plain Python meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.data.order import chronological_order
from dynmm_framework.data.tables import Histories, Interactions

N_ITEMS = 9
lists = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=6), max_size=6)
columns = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 3)), max_size=30)


def plain(histories: Histories) -> list[list[int]]:
    return [histories[row].tolist() for row in range(len(histories))]


def of(rows: list[list[int]]) -> Histories:
    return Histories.of(rows, N_ITEMS, users=np.arange(len(rows), dtype=np.int32))


def interactions(rows: list[tuple[int, int, int]], *, timed: bool = True) -> Interactions:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Interactions(
        users=table[:, 0].astype(np.int32),
        items=table[:, 1].astype(np.int32),
        n_users=5,
        n_items=N_ITEMS,
        timestamps=table[:, 2] if timed else None,
        ratings=table[:, 2].astype(np.float32),
    )


@given(lists)
def test_histories_hold_the_lists_they_are_made_of(rows: list[list[int]]) -> None:
    histories = of(rows)
    assert plain(histories) == rows
    assert histories.lengths.tolist() == [len(row) for row in rows]
    assert histories.rows.tolist() == [index for index, row in enumerate(rows) for _ in row]
    assert histories.items.dtype == np.int32
    assert histories.offsets.dtype == np.int64


@given(lists, st.data())
def test_take_chooses_histories_with_repeats_in_order(
    rows: list[list[int]], data: st.DataObject
) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    taken = of(rows).take(np.array(index, dtype=np.int64))
    assert plain(taken) == [rows[i] for i in index]
    assert taken.users is not None
    assert taken.users.tolist() == index


@given(lists, st.data())
def test_take_accepts_masks_and_slices(rows: list[list[int]], data: st.DataObject) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    taken = of(rows).take(np.array(mask, dtype=bool))
    assert plain(taken) == [row for row, chosen in zip(rows, mask, strict=True) if chosen]
    assert plain(of(rows).take(slice(1, None, 2))) == rows[1::2]


@given(lists, st.integers(0, 7))
def test_last_keeps_the_newest_items(rows: list[list[int]], length: int) -> None:
    assert plain(of(rows).last(length)) == [row[max(len(row) - length, 0) :] for row in rows]


@given(lists, st.integers(0, 7), st.sampled_from(["left", "right"]))
def test_padded_puts_the_newest_items_on_the_asked_side(
    rows: list[list[int]], length: int, side: str
) -> None:
    expected = []
    for row in rows:
        kept = row[max(len(row) - length, 0) :]
        fill = [N_ITEMS] * (length - len(kept))
        expected.append(fill + kept if side == "left" else kept + fill)
    matrix = of(rows).padded(length, value=N_ITEMS, side=side)
    assert matrix.dtype == np.int32
    assert matrix.shape == (len(rows), length)
    assert matrix.tolist() == expected


@given(st.lists(st.tuples(st.lists(st.integers(0, 8)), st.lists(st.integers(0, 8))), max_size=6))
def test_append_joins_row_by_row(pairs: list[tuple[list[int], list[int]]]) -> None:
    first, second = of([a for a, _ in pairs]), of([b for _, b in pairs])
    joined = first.append(second)
    assert plain(joined) == [a + b for a, b in pairs]
    assert joined.items.dtype == np.int32


@given(columns, st.booleans())
def test_chronological_is_a_stable_sort_by_user_then_time(
    rows: list[tuple[int, int, int]], timed: bool
) -> None:
    ordered = interactions(rows, timed=timed).chronological()
    expected = sorted(rows, key=lambda row: (row[0], row[2]) if timed else row[0])
    assert ordered.users.tolist() == [row[0] for row in expected]
    assert ordered.items.tolist() == [row[1] for row in expected]
    assert ordered.ratings is not None
    assert ordered.ratings.tolist() == [row[2] for row in expected]


@pytest.mark.parametrize("top_user", [3, 70_000, 2**31 - 1])
@pytest.mark.parametrize("kind", [np.int64, np.float64, np.uint64])
@pytest.mark.parametrize("top_time", [5, 2**40, 2**62])
def test_order_agrees_with_lexsort_whatever_fits_into_one_integer(
    top_user: int, kind: type, top_time: int
) -> None:
    rng = np.random.default_rng(0)
    users = rng.integers(0, top_user, 500, endpoint=True).astype(np.int32)
    times = rng.integers(0, top_time, 500, endpoint=True).astype(kind)
    times[::7] = times[0]
    assert (chronological_order(users, times) == np.lexsort((times, users))).all()
    assert (chronological_order(users) == np.argsort(users, kind="stable")).all()


@given(columns)
def test_histories_of_interactions_follow_the_row_order(rows: list[tuple[int, int, int]]) -> None:
    histories = interactions(rows).histories()
    assert plain(histories) == [[i for u, i, _ in rows if u == user] for user in range(5)]
    assert histories.users is not None
    assert histories.users.tolist() == [0, 1, 2, 3, 4]
    assert histories.items.dtype == np.int32


@given(columns)
def test_item_counts_count_rows_of_every_item(rows: list[tuple[int, int, int]]) -> None:
    counts = interactions(rows).item_counts()
    assert counts.tolist() == [sum(i == item for _, i, _ in rows) for item in range(N_ITEMS)]


@given(columns, st.data())
def test_reviews_go_with_their_rows(rows: list[tuple[int, int, int]], data: st.DataObject) -> None:
    texts = pa.array([f"{n}" if n % 3 else None for n in range(len(rows))], pa.large_string())
    given_ = replace(interactions(rows), reviews=texts)
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool
    )
    for chosen in (mask, np.flatnonzero(mask)[::-1]):
        taken = given_.take(chosen)
        assert taken.reviews is not None
        expected = texts.take(pa.array(np.arange(len(rows))[chosen])).to_pylist()
        assert taken.reviews.to_pylist() == expected
    ordered = given_.chronological()
    assert ordered.reviews is not None
    order = np.lexsort((np.arange(len(rows)), given_.timestamps, given_.users))
    assert ordered.reviews.to_pylist() == texts.take(pa.array(order)).to_pylist()
