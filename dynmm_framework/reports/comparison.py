"""Several runs side by side: numbers, significance over common users, settings that differ."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.errors import ArtifactError
from dynmm_framework.reports.table import MetricTable, metric_tables
from dynmm_framework.specs import did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

    from dynmm_framework.engine.results import Run

PerUser = tuple[NDArray[Any], NDArray[np.float64]]
"""Raw user ids, sorted, and one value for each."""


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: The runs by their short names.
        metrics: As ``metrics.json``, recommenders named ``A sasrec``; the first recommender of
            the first run is compared with every other one.
        differences: Settings that are not the same, by dotted path, one value for each run.
        notes: Why some numbers cannot be compared.
    """

    runs: Mapping[str, Run]
    metrics: Mapping[str, Any]
    differences: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...]

    @property
    def tables(self) -> tuple[MetricTable, ...]:
        return metric_tables(self.metrics)


def compare_runs(
    runs: Sequence[Run],
    *,
    metrics: Sequence[str] = (),
    protocols: Sequence[str] = (),
) -> Comparison:
    """Compares runs.

    A difference is tested only between recommenders that were asked the same: of one split and,
    for sampled protocols, of one set of candidates; over the users that both ranked; values of
    several seeds are averaged for each user first.

    Args:
        runs: Two or more; the pipeline's recommender of the first one is the reference.
        metrics: Which metrics; all by default.
        protocols: Which protocols; all by default.

    Raises:
        ArtifactError: If a metric or a protocol is in none of the runs, or a file is damaged.
    """
    named = dict(zip(_names(len(runs)), runs, strict=True))
    entries = {
        f"{name} {label}": (run, label)
        for name, run in named.items()
        for label in run.metrics["recommenders"]
    }
    recommenders = {
        entry: _chosen(run.metrics["recommenders"][label], metrics, protocols)
        for entry, (run, label) in entries.items()
    }
    _refuse_unknown(runs, metrics, "metric", 2)
    _refuse_unknown(runs, protocols, "protocol", 1)
    notes = list(_notes(named))
    comparisons = list(_comparisons(entries, recommenders))
    first = runs[0].metrics
    document = {
        "recommenders": {entry: values for entry, values in recommenders.items() if values},
        "comparisons": comparisons,
        "chance": first.get("chance", {}),
        "higher_is_better": first.get("higher_is_better", {}),
    }
    return Comparison(named, document, _differences(named), tuple(notes))


def _names(count: int) -> Iterator[str]:
    letters = string.ascii_uppercase
    return (letters[index] if index < len(letters) else f"R{index + 1}" for index in range(count))


def _chosen(
    by_protocol: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], protocols: Sequence[str]
) -> dict[str, dict[str, Any]]:
    kept = {
        protocol: {name: v for name, v in values.items() if not metrics or name in metrics}
        for protocol, values in by_protocol.items()
        if not protocols or protocol in protocols
    }
    return {protocol: values for protocol, values in kept.items() if values}


def _refuse_unknown(runs: Sequence[Run], wanted: Sequence[str], noun: str, depth: int) -> None:
    known: dict[str, None] = {}
    for run in runs:
        for by_protocol in run.metrics["recommenders"].values():
            for protocol, values in by_protocol.items():
                known.update(dict.fromkeys([protocol] if depth == 1 else values))
    for name in wanted:
        if name not in known:
            raise ArtifactError(
                f"none of the runs has the {noun} {name!r}{did_you_mean(name, known)}",
                hint=f"They have: {', '.join(known)}.",
            )


def _notes(named: Mapping[str, Run]) -> Iterator[str]:
    (first, reference), *others = named.items()
    for name, run in others:
        if reference.manifest.data_fingerprint != run.manifest.data_fingerprint:
            yield (
                f"{name} was run on other data than {first}: their numbers are not comparable,"
                " and no difference is tested."
            )
        elif reference.manifest.split_hash != run.manifest.split_hash:
            yield (
                f"{name} was run on another split than {first}: its users were asked for other"
                " items, and no difference is tested."
            )
        else:
            ours, theirs = reference.manifest.candidate_hashes, run.manifest.candidate_hashes
            for protocol in ours.keys() & theirs.keys():
                if ours[protocol] != theirs[protocol]:
                    yield (
                        f"{name} drew other candidates for {protocol} than {first}: no"
                        " difference is tested there."
                    )


def same_task(a: Run, b: Run, protocol: str) -> bool:
    """Tells whether two runs asked the same of the same users."""
    ours, theirs = a.manifest, b.manifest
    return (
        bool(ours.split_hash)
        and ours.split_hash == theirs.split_hash
        and ours.data_fingerprint == theirs.data_fingerprint
        and ours.candidate_hashes.get(protocol) == theirs.candidate_hashes.get(protocol)
    )


def _comparisons(
    entries: Mapping[str, tuple[Run, str]],
    recommenders: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> Iterator[dict[str, Any]]:
    from dynmm_framework.evaluation.significance import compare, holm

    reference = next(iter(entries))
    run, label = entries[reference]
    for protocol, values in recommenders[reference].items():
        rivals = [
            entry
            for entry in islice(entries, 1, None)
            if protocol in recommenders[entry] and same_task(run, entries[entry][0], protocol)
        ]
        for metric in values:
            found = []
            for entry in rivals:
                pair = paired_values(
                    user_values(run, label, protocol, metric),
                    user_values(*entries[entry], protocol, metric),
                )
                if pair is not None:
                    found.append((entry, compare([pair[0]], [pair[1]])))
            adjusted = holm([result.t_p for _, result in found])
            for (entry, result), p in zip(found, adjusted, strict=True):
                yield {
                    "protocol": protocol,
                    "metric": metric,
                    "a": reference,
                    "b": entry,
                    "difference": result.difference,
                    "ci95": [result.ci_low, result.ci_high],
                    "p_t": result.t_p,
                    "p_wilcoxon": result.wilcoxon_p,
                    "p_adjusted": float(p),
                    "cohens_dz": result.cohens_dz,
                    "n": result.n,
                }


def user_values(run: Run, label: str, protocol: str, metric: str) -> PerUser | None:
    """Returns each user's value, averaged over seeds; ``None`` for metrics of whole lists."""
    import pyarrow.compute as pc

    table: pa.Table = run.per_user
    if metric not in table.column_names:
        return None
    chosen = table.filter(
        pc.and_(pc.equal(table["recommender"], label), pc.equal(table["protocol"], protocol))
    )
    means = chosen.select(["user_id", metric]).group_by("user_id").aggregate([(metric, "mean")])
    users = means["user_id"].to_numpy().astype(str)
    order = np.argsort(users, kind="stable")
    return users[order], means[f"{metric}_mean"].to_numpy()[order].astype(np.float64)


def paired_values(
    a: PerUser | None, b: PerUser | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Returns the values of the users that both have; ``None`` if there are none."""
    if a is None or b is None:
        return None
    _, ours, theirs = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    return (a[1][ours], b[1][theirs]) if len(ours) else None


def _differences(named: Mapping[str, Run]) -> dict[str, tuple[Any, ...]]:
    flat = [dict(_flat(run.manifest.pipeline)) for run in named.values()]
    paths = dict.fromkeys(path for settings in flat for path in settings)
    rows = {path: tuple(settings.get(path) for settings in flat) for path in paths}
    return {path: row for path, row in rows.items() if any(value != row[0] for value in row)}


def _flat(settings: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, settings
