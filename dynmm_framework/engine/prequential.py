"""From finished streams to the prequential part of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.engine.metrics import (
    Comparison,
    Forgetting,
    MetricValue,
    StreamResults,
    interval,
)
from dynmm_framework.engine.streaming import OWN, REFERENCE, read_stream

if TYPE_CHECKING:
    from dynmm_framework.engine.stages import Workbench

PROTOCOL = "prequential"


def summarise_stream(bench: Workbench) -> StreamResults | None:
    """Collects what the streams of all model seeds gave; ``None`` if there is none."""
    stages = bench.plan.of_kind("stream")
    if not stages:
        return None
    documents = [read_stream(bench.folder(stage)) for stage in stages]
    seeds = [str(stage.model_seed) for stage in stages]
    return results_of(documents, seeds, correct=bench.loaded.pipeline.evaluate.significance)


def results_of(
    documents: Sequence[Mapping[str, Any]], seeds: Sequence[str], *, correct: str = "holm"
) -> StreamResults:
    """Arranges streams of equal windows.

    Args:
        documents: What each seed's stream gave.
        seeds: Their seeds.
        correct: Correction of p-values, ``holm`` or ``none``.
    """
    from dynmm_framework.evaluation.significance import bootstrap_ci

    first = documents[0]
    names: Sequence[str] = first["strategies"]
    metrics = list(first["means"].get(names[0], {}))
    table = _values(documents, names, metrics)
    return StreamResults(
        windows=len(first["windows"]),
        events=first["events"],
        skipped=first["skipped"],
        strategies={
            name: {
                metric: MetricValue(
                    mean=float(np.mean([d["means"][name][metric] for d in documents])),
                    ci95=interval(bootstrap_ci(np.mean(table[name][metric], axis=0))),
                    per_seed={
                        seed: d["means"][name][metric]
                        for seed, d in zip(seeds, documents, strict=True)
                    },
                )
                for metric in metrics
            }
            for name in names
        },
        comparisons=list(_comparisons(table, names, metrics, correct)),
        curves={name: _curve(documents, table[name]["ndcg@10"]) for name in names},
        drift=[window["window"] for window in first["windows"] if window["drift"]],
        served=_served(documents),
        forgetting=_forgetting(documents, names, probe="probe", during="retained"),
        forgetting_as_present=_forgetting(
            documents, names, probe="probe_as_present", during="retained_as_present"
        ),
        probed=[w["window"] for w in first["windows"] if w["retained"]],
        cost={name: float(np.mean([d["cost"][name] for d in documents])) for name in names},
        update_ms=float(
            np.median([window["update_ms"] for d in documents for window in d["windows"]])
        )
        if first["windows"]
        else 0.0,
        seconds=float(np.mean([d["seconds"] for d in documents])),
    )


def _served(documents: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Returns what guards let through in each window, means over seeds."""
    windows = [[window["served"] for window in document["windows"]] for document in documents]
    found: Mapping[str, Mapping[str, float]] = windows[0][0] if windows[0] else {}
    return {
        name: {
            part: np.mean([[w[name][part] for w in seed] for seed in windows], axis=0).tolist()
            for part in parts
        }
        for name, parts in found.items()
    }


def _forgetting(
    documents: Sequence[Mapping[str, Any]], names: Sequence[str], *, probe: str, during: str
) -> dict[str, Forgetting]:
    """Every seed has a sample of its own, so their errors are taken for independent."""
    probes = [document[probe] for document in documents]
    found = {}
    for name in names if probes[0]["before"] else ():
        before, after = (float(np.mean([p[when][name] for p in probes])) for when in _WHEN)
        error = math.sqrt(sum(p["error"][name] ** 2 for p in probes)) / len(probes)
        rows = [[w[during][name] for w in d["windows"] if w[during]] for d in documents]
        found[name] = Forgetting(
            before=before,
            after=after,
            ci95=interval((after - before - 1.96 * error, after - before + 1.96 * error)),
            during=np.mean(rows, axis=0).tolist(),
        )
    return found


_WHEN = ("before", "after")


_Table = Mapping[str, Mapping[str, Sequence[NDArray[np.float64]]]]


def _values(
    documents: Sequence[Mapping[str, Any]], names: Sequence[str], metrics: Sequence[str]
) -> _Table:
    """Returns every window's value: strategy, metric, one array for each seed."""
    return {
        name: {
            metric: [
                np.asarray([window["metrics"][name][metric] for window in document["windows"]])
                for document in documents
            ]
            for metric in metrics
        }
        for name in names
    }


def _curve(
    documents: Sequence[Mapping[str, Any]], seeds: Sequence[NDArray[np.float64]]
) -> list[float]:
    """Returns the cumulative NDCG@10 after each window, events weighing alike."""
    counts = np.asarray([window["events"] for window in documents[0]["windows"]], np.float64)
    values = np.mean(seeds, axis=0)
    found: list[float] = (np.cumsum(values * counts) / np.cumsum(counts)).tolist()
    return found


def _comparisons(
    table: _Table, names: Sequence[str], metrics: Sequence[str], correct: str
) -> Iterator[Comparison]:
    """Compares the adapter with all others, and the others that have a reference with it."""
    from dynmm_framework.evaluation.significance import compare, holm

    own = names[0]
    pairs = [(own, other) for other in names[1:]]
    pairs += [(a, b) for a, b in REFERENCE.items() if a in names and b in names]
    for metric in metrics:
        found = [compare(table[a][metric], table[b][metric]) for a, b in pairs]
        raw = [result.t_p for result in found]
        adjusted = holm(raw) if correct == "holm" else raw
        for (a, b), result, p in zip(pairs, found, adjusted, strict=True):
            yield Comparison.of(result, protocol=PROTOCOL, metric=metric, a=a, b=b, p_adjusted=p)


def stream_rows(results: Mapping[str, Any], metrics: Iterable[str]) -> list[tuple[str, ...]]:
    """Arranges strategies for people: metrics, the gain over the base, and its significance.

    Args:
        results: ``stream`` of ``metrics.json``.
        metrics: Which metrics.
    """
    rows = []
    chosen = list(metrics)
    own = next(iter(results["strategies"]))
    tests = {(t["a"], t["b"]): t for t in results["comparisons"] if t["metric"] == "ndcg@10"}
    best = results["strategies"][own]["ndcg@10"]["mean"]
    for name, values in results["strategies"].items():
        test = tests.get((own, name))
        theirs = values["ndcg@10"]["mean"]
        gain = f"{100 * (best / theirs - 1):+.1f} %" if test and theirs else ""
        p = "" if test is None or test["p_adjusted"] is None else f"{test['p_adjusted']:.2g}"
        rows.append((name, *(_four(values[m]["mean"]) for m in chosen), gain, p))
    return rows


def _four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


__all__ = ["OWN", "PROTOCOL", "results_of", "stream_rows", "summarise_stream"]
