"""Metrics by the number of training interactions of the target, in four groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROUPS: tuple[tuple[int, str], ...] = ((0, "0"), (1, "1–4"), (5, "5–19"), (20, "20+"))
"""First number of training interactions of each group, and its name. The finer buckets that a run
keeps for its plots lie within them.
"""


@dataclass(frozen=True, slots=True)
class GroupTable:
    """One metric of all recommenders under one protocol, by group.

    Attributes:
        protocol: Such as ``full``.
        metric: Such as ``ndcg@10``.
        sizes: Number of targets of each group, which is that of users where each has one.
        rows: Recommender and its value for each group, averaged over seeds; ``None`` for a group
            without targets.
    """

    protocol: str
    metric: str
    sizes: tuple[int, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def group_tables(
    records: Sequence[Mapping[str, Any]], labels: Sequence[str], monitor: str
) -> tuple[GroupTable, ...]:
    """Builds one table for each protocol from the slices that a run keeps.

    A bucket weighs as much as it has targets, so that a group's value is the mean over its
    targets; with one target each, over its users.

    Args:
        records: Slices, as :attr:`~dynmm_framework.engine.results.Run.slices`.
        labels: Recommenders in the order of the rows.
        monitor: The metric, if it was computed; else the first one.
    """
    popularity = [record for record in records if record["slice"] == "item_popularity"]
    tables = []
    for protocol in dict.fromkeys(record["protocol"] for record in popularity):
        members = [record for record in popularity if record["protocol"] == protocol]
        metrics = list(dict.fromkeys(record["metric"] for record in members))
        metric = monitor if monitor in metrics else metrics[0]
        chosen = [record for record in members if record["metric"] == metric]
        found = {label: _by_group(chosen, label) for label in labels}
        rows = tuple(
            (label, tuple(value for value, _ in groups)) for label, groups in found.items()
        )
        sizes = [max(by[place][1] for by in found.values()) for place in range(len(GROUPS))]
        tables.append(GroupTable(protocol, metric, tuple(sizes), rows))
    return tuple(tables)


def _by_group(
    records: Sequence[Mapping[str, Any]], label: str
) -> tuple[tuple[float | None, int], ...]:
    """Returns value and number of targets of each group, the means over seeds."""
    sums, targets = [0.0] * len(GROUPS), [0] * len(GROUPS)
    seeds = set()
    for record in records:
        if record["recommender"] == label:
            place = sum(low <= record["low"] for low, _ in GROUPS) - 1
            sums[place] += record["value"] * record["n"]
            targets[place] += record["n"]
            seeds.add(record["seed"])
    return tuple(
        (total / count if count else None, count // max(len(seeds), 1))
        for total, count in zip(sums, targets, strict=True)
    )
