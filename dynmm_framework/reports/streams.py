"""What a stream gave, arranged for terminal and page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    if results["forgetting"]:
        yield Grid(
            ("strategy", "before the stream", "after it", "change", "95 % of the change"),
            tuple(
                (name, number(found["before"]), number(found["after"]), *_change(found))
                for name, found in results["forgetting"].items()
            ),
            "NDCG@10 on a sample from before the stream that nothing was learned from",
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
    windows = [0.0, *map(float, results.get("probed", []))]
    series = [
        Series(name, [*zip(windows, (found["before"], *found["during"]), strict=True)], slot)
        for slot, (name, found) in enumerate(results["forgetting"].items())
        if found.get("during")
    ]
    chart = line_chart(
        "What is retained of the time before the stream",
        series,
        x_label="window",
        y_label="NDCG@10 on the sample",
    )
    if chart is not None:
        yield chart


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
