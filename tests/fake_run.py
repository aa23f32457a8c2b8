"""A run's folder as a run leaves it, made in milliseconds: for tests of what reads runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dynmm_framework.artifacts.manifest import (
    RunManifest,
    StageEntry,
    collect_environment,
    write_document,
)
from dynmm_framework.data.storage import write_dataset
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.evaluation.significance import compare, holm

METRICS = ("hit@5", "hit@10", "ndcg@5", "ndcg@10", "recall@10", "mrr")
SKILL = {"sasrec": 0.30, "item_knn": 0.22, "popularity": 0.10}
BUCKETS = {
    "history_length": [("1–4", 1), ("5–9", 5), ("10–19", 10), ("20–49", 20), ("50+", 50)],
    "item_popularity": [
        ("0", 0), ("1–4", 1), ("5–19", 5), ("20–49", 20),
        ("50–99", 50), ("100–499", 100), ("500–1,999", 500), ("2,000+", 2000),
    ],
}  # fmt: skip


def write_fake_run(
    folder: Path,
    *,
    users: range = range(120),
    seeds: tuple[int, ...] = (7,),
    protocols: tuple[str, ...] = ("full", "sampled:100"),
    skill: dict[str, float] | None = None,
    split_hash: str = "5" * 64,
    data_fingerprint: str = "d" * 64,
    settings: dict[str, Any] | None = None,
    title: str = "Film",
    source: str = "quickstart.yaml",
    noise: int = 0,
) -> Path:
    """Writes a finished run and returns its folder."""
    skill = skill or SKILL
    folder.mkdir(parents=True)
    rng = np.random.default_rng(noise)
    base = np.random.default_rng(1).random(len(users)) * 0.1
    per_user: dict[str, list[Any]] = {name: [] for name in _columns()}
    values: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for label, level in skill.items():
        for seed in seeds:
            for protocol in protocols:
                lift = 0.0 if protocol == "full" else 0.3
                per_user["recommender"] += [label] * len(users)
                per_user["seed"] += [seed] * len(users)
                per_user["protocol"] += [protocol] * len(users)
                per_user["user"] += list(range(len(users)))
                per_user["user_id"] += [f"u{user}" for user in users]
                per_user["history_length"] += [5 + user % 40 for user in users]
                per_user["n_targets"] += [1] * len(users)
                for place, metric in enumerate(METRICS):
                    drawn = base + level + lift + 0.02 * place + rng.normal(0, 0.1, len(users))
                    drawn = np.clip(drawn, 0, 1)
                    per_user[metric] += drawn.tolist()
                    values.setdefault((label, protocol, metric), []).append(drawn)
    pq.write_table(pa.table(per_user), folder / "per_user.parquet")
    pq.write_table(pa.table({"recommender": ["sasrec"]}), folder / "ranking.parquet")
    _write(folder / "metrics.json", _metrics(values, skill, seeds, protocols, len(users)))
    _write(folder / "training.json", _training(skill, seeds, protocols))
    write_document(
        folder / "manifest.json",
        RunManifest(
            run=folder.name,
            created=datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
            status="finished",
            pipeline={
                "version": 1,
                "seed": 7,
                "data": {"name": "movielens_100k", "config": {}},
                "split": {"strategy": "temporal_user", "ratios": [0.8, 0.1, 0.1]},
                "backbone": {"name": "sasrec", "config": {"hidden_size": 64, **(settings or {})}},
                "evaluate": {"monitor": "ndcg@10", "protocols": list(protocols)},
            },
            source=source,
            components={"data": "dynmm-framework==0.1.0/movielens_100k"},
            seeds=list(seeds),
            environment=collect_environment(),
            devices=["cpu"],
            stages=[
                StageEntry(name="data", key="a" * 64, cached=True, seconds=1.5),
                StageEntry(name="fit/sasrec/seed-7", key="b" * 64, cached=False, seconds=75.0),
            ],
            timings={"total": 80.0},
            peak_memory_bytes={"rss": 612_000_000},
            split_hash=split_hash,
            candidate_hashes={p: "c" * 64 for p in protocols if p != "full"},
            data_fingerprint=data_fingerprint,
        ),
    )
    data = folder / "data"
    data.mkdir()
    write_dataset(_dataset(len(users), title), data)
    return folder


def _columns() -> tuple[str, ...]:
    keys = ("recommender", "seed", "protocol", "user", "user_id", "history_length", "n_targets")
    return (*keys, *METRICS)


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def _metrics(
    values: dict[tuple[str, str, str], list[np.ndarray]],
    skill: dict[str, float],
    seeds: tuple[int, ...],
    protocols: tuple[str, ...],
    n_users: int,
) -> dict[str, Any]:
    recommenders: dict[str, Any] = {}
    for (label, protocol, metric), drawn in values.items():
        mean = float(np.mean(drawn))
        recommenders.setdefault(label, {}).setdefault(protocol, {})[metric] = {
            "mean": mean,
            "ci95": [mean - 0.012, mean + 0.012],
            "per_seed": {str(s): float(d.mean()) for s, d in zip(seeds, drawn, strict=True)},
        }
    ours, *others = skill
    tests = []
    for protocol in protocols:
        for metric in METRICS:
            found = [
                compare(values[ours, protocol, metric], values[other, protocol, metric])
                for other in others
            ]
            adjusted = holm([result.t_p for result in found])
            tests += [
                {
                    "protocol": protocol,
                    "metric": metric,
                    "a": ours,
                    "b": other,
                    "difference": result.difference,
                    "ci95": [result.ci_low, result.ci_high],
                    "p_t": result.t_p,
                    "p_wilcoxon": result.wilcoxon_p,
                    "p_adjusted": p,
                    "cohens_dz": result.cohens_dz,
                    "n": result.n,
                }
                for other, result, p in zip(others, found, adjusted, strict=True)
            ]
    return {
        "schema_version": 1,
        "recommenders": recommenders,
        "chance": {"sampled:100": {"hit@10": 0.099, "ndcg@10": 0.045}}
        if "sampled:100" in protocols
        else {},
        "comparisons": tests,
        "efficiency": {
            label: {
                "fit_seconds": 75.2 if label == "sasrec" else 0.05,
                "rank_seconds": 0.8,
                "latency_ms_p50": 1.21,
                "latency_ms_p95": 2.5,
                "peak_rss_bytes": 612_000_000,
                "peak_gpu_bytes": None,
            }
            for label in skill
        },
        "users": dict.fromkeys(protocols, n_users),
        "higher_is_better": {name.partition("@")[0]: True for name in METRICS},
    }


def _training(
    skill: dict[str, float], seeds: tuple[int, ...], protocols: tuple[str, ...]
) -> dict[str, Any]:
    curves = {}
    for label in skill:
        neural = label == "sasrec"
        curves[label] = {
            str(seed): [
                {
                    "epoch": epoch,
                    "loss": 1.4 / (1 + epoch / 20) + 0.01 * number,
                    "seconds": 0.7,
                    "ndcg@10": 0.09 * (1 - 0.95**epoch) + 0.002 * number,
                }
                for epoch in range(1, 69)
            ]
            if neural
            else []
            for number, seed in enumerate(seeds)
        }
    slices = [
        {
            "recommender": label,
            "seed": seed,
            "protocol": protocol,
            "slice": kind,
            "bucket": bucket,
            "low": low,
            "high": None,
            "n": 100 - place,
            "metric": metric,
            "value": level * (0.5 + place / 10),
        }
        for label, level in skill.items()
        for seed in seeds
        for protocol in protocols
        for kind, buckets in BUCKETS.items()
        for place, (bucket, low) in enumerate(buckets)
        for metric in ("hit@10", "ndcg@10")
    ]
    return {"schema_version": 1, "curves": curves, "slices": slices}


def _dataset(n_users: int, title: str) -> Dataset:
    n_items = 20
    users = np.repeat(np.arange(n_users, dtype=np.int32), 6)
    items = np.tile(np.arange(6, dtype=np.int32), n_users)
    interactions = Interactions(
        users=users,
        items=(items + users) % n_items,
        n_users=n_users,
        n_items=n_items,
        timestamps=np.arange(len(users), dtype=np.int64),
    )
    return Dataset(
        name="movielens_100k",
        interactions=interactions,
        items=pa.table(
            {
                "id": [f"i{item}" for item in range(n_items)],
                "title": [f"{title} {item}" for item in range(n_items)],
            }
        ),
        users=pa.table({"id": [f"u{user}" for user in range(n_users)]}),
        log=(
            ("read", n_users, n_items, 7 * n_users),
            ("deduplicate", n_users, n_items, 6 * n_users),
        ),
    )
