"""The page of a search: its history, what was tried, and which settings mattered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dynmm_framework.reports.grid import Grid
from dynmm_framework.reports.page import environment
from dynmm_framework.reports.plots import Chart, Series, Tick, line_chart, nice_ticks
from dynmm_framework.reports.text import DASH, as_yaml, duration, metric_title, number

SEARCH_REPORT: Final = "report.html"
_AXIS_WIDTH, _HEIGHT, _TOP, _BOTTOM, _SIDE = 130, 300, 34, 24, 60
_MOST_TICKS = 7

Trial = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting, or the metric, of the parallel coordinates, in SVG units."""

    at: float
    title: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """One trial across all axes."""

    points: str
    colour: int
    title: str


@dataclass(frozen=True, slots=True)
class Parallel:
    """Parallel coordinates, ready to be drawn: an axis a setting, a line a trial."""

    axes: tuple[Axis, ...]
    ways: tuple[Way, ...]
    width: int
    height = _HEIGHT
    top, bottom = _TOP, _HEIGHT - _BOTTOM


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of the metric's variation a setting explains."""

    label: str
    percent: float


@dataclass(frozen=True, slots=True)
class SearchContent:
    """The page, section by section; empty parts are left out."""

    title: str
    search: str
    created: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    history: Chart | None
    trade_off: Chart | None
    parallel: Parallel | None
    importance: tuple[Bar, ...]
    trials: Grid
    best: str
    space: str


def write_search_report(folder: Path, manifest: Mapping[str, Any], trials: Sequence[Trial]) -> Path:
    """Writes the page into a search's folder and returns its path.

    Args:
        folder: The folder.
        manifest: ``search.json``.
        trials: The lines of ``trials.jsonl``.

    Raises:
        ArtifactError: If it cannot be written.
    """
    from dynmm_framework.artifacts.atomic import write_text

    content = gather_search(manifest, trials)
    path = folder / SEARCH_REPORT
    write_text(path, environment().get_template("search.html").render(content=content))
    return path


def gather_search(manifest: Mapping[str, Any], trials: Sequence[Trial]) -> SearchContent:
    """Arranges what a search's files say."""
    objectives = manifest["objectives"]
    metric, better = objectives[0]["name"], objectives[0]["direction"]
    done = [trial for trial in trials if trial["state"] == "finished"]
    best = next((trial for trial in done if trial["number"] == manifest["best"]), None)
    return SearchContent(
        title=manifest["source"] or manifest["name"],
        search=manifest["search"],
        created=str(manifest["created"])[:16].replace("T", " ") + " UTC",
        headline=_headline(manifest, trials, best),
        facts=tuple(_facts(manifest, trials)),
        history=_history(done, metric, better),
        trade_off=_trade_off(done, objectives, manifest["front"]),
        parallel=parallel(done, manifest["space"], metric, better),
        importance=tuple(
            Bar(path, round(100 * share, 1))
            for path, share in sorted(manifest["importance"].items(), key=lambda kv: -kv[1])
        ),
        trials=_table(trials, objectives, manifest),
        best="" if best is None else as_yaml(best["params"]),
        space=as_yaml({path: _written(found) for path, found in manifest["space"].items()}),
    )


def shown(value: Any) -> str:
    """Returns a setting's value as a person writes it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _written(dimension: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in dimension.items() if value not in (None, {})}


def _headline(manifest: Mapping[str, Any], trials: Sequence[Trial], best: Trial | None) -> str:
    metric = manifest["objectives"][0]["name"]
    if best is None:
        return f"None of {len(trials)} trials was finished."
    text = (
        f"Trial {best['number']} of {len(trials)} reaches {metric_title(metric)}"
        f" {number(best['metrics'][metric])} on validation users."
    )
    test = manifest["test"].get("metrics", {}).get(metric)
    if test is not None:
        text += f" On test users, whom no trial saw: {number(test)}."
    return text


def _facts(manifest: Mapping[str, Any], trials: Sequence[Trial]) -> list[tuple[str, str]]:
    counts = ", ".join(f"{count} {state}" for state, count in manifest["trials"].items())
    settings = manifest["settings"]
    return [
        ("Trials", counts or "none"),
        ("Status", manifest["status"]),
        ("Sampler", settings["sampler"]),
        ("Scheduler", settings["scheduler"]["name"]),
        ("Ran on", manifest["engine"]),
        ("Time", duration(manifest["seconds"])),
        ("Time of trials", duration(sum(trial["seconds"] for trial in trials))),
    ]


def _history(done: Sequence[Trial], metric: str, better: str) -> Chart | None:
    points = [(float(trial["number"]), trial["metrics"][metric]) for trial in done]
    so_far: list[tuple[float, float | None]] = []
    choose = max if better == "max" else min
    for x, y in points:
        last = so_far[-1][1] if so_far else None
        so_far.append((x, y if last is None else choose(y, last)))
    return line_chart(
        "History",
        [
            Series("best so far", so_far, 0),
            Series("trial", points, 1, joined=False),
        ],
        x_label="trial",
        y_label=metric_title(metric),
    )


def _trade_off(
    done: Sequence[Trial], objectives: Sequence[Mapping[str, Any]], front: Sequence[int]
) -> Chart | None:
    if len(objectives) < 2:
        return None
    first, second = objectives[0]["name"], objectives[1]["name"]
    pairs = sorted((t["metrics"][second], t["metrics"][first], t["number"]) for t in done)
    best = [(x, y) for x, y, n in pairs if n in front]
    rest = [(x, y) for x, y, n in pairs if n not in front]
    unit = ", ms" if second == "latency" else ""
    return line_chart(
        f"{metric_title(first)} against {metric_title(second)}",
        [Series("front", best, 0), Series("other trials", rest, 7, joined=False)],
        x_label=f"{metric_title(second)}{unit}",
        y_label=metric_title(first),
    )


def parallel(
    done: Sequence[Trial], space: Mapping[str, Any], metric: str, better: str
) -> Parallel | None:
    """Lays out parallel coordinates of the settings that were varied.

    Args:
        done: Finished trials.
        space: The space, each dimension as plain data.
        metric: The last axis.
        better: ``max`` or ``min``.

    Returns:
        The drawing, or ``None`` if there is nothing to draw.
    """
    paths = [path for path in space if any(path in trial["params"] for trial in done)]
    if not done or not paths:
        return None
    axes: list[Axis] = []
    heights: list[dict[int, float]] = []
    for place, path in enumerate(paths):
        values = {trial["number"]: trial["params"].get(path) for trial in done}
        axis, at = _axis(place, _short(path, paths), values, space[path])
        axes.append(axis)
        heights.append(at)
    reached = {trial["number"]: trial["metrics"][metric] for trial in done}
    axis, at = _axis(len(paths), metric_title(metric), reached, {})
    axes.append(axis)
    heights.append(at)
    ranked = sorted(reached, key=lambda n: reached[n], reverse=better == "max")
    # The best are drawn last, above the others.
    ways = [
        Way(
            " ".join(f"{axis.at},{height[n]}" for axis, height in zip(axes, heights, strict=True)),
            0 if place < max(1, len(ranked) // 4) else 7,
            f"trial {n}: {metric_title(metric)} {number(reached[n])}",
        )
        for place, n in reversed(list(enumerate(ranked)))
    ]
    return Parallel(tuple(axes), tuple(ways), 2 * _SIDE + _AXIS_WIDTH * len(paths))


def _axis(
    place: int, title: str, values: Mapping[int, Any], dimension: Mapping[str, Any]
) -> tuple[Axis, dict[int, float]]:
    """Returns an axis, and where each trial crosses it; a setting it does not have lies below."""
    x = _SIDE + place * _AXIS_WIDTH
    top, bottom = Parallel.top, Parallel.bottom - 26
    given = {n: value for n, value in values.items() if value is not None or not dimension}
    numeric = dimension.get("choice") is None and all(_is_number(v) for v in given.values())
    ticks: list[Tick] = []
    at: dict[int, float] = {}
    if numeric and given:
        logarithmic = dimension.get("log") is not None or dimension.get("power_of_two") is not None
        scale = math.log10 if logarithmic else float
        low, high = min(map(scale, given.values())), max(map(scale, given.values()))
        span = high - low or 1.0

        def height(value: float) -> float:
            return round(bottom - (scale(value) - low) / span * (bottom - top), 1)

        marks = [low, (low + high) / 2, high] if logarithmic else nice_ticks(low, high, 4)
        back = (lambda mark: 10.0**mark) if logarithmic else float
        ticks = [
            Tick(height(back(mark)), shown(float(back(mark))))
            for mark in dict.fromkeys(marks)
            if low - 1e-9 <= mark <= high + 1e-9
        ]
        at = {n: height(value) for n, value in given.items()}
    else:
        names = list(dict.fromkeys(shown(value) for value in given.values()))
        step = (bottom - top) / max(1, len(names) - 1)
        places = {name: round(bottom - i * step, 1) for i, name in enumerate(sorted(names))}
        kept = list(places.items()) if len(places) <= 2 * _MOST_TICKS else []
        ticks = [Tick(y, name) for name, y in kept]
        at = {n: places[shown(value)] for n, value in given.items()}
    if len(given) < len(values):
        ticks.append(Tick(Parallel.bottom, DASH))
    return Axis(x, title, tuple(ticks)), {n: at.get(n, float(Parallel.bottom)) for n in values}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(path: str, paths: Sequence[str]) -> str:
    """Returns a path's last part, with its block where two would read the same."""
    parts = path.split(".")
    alike = [other for other in paths if other.split(".")[-1] == parts[-1]]
    return parts[-1] if len(alike) == 1 else f"{parts[0]} {parts[-1]}"


def _table(
    trials: Sequence[Trial], objectives: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]
) -> Grid:
    names = [objective["name"] for objective in objectives]
    paths = [path for path in manifest["space"] if any(path in t["params"] for t in trials)]
    rows = []
    for trial in trials:
        metrics = trial["metrics"]
        rows.append(
            (
                f"{trial['number']}{' (best)' if trial['number'] == manifest['best'] else ''}",
                trial["state"],
                *(number(metrics[name]) if name in metrics else DASH for name in names),
                *(shown(trial["params"][p]) if p in trial["params"] else DASH for p in paths),
                f"{len(trial['epochs'])}",
                duration(trial["seconds"]),
                trial["reason"],
            )
        )
    titles = (*(metric_title(name) for name in names), *(_short(path, paths) for path in paths))
    return Grid(("trial", "state", *titles, "epochs", "time", "reason"), tuple(rows))
