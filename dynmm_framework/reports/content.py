"""Everything that the page of a run says, gathered from the run's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynmm_framework.data.stats import dataset_stats
from dynmm_framework.reports.explanations import Card, cards, faithfulness_rows, result_rows
from dynmm_framework.reports.grid import Grid
from dynmm_framework.reports.groups import GROUPS, group_tables
from dynmm_framework.reports.plots import Chart, Series, line_chart
from dynmm_framework.reports.prompts import PromptTable, prompt_table
from dynmm_framework.reports.streams import stream_charts, stream_tables
from dynmm_framework.reports.table import MetricTable, direction, metric_tables, protocol_title
from dynmm_framework.reports.text import (
    DASH,
    as_yaml,
    duration,
    interval,
    metric_title,
    number,
    p_value,
    size,
    stars,
)

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run


@dataclass(frozen=True, slots=True)
class Content:
    """The page, section by section; empty parts are left out."""

    title: str
    run_id: str
    created: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[MetricTable, ...]
    comparisons: tuple[Grid, ...]
    learning: tuple[Chart, ...]
    slices: tuple[Chart, ...]
    groups: tuple[Grid, ...]
    robustness: tuple[Chart, ...]
    missing: tuple[Grid, ...]
    stream: tuple[Grid, ...]
    stream_charts: tuple[Chart, ...]
    prompts: PromptTable | None
    explanations: tuple[Grid, ...]
    cards: tuple[Card, ...]
    explanation_notes: tuple[str, ...]
    efficiency: Grid
    stages: Grid
    data_log: Grid
    configuration: str
    environment: Grid


def gather(run: Run) -> Content:
    """Reads a run's files and arranges what they say.

    Raises:
        ArtifactError: If a file of the run is missing or damaged.
    """
    manifest = run.manifest
    metrics = run.metrics
    pipeline = manifest.pipeline
    monitor = _monitor(run)
    labels = list(metrics["recommenders"])
    return Content(
        title=manifest.source or pipeline.get("data", {}).get("name", run.id),
        run_id=manifest.run,
        created=f"{manifest.created:%Y-%m-%d %H:%M} UTC",
        headline=_headline(metrics, monitor),
        facts=tuple(_facts(run)),
        tables=metric_tables(metrics),
        comparisons=tuple(_comparisons(metrics)),
        learning=tuple(_learning(run.training, labels)),
        slices=tuple(_slices(run.slices, labels, monitor)),
        groups=tuple(group_grids(run)),
        robustness=tuple(_robustness(metrics.get("robustness", []), monitor)),
        missing=tuple(missing_tables(metrics)),
        stream=tuple(stream_tables(metrics)),
        stream_charts=tuple(stream_charts(metrics)),
        prompts=prompt_table([run]) if metrics.get("prompts") else None,
        explanations=tuple(explanation_tables(metrics)),
        cards=cards(run),
        explanation_notes=tuple(
            dict.fromkeys(n for r in metrics.get("explanations", {}).values() for n in r["notes"])
        ),
        efficiency=_efficiency(metrics.get("efficiency", {})),
        stages=Grid(
            ("stage", "result", "computed in"),
            tuple(
                (stage.name, "cached" if stage.cached else "computed", duration(stage.seconds))
                for stage in manifest.stages
            ),
        ),
        data_log=Grid(
            ("step", "users", "items", "interactions"),
            tuple(
                (step, f"{users:,}", f"{items:,}", f"{rows:,}")
                for step, users, items, rows in run.dataset.log
            ),
        ),
        configuration=as_yaml(pipeline),
        environment=Grid(("what", "value"), tuple(_environment(run))),
    )


def _headline(metrics: Mapping[str, Any], monitor: str) -> str:
    """Says in one sentence how the pipeline's recommender did against the best of the others."""
    ours, *others = metrics["recommenders"]
    by_protocol = metrics["recommenders"][ours]
    protocol = next(iter(by_protocol))
    names = by_protocol[protocol]
    if not names:
        return f"No metric that was asked for is defined here ({protocol_title(protocol).lower()})."
    name = monitor if monitor in names else next(iter(names))
    mean = names[name]["mean"]
    where = protocol_title(protocol)
    where = where[:1].lower() + where[1:]
    text = f"{ours} reaches {metric_title(name)} {number(mean)} ({where})"
    tests = {
        test["b"]: test
        for test in metrics.get("comparisons", ())
        if (test["protocol"], test["metric"], test["a"]) == (protocol, name, ours)
    }
    known = [label for label in others if label in tests]
    if not known:
        return f"{text}."
    sign = -1 if direction(metrics, name) is False else 1
    strongest = min(known, key=lambda label: sign * tests[label]["difference"])
    test = tests[strongest]
    theirs = metrics["recommenders"][strongest][protocol][name]["mean"]
    p = test["p_adjusted"] if test["p_adjusted"] is not None else test["p_t"]
    return (
        f"{text}; the strongest of the others, {strongest}, {number(theirs)}:"
        f" a difference of {number(test['difference'], signed=True)} (p = {p_value(p)})."
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    stats = dataset_stats(run.dataset)
    yield "dataset", stats["name"]
    for count in ("users", "items", "interactions"):
        yield count, f"{stats[count]:,}"
    yield "sparsity", f"{100 * stats['sparsity']:.2f} %"
    split = run.manifest.pipeline.get("split", {})
    yield "split", str(split.get("strategy", DASH))
    yield "seeds", ", ".join(map(str, run.manifest.seeds))
    if total := run.manifest.timings.get("total"):
        yield "wall time", duration(total)


def _comparisons(metrics: Mapping[str, Any]) -> Iterator[Grid]:
    tests: Sequence[Mapping[str, Any]] = metrics.get("comparisons", ())
    for protocol in dict.fromkeys(test["protocol"] for test in tests):
        chosen = [test for test in tests if test["protocol"] == protocol]
        yield Grid(
            (
                "metric",
                "pair",
                "difference",
                "95 % CI",
                "p (t)",
                "p (Wilcoxon)",
                "p corrected",
                "d_z",
                "users",
            ),
            tuple(
                (
                    metric_title(test["metric"]),
                    f"{test['a']} {DASH} {test['b']}",
                    number(test["difference"], signed=True),
                    interval(test["ci95"], signed=True) or DASH,
                    p_value(test["p_t"]),
                    p_value(test["p_wilcoxon"]),
                    f"{p_value(test['p_adjusted'])}{stars(test['p_adjusted'])}",
                    DASH if test["cohens_dz"] is None else f"{test['cohens_dz']:.2f}",
                    f"{test['n']:,}",
                )
                for test in chosen
            ),
            caption=protocol_title(protocol),
        )


def _learning(
    training: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]], labels: Sequence[str]
) -> Iterator[Chart]:
    """One chart for each validation metric, and one for each recommender's loss.

    Losses of different recommenders are different quantities, so they share no axis.
    """
    found: dict[str, list[Series]] = {}
    losses: dict[str, list[Series]] = {}
    for slot, label in enumerate(labels):
        for epochs in training.get(label, {}).values():
            names = dict.fromkeys(name for epoch in epochs for name in epoch)
            for name in names:
                points = [(float(epoch["epoch"]), epoch[name]) for epoch in epochs if name in epoch]
                if name == "loss":
                    losses.setdefault(label, []).append(Series(label, points, slot))
                elif name not in ("epoch", "seconds"):
                    metric = name.removeprefix("valid/")
                    found.setdefault(metric, []).append(Series(label, points, slot))
    for name, series in found.items():
        metric = metric_title(name)
        title = f"{metric} on validation users"
        chart = line_chart(title, series, x_label="epoch", y_label=metric, from_zero=True)
        if chart is not None:
            yield chart
    for label, series in losses.items():
        chart = line_chart(f"Training loss of {label}", series, x_label="epoch", y_label="loss")
        if chart is not None:
            yield chart


_SLICES = {
    "history_length": ("length of the history", "items in the history"),
    "item_popularity": ("popularity of the target", "training interactions of the target"),
}


def _slices(
    records: Sequence[Mapping[str, Any]], labels: Sequence[str], monitor: str
) -> Iterator[Chart]:
    """One chart for each protocol and kind of slice; values are means over seeds."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["protocol"], record["slice"]), []).append(record)
    for (protocol, kind), members in groups.items():
        metrics = list(dict.fromkeys(record["metric"] for record in members))
        metric = monitor if monitor in metrics else metrics[0]
        chosen = [record for record in members if record["metric"] == metric]
        buckets = sorted({(record["low"], record["bucket"]) for record in chosen})
        names = [name for _, name in buckets]
        series = [
            Series(label, list(_means(chosen, label, names)), slot)
            for slot, label in enumerate(labels)
            if any(record["recommender"] == label for record in chosen)
        ]
        by, x_label = _SLICES.get(kind, (kind, kind))
        chart = line_chart(
            f"{metric_title(metric)} by {by}, {protocol}",
            series,
            x_label=x_label,
            y_label=metric_title(metric),
            categories=names,
            sizes=[max(r["n"] for r in chosen if r["bucket"] == name) for name in names],
            from_zero=True,
        )
        if chart is not None:
            yield chart


def group_grids(run: Run) -> Iterator[Grid]:
    """Arranges the followed metric by training interactions of the target, for each protocol."""
    labels = list(run.metrics["recommenders"])
    for table in group_tables(run.slices, labels, _monitor(run)):
        yield Grid(
            ("training interactions of the target", *(name for _, name in GROUPS)),
            (
                ("targets", *(f"{size:,}" for size in table.sizes)),
                *((label, *map(number, values)) for label, values in table.rows),
            ),
            f"{metric_title(table.metric)}, {table.protocol}",
        )


def _monitor(run: Run) -> str:
    return str(run.manifest.pipeline.get("evaluate", {}).get("monitor", "ndcg@10"))


def missing_tables(metrics: Mapping[str, Any]) -> Iterator[Grid]:
    """Arranges what an alignment reaches with modalities missing, for each protocol."""
    for protocol, rows in _by_protocol(metrics.get("robustness", [])):
        names = list(dict.fromkeys(name for row in rows for name in row["values"]))
        yield Grid(
            ("without", "items that lose it", *map(metric_title, names)),
            tuple(
                (
                    " + ".join(row["dropped"]) or "nothing",
                    f"{row['share']:.0%}" if row["dropped"] else DASH,
                    *(number(row["values"].get(name)) for name in names),
                )
                for row in rows
            ),
            f"the alignment with modalities missing, {protocol}",
        )


def explanation_tables(metrics: Mapping[str, Any]) -> Iterator[Grid]:
    """Arranges what was measured of explanations: a table for each model seed, and faithfulness."""
    for seed, results in metrics.get("explanations", {}).items():
        yield Grid(("what", "value"), tuple(result_rows(results)), f"explanations, seed {seed}")
        rows = tuple(faithfulness_rows(results))
        if rows:
            yield Grid(
                ("drop in probability", "cited", "random", "difference", "p (Holm)", "users"),
                rows,
                f"evidence taken away (comprehensiveness) or kept alone (sufficiency), seed {seed}",
            )


def _robustness(rows: Sequence[Mapping[str, Any]], monitor: str) -> Iterator[Chart]:
    """One chart for each protocol."""
    for protocol, of_protocol in _by_protocol(rows):
        chart = _missing_chart(protocol, of_protocol, monitor)
        if chart is not None:
            yield chart


def _by_protocol(
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    for protocol in dict.fromkeys(row.get("protocol", "full") for row in rows):
        yield protocol, [row for row in rows if row.get("protocol", "full") == protocol]


def _missing_chart(protocol: str, rows: Sequence[Mapping[str, Any]], monitor: str) -> Chart | None:
    """Draws a line for each choice of modalities, from nothing dropped to all."""
    if not rows[0]["values"]:
        return None
    name = monitor if monitor in rows[0]["values"] else next(iter(rows[0]["values"]))
    whole = (0.0, rows[0]["values"][name])
    dropped = dict.fromkeys(tuple(row["dropped"]) for row in rows if row["dropped"])
    series = [
        Series(
            " + ".join(names),
            [whole]
            + [
                (100 * row["share"], row["values"].get(name))
                for row in rows
                if tuple(row["dropped"]) == names
            ],
            slot,
        )
        for slot, names in enumerate(dropped)
    ]
    return line_chart(
        f"{metric_title(name)} with modalities missing, {protocol}",
        series,
        x_label="items that lose it, %",
        y_label=metric_title(name),
        from_zero=True,
    )


def _means(
    records: Sequence[Mapping[str, Any]], label: str, buckets: Sequence[str]
) -> Iterator[tuple[float, float | None]]:
    for place, bucket in enumerate(buckets):
        values = [
            record["value"]
            for record in records
            if record["recommender"] == label and record["bucket"] == bucket
        ]
        yield float(place), sum(values) / len(values) if values else None


def _efficiency(efficiency: Mapping[str, Mapping[str, Any]]) -> Grid:
    with_gpu = any(cost.get("peak_gpu_bytes") for cost in efficiency.values())
    columns = ("recommender", "training", "evaluation", "latency p50", "latency p95", "peak memory")
    return Grid(
        (*columns, "peak GPU memory") if with_gpu else columns,
        tuple(
            (
                label,
                duration(cost["fit_seconds"]),
                duration(cost["rank_seconds"]),
                _milliseconds(cost.get("latency_ms_p50")),
                _milliseconds(cost.get("latency_ms_p95")),
                size(cost.get("peak_rss_bytes")),
                *((size(cost.get("peak_gpu_bytes")),) if with_gpu else ()),
            )
            for label, cost in efficiency.items()
        ),
    )


def _milliseconds(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g} ms"


def _environment(run: Run) -> Iterator[tuple[str, str]]:
    environment = run.manifest.environment
    yield "run", run.manifest.run
    yield "python", f"{environment.get('implementation', '')} {environment.get('python', DASH)}"
    yield "platform", str(environment.get("platform", DASH))
    cpu = environment.get("cpu") or {}
    if cpu:
        yield "CPU", f"{cpu.get('model', DASH)}, {cpu.get('available', DASH)} usable cores"
    if memory := environment.get("memory_bytes"):
        yield "memory", size(memory)
    if gpus := environment.get("gpus"):
        yield "GPU", ", ".join(gpus)
    yield "devices used", ", ".join(run.manifest.devices) or DASH
    git = environment.get("git")
    if git:
        yield "git", f"{git['commit'][:12]}{' with local changes' if git.get('dirty') else ''}"
    yield from run.manifest.components.items()
    yield from (environment.get("libraries") or {}).items()
    if run.manifest.data_fingerprint:
        yield "data sha256", run.manifest.data_fingerprint
    if run.manifest.split_hash:
        yield "split sha256", run.manifest.split_hash
    for protocol, digest in run.manifest.candidate_hashes.items():
        yield f"candidates {protocol} sha256", digest
