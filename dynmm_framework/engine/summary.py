"""From the finished stages of a run to its ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.config.protocols import AUCProtocol
from dynmm_framework.engine.metrics import (
    Comparison,
    Efficiency,
    ExplanationResults,
    MetricsDocument,
    MetricValue,
    Missing,
    finite,
    interval,
)
from dynmm_framework.engine.plan import Plan, PlannedStage, StageKind
from dynmm_framework.engine.prequential import summarise_stream
from dynmm_framework.engine.prompts import prompt_results
from dynmm_framework.engine.robustness import read_rows
from dynmm_framework.engine.stages import PER_USER_FILE, Workbench, read_result

PerUser = dict[str, NDArray[np.float64]]
"""Metric name to one value per user."""


def summarise(bench: Workbench) -> MetricsDocument:
    """Collects every number of a run from its finished stages."""
    from dynmm_framework.evaluation.significance import bootstrap_ci

    pipeline = bench.loaded.pipeline
    document: dict[str, dict[str, dict[str, MetricValue]]] = {}
    chance: dict[str, dict[str, float]] = {}
    users: dict[str, int] = {}
    notes: dict[str, dict[str, None]] = {}
    values: dict[str, dict[str, list[PerUser]]] = {}
    for label in pipeline.recommenders:
        for protocol in (entry.name for entry in pipeline.evaluate.protocols):
            results, per_user = [], []
            for seed in pipeline.model_seeds:
                folder = bench.folder(bench.plan.named(f"rank/{label}/seed-{seed}/{protocol}"))
                results.append(read_result(folder))
                per_user.append(per_user_columns(folder))
            values.setdefault(protocol, {})[label] = per_user
            users[protocol] = int(results[0]["users"])
            for result in results:
                notes.setdefault(protocol, {}).update(dict.fromkeys(result["notes"]))
            chance[protocol] = {k: v for k, v in results[0]["chance"].items() if v is not None}
            document.setdefault(label, {})[protocol] = {
                metric: MetricValue(
                    mean=_mean(result["values"].get(metric) for result in results),
                    ci95=interval(bootstrap_ci(_over_seeds(per_user, metric)))
                    if all(metric in columns for columns in per_user)
                    else None,
                    per_seed={
                        str(seed): finite(result["values"].get(metric))
                        for seed, result in zip(pipeline.model_seeds, results, strict=True)
                    },
                )
                # A metric that is undefined for one seed has no value for it.
                for metric in dict.fromkeys(name for r in results for name in r["values"])
            }
    return MetricsDocument(
        recommenders=document,
        chance={protocol: row for protocol, row in chance.items() if row},
        comparisons=list(_comparisons(bench, values)),
        robustness=list(_robustness(bench)),
        stream=summarise_stream(bench),
        explanations={
            str(stage.model_seed): ExplanationResults.model_validate(
                {
                    name: value
                    for name, value in read_result(bench.folder(stage)).items()
                    if name != "schema_version"
                }
            )
            for stage in bench.plan.of_kind("explain")
        },
        prompts=prompt_results(bench),
        efficiency={label: _efficiency(bench, label) for label in pipeline.recommenders},
        users=users,
        notes={protocol: list(lines) for protocol, lines in notes.items() if lines},
        higher_is_better={
            # Those of the protocol ``auc`` are no metrics that a pipeline chooses.
            **dict.fromkeys(_judging(pipeline), True),
            **{spec.name: spec.higher_is_better for spec in bench.loaded.metrics},
        },
    )


def _judging(pipeline: Pipeline) -> tuple[str, ...]:
    judges = any(isinstance(block, AUCProtocol) for block in pipeline.evaluate.protocols)
    return ("auc", "uauc") if judges else ()


def _robustness(bench: Workbench) -> Iterable[Missing]:
    """Means over seeds of what the robustness stages measured, row by row."""
    tables = [read_rows(bench, stage) for stage in bench.plan.of_kind("robustness")]
    for rows in zip(*tables, strict=True):
        metrics = dict.fromkeys(name for row in rows for name in row["values"])
        yield Missing(
            protocol=rows[0]["protocol"],
            dropped=rows[0]["dropped"],
            share=rows[0]["share"],
            values={name: _mean(row["values"].get(name) for row in rows) for name in metrics},
        )


def per_user_columns(folder: Path) -> PerUser:
    """Returns the metric columns of a rank stage's per-user table."""
    table = pq.read_table(folder / PER_USER_FILE)
    return {
        name: table[name].to_numpy()
        for name in table.column_names
        if pa.types.is_floating(table.schema.field(name).type)
    }


def _comparisons(
    bench: Workbench, values: dict[str, dict[str, list[PerUser]]]
) -> Iterable[Comparison]:
    from dynmm_framework.evaluation.significance import compare, holm

    evaluate = bench.loaded.pipeline.evaluate
    for protocol, by_label in values.items():
        for ours, family in _families(bench.loaded.pipeline, list(by_label)):
            for metric in by_label[ours][0]:
                others = [o for o in family if all(metric in columns for columns in by_label[o])]
                if not all(metric in columns for columns in by_label[ours]):
                    continue
                found = [
                    compare(
                        [seed[metric] for seed in by_label[ours]],
                        [seed[metric] for seed in by_label[other]],
                    )
                    for other in others
                ]
                raw = [result.t_p for result in found]
                adjusted: Sequence[float] = holm(raw) if evaluate.significance == "holm" else raw
                for other, result, p in zip(others, found, adjusted, strict=True):
                    yield Comparison.of(
                        result, protocol=protocol, metric=metric, a=ours, b=other, p_adjusted=p
                    )


def _families(pipeline: Pipeline, labels: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields what is compared with what: the pipeline's own recommender with all others.

    Where a prompt stands on an alignment, the alignment has a family of its own: its backbone, its
    controls and its variants.
    """
    ours, *others = labels
    aligned = pipeline.own("align")
    if pipeline.own("prompt") is None or aligned is None:
        yield ours, others
        return
    roles = pipeline.roles
    variants = [label for label in others if roles[label] == "align" and label != aligned]
    yield ours, [label for label in others if label not in variants]
    yield aligned, [*filter(None, [pipeline.own("fit")]), *variants]


def _efficiency(bench: Workbench, label: str) -> Efficiency:
    role = bench.loaded.role(label)
    fits = [bench.manifest(stage).meta for stage in _stages(bench.plan, role, label)]
    ranks = [read_result(bench.folder(stage)) for stage in _stages(bench.plan, "rank", label)]
    return Efficiency(
        fit_seconds=float(np.mean([meta["fit_seconds"] for meta in fits])),
        rank_seconds=float(np.mean([result["seconds"] for result in ranks])),
        latency_ms_p50=_mean(result["latency"].get("p50_ms") for result in ranks),
        latency_ms_p95=_mean(result["latency"].get("p95_ms") for result in ranks),
        peak_rss_bytes=max((meta["peak_rss_bytes"] or 0) for meta in fits) or None,
        peak_gpu_bytes=max((meta["peak_gpu_bytes"] or 0) for meta in fits) or None,
    )


def _stages(plan: Plan, kind: StageKind, label: str) -> list[PlannedStage]:
    return [stage for stage in plan.of_kind(kind) if stage.label == label]


def _over_seeds(per_user: list[PerUser], metric: str) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.mean([seed[metric] for seed in per_user], axis=0)
    return means


def _mean(values: Iterable[float | None]) -> float | None:
    kept = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(kept)) if kept else None
