"""The geometry of charts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.reports.plots import Chart, Series, line_chart, nice_ticks

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(NUMBERS, st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_enclose_the_values_in_even_round_steps(low, span, most):
    ticks = nice_ticks(low, low + span, most)
    slack = 1e-6 * max(1.0, abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= most + 3


def test_ticks_of_a_single_value():
    assert nice_ticks(0.5, 0.5, 5)[0] < 0.5 < nice_ticks(0.5, 0.5, 5)[-1]
    assert nice_ticks(0.0, 0.0, 5)[0] < 0 < nice_ticks(0.0, 0.0, 5)[-1]


def chart(points, **settings) -> Chart:
    found = line_chart("t", [Series("a", points, 0)], x_label="epoch", y_label="loss", **settings)
    assert found is not None
    return found


def test_points_lie_inside_the_frame_and_larger_is_higher():
    found = chart([(1, 0.5), (2, 0.1), (3, 0.9)])
    (line,) = found.lines
    heights = [y for _, y, _ in line.marks]
    assert heights[2] < heights[0] < heights[1]
    for x, y, _ in line.marks:
        assert found.left <= x <= found.right
        assert found.top <= y <= found.bottom
    assert "a from 0.5000 to 0.9000, at most 0.9000" in found.description


def test_a_missing_or_infinite_value_breaks_the_line():
    found = chart([(1, 0.5), (2, 0.6), (3, math.nan), (4, None), (5, 0.1), (6, 0.2)])
    assert len(found.lines[0].pieces) == 2
    assert found.rows[2] == ("3", "–")


def test_nothing_to_draw_is_no_chart():
    assert line_chart("t", [], x_label="x", y_label="y") is None
    empty = [Series("a", [(1, math.nan)], 0)]
    assert line_chart("t", empty, x_label="x", y_label="y") is None


def test_one_epoch_is_a_dot_in_the_middle():
    found = chart([(1, 0.5)])
    assert found.lines[0].pieces == ()
    assert found.lines[0].marks[0][0] == pytest.approx((found.left + found.right) / 2)


def test_long_names_of_categories_are_tilted_and_make_room():
    short = chart([(0, 1.0), (1, 2.0)], categories=["a", "b"])
    names = [f"{n},000–{n + 1},000" for n in range(9)]
    long = chart([(x, 1.0) for x in range(9)], categories=names, sizes=range(9))
    assert not short.tilted
    assert long.tilted
    assert long.height > short.height
    assert [tick.text for tick in long.x_ticks] == names
    assert long.columns == ("epoch", "members", "a")
    assert long.rows[8] == (names[8], "8", "1.0000")


def test_seeds_share_a_colour_and_a_line_of_the_legend():
    series = [Series("a", [(1, 1.0), (2, 2.0)], 0)] * 3 + [Series("b", [(1, 1.0)], 9)]
    found = line_chart("t", series, x_label="x", y_label="y")
    assert found is not None
    assert [entry.label for entry in found.legend] == ["a", "b"]
    assert [line.colour for line in found.lines] == [0, 0, 0, 1]
    assert found.lines[-1].dashed
