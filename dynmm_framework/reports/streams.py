"""What a stream gave, arranged for terminal and page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import mean
from typing import Any

from dynmm_framework.engine.prequential import stream_rows
from dynmm_framework.reports.grid import Grid
from dynmm_framework.reports.plots import Chart, Series, line_chart
from dynmm_framework.reports.text import DASH, metric_title, number


def stream_tables(metrics: Mapping[str, Any]) -> Iterator[Grid]:
    """Arranges what a stream gave: strategies, paired windows, what was forgotten and skipped."""
    results = metrics.get("stream")
    if not results:
        return
    names = list(next(iter(results["strategies"].values())))
    own = next(iter(results["strategies"]))
    yield Grid(
        ("strategy", *map(metric_title, names), f"NDCG@10 of {own} over it", "p corrected"),
        tuple(stream_rows(results, names)),
        f"the stream: {results['events']:,} events in {results['windows']:,} windows",
    )
    for part, words in _READINGS:
        if results.get(part):
            yield Grid(
                ("strategy", "before the stream", "after it", "change", "95 % of the change"),
                tuple(
                    (name, number(found["before"]), number(found["after"]), *_change(found))
                    for name, found in results[part].items()
                ),
                "NDCG@10 on a sample from before the stream that nothing was learned from, its"
                f" users met as {words}",
            )
    if served := results.get("served"):
        yield Grid(
            ("strategy", "part of", "first window", "mean", "last window"),
            tuple(
                (name, _PARTS.get(part, part), *map(_share, (values[0], mean(values), values[-1])))
                for name, parts in served.items()
                for part, values in parts.items()
                if values
            ),
            "what guards let through",
        )
    facts = [(reason, f"{count:,}") for reason, count in results["skipped"].items() if count]
    facts.append(("windows with an alarm of drift", ", ".join(map(str, results["drift"])) or DASH))
    yield Grid(("skipped, late or noticed", "events"), tuple(facts), "what came in")


def stream_charts(metrics: Mapping[str, Any]) -> Iterator[Chart]:
    """Draws a stream's accuracy up to each window, and what is retained of the time before."""
    results = metrics.get("stream")
    if not results:
        return
    series = [
        Series(name, [(float(n), value) for n, value in enumerate(curve, start=1)], slot)
        for slot, (name, curve) in enumerate(results["curves"].items())
    ]
    chart = line_chart(
        "NDCG@10 up to each window", series, x_label="window", y_label="NDCG@10, cumulative"
    )
    if chart is not None:
        yield chart
    own = next(iter(results["strategies"]))
    series = [
        Series(_PARTS.get(part, part), [*enumerate(values, start=1)], slot)
        for slot, (part, values) in enumerate(results.get("served", {}).get(own, {}).items())
    ]
    chart = line_chart(
        f"What the guards of {own} let through", series, x_label="window", y_label="part"
    )
    if chart is not None:
        yield chart
    windows = [0.0, *map(float, results.get("probed", []))]
    for part, words in _READINGS:
        series = [
            Series(name, [*zip(windows, (found["before"], *found["during"]), strict=True)], slot)
            for slot, (name, found) in enumerate(results.get(part, {}).items())
            if found.get("during")
        ]
        chart = line_chart(
            f"What is retained of the time before the stream, users met as {words}",
            series,
            x_label="window",
            y_label="NDCG@10 on the sample",
        )
        if chart is not None:
            yield chart


_READINGS = (
    ("forgetting", "not having come since"),
    ("forgetting_as_present", "if they had just been there"),
)
_PARTS = {
    "correction": "the correction (λ)",
    "popularity": "popularity",
    "long_term_popularity": "long-term popularity",
}


def _share(value: float) -> str:
    return f"{value:.2f}"


def _change(found: Mapping[str, Any]) -> tuple[str, str]:
    """Returns what was lost or gained of the sample, and its interval, relative to before."""
    before, bounds = found["before"], found.get("ci95")
    if not before:
        return DASH, DASH
    words = f"{100 * (found['after'] / before - 1):+.1f} %"
    if bounds is None:
        return words, DASH
    low, high = (100 * bound / before for bound in bounds)
    return words, f"{low:+.1f} to {high:+.1f} %"
