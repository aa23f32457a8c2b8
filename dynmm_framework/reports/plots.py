"""Charts as geometry: a template draws them as SVG that scales, prints and follows dark mode.

Nothing here knows about markup, so no text of a chart can escape the template's quoting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dynmm_framework.reports.text import number

WIDTH, HEIGHT = 420, 260
"""Size in SVG units; small, so that the text stays readable on a phone."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 44
_TILTED = 30
"""Further height for names on the x axis that do not fit side by side."""
_CHARACTER = 6.5
"""Width of a character of the axis."""

N_COLOURS = 8
"""Colours in the style sheet; further series start over with another dash."""

_MOST_MARKS = 12


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        label: Name in the legend.
        points: ``(x, y)`` in order of x; a ``y`` that is not finite breaks the line.
        slot: Number of the colour; series of one slot share a line of the legend.
        joined: Whether the points are joined by a line; otherwise each is marked.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    slot: int
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position on an axis, in SVG units."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn series: pieces of a polyline and the marks on it, in SVG units."""

    colour: int
    dashed: bool
    pieces: tuple[str, ...]
    marks: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True)
class Legend:
    """A line of the legend."""

    label: str
    colour: int
    dashed: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """A line chart, ready to be drawn.

    Attributes:
        title: Heading.
        tilted: Whether the names on the x axis are drawn aslant, to fit.
        description: What the chart shows, in words, for those who do not see it.
        columns: Head of the same data as a table.
        rows: The same data as a table.
    """

    title: str
    x_label: str
    y_label: str
    description: str
    lines: tuple[Line, ...]
    legend: tuple[Legend, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    tilted: bool = False

    width = WIDTH
    left, right = _LEFT, WIDTH - _RIGHT
    top, bottom = _TOP, HEIGHT - _BOTTOM

    @property
    def height(self) -> int:
        return HEIGHT + (_TILTED if self.tilted else 0)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    categories: Sequence[str] = (),
    sizes: Sequence[int] = (),
    from_zero: bool = False,
) -> Chart | None:
    """Lays out a line chart.

    Args:
        title: Heading.
        series: The lines; at least one finite point is needed.
        x_label: What x is.
        y_label: What y is.
        categories: Names of x = 0, 1, …; without them x is a number.
        sizes: Number of members of each category, for the table.
        from_zero: Whether the y axis starts at zero.

    Returns:
        The chart, or ``None`` if there is nothing to draw.
    """
    finite = [(x, y) for line in series for x, y in line.points if _is_finite(y)]
    if not finite:
        return None
    xs = [x for x, _ in finite]
    ys = [y for _, y in finite if y is not None]
    if categories:
        x_low, x_high = -0.35, len(categories) - 0.65
        x_values: Sequence[float] = range(len(categories))
        x_names = list(categories)
    else:
        x_low, x_high = min(xs), max(xs)
        x_values = [x for x in nice_ticks(x_low, x_high, 6) if x == int(x)]
        x_names = [f"{x:,.0f}" for x in x_values]
    y_values = nice_ticks(0.0 if from_zero else min(ys), max(ys), 5)
    y_low, y_high = min(y_values[0], *ys), max(y_values[-1], *ys)

    def to_x(x: float) -> float:
        return round(_scale(x, x_low, x_high, Chart.left, Chart.right), 1)

    def to_y(y: float) -> float:
        return round(_scale(y, y_low, y_high, Chart.bottom, Chart.top), 1)

    return Chart(
        title=title,
        x_label=x_label,
        y_label=y_label,
        description=_describe(series, y_label),
        lines=tuple(_line(line, to_x, to_y) for line in series),
        legend=_legend(series),
        x_ticks=tuple(
            Tick(to_x(x), name)
            for x, name in zip(x_values, x_names, strict=True)
            if x_low <= x <= x_high
        ),
        y_ticks=tuple(Tick(to_y(y), _tick_text(y, y_values)) for y in y_values),
        columns=(x_label, *(("members",) if sizes else ()), *(line.label for line in series)),
        rows=_rows(series, categories, sizes),
        tilted=_crowded(x_names),
    )


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Returns round numbers in steps of 1, 2 or 5 × 10ⁿ that enclose ``low … high``.

    Args:
        low: Smallest value.
        high: Largest value.
        most: About the largest number of steps.
    """
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.9999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _crowded(names: Sequence[str]) -> bool:
    room = (Chart.right - Chart.left) / max(1, len(names))
    return max(map(len, names), default=0) * _CHARACTER > room


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _scale(value: float, low: float, high: float, start: float, end: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return start + share * (end - start)


def _tick_text(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}" if decimals <= 6 else f"{value:.1e}"


def _line(line: Series, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> Line:
    pieces: list[list[str]] = [[]]
    marks = []
    for x, y in line.points:
        if y is None or not math.isfinite(y):
            pieces.append([])
            continue
        pieces[-1].append(f"{to_x(x)},{to_y(y)}")
        marks.append((to_x(x), to_y(y), f"{line.label}: {number(y)}"))
    return Line(
        colour=line.slot % N_COLOURS,
        dashed=line.slot >= N_COLOURS,
        pieces=tuple(" ".join(p) for p in pieces if len(p) > 1) if line.joined else (),
        marks=tuple(marks) if len(marks) <= _MOST_MARKS or not line.joined else (),
    )


def _legend(series: Sequence[Series]) -> tuple[Legend, ...]:
    labels = {line.slot: line.label for line in reversed(series)}
    return tuple(
        Legend(labels[slot], slot % N_COLOURS, slot >= N_COLOURS) for slot in sorted(labels)
    )


def _describe(series: Sequence[Series], y_label: str) -> str:
    parts = []
    for line in series:
        values = [y for _, y in line.points if y is not None and math.isfinite(y)]
        if values:
            parts.append(
                f"{line.label} from {number(values[0])} to {number(values[-1])},"
                f" at most {number(max(values))}"
            )
    return f"{y_label}: {'; '.join(parts)}."


def _rows(
    series: Sequence[Series], categories: Sequence[str], sizes: Sequence[int]
) -> tuple[tuple[str, ...], ...]:
    columns = [dict(line.points) for line in series]
    xs = sorted({x for column in columns for x in column})
    return tuple(
        (
            categories[int(x)] if categories else f"{x:g}",
            *((f"{sizes[int(x)]:,}",) if sizes else ()),
            *(number(column[x]) if x in column else "" for column in columns),
        )
        for x in xs
    )
