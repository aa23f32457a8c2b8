"""The stage that ranks again with modalities taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.artifacts.store import StageWriter
from dynmm_framework.data.features import Features
from dynmm_framework.engine.content import Aligned
from dynmm_framework.engine.plan import PlannedStage
from dynmm_framework.engine.seeds import spawn_rng

if TYPE_CHECKING:
    from dynmm_framework.engine.stages import Workbench

ROWS_FILE = "robustness.json"


def rank_without(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Ranks with each choice of modalities missing for each share of the items.

    Every protocol of the pipeline that ranks is ranked anew.
    """
    from dynmm_framework.evaluation.evaluate import evaluate
    from dynmm_framework.evaluation.ranking import as_recommender

    block = bench.loaded.pipeline.robustness
    assert block is not None  # the stage is planned only with it
    adapter = bench.aligned(stage.label, stage.model_seed).adapter
    backbone = bench.fitted(bench.loaded.backbone_label, stage.model_seed)
    chosen = choices(tuple(bench.features), together=block.combinations)
    cases = [((), 0.0), *((names, share) for names in chosen for share in block.shares)]
    names_of = [protocol.name for protocol in bench.loaded.pipeline.evaluate.protocols]
    asked = {protocol: bench.asked(protocol) for protocol in names_of}
    asked = {protocol: task for protocol, task in asked.items() if task.judgements is None}
    protocols = list(asked)
    rows: dict[str, list[dict[str, Any]]] = {protocol: [] for protocol in protocols}
    ctx = bench.context(stage, writer)
    with ctx.progress(stage.name, len(cases) * len(protocols)) as advance:
        for names, share in cases:
            fewer = without(bench.features, names, share, seed=stage.seed)
            aligned: Any = Aligned.attached(adapter, fewer, backbone)
            recommender = as_recommender(aligned)
            for protocol, task in asked.items():
                result = evaluate(
                    recommender,
                    task.evaluation,
                    bench.requests(),
                    candidates=task.candidates,
                    pool=task.pool,
                    item_counts=bench.item_counts,
                    items=bench.dataset.items,
                    name=stage.label,
                    latency_users=0,
                )
                row = {"protocol": protocol, "dropped": list(names), "share": share}
                rows[protocol].append({**row, "values": result.values})
                advance(1)
    every = [row for of_protocol in rows.values() for row in of_protocol]
    write_json(writer.folder / ROWS_FILE, {"schema_version": 1, "rows": every})
    return {"rankings": len(every)}


def choices(modalities: Sequence[str], *, together: bool) -> Iterator[tuple[str, ...]]:
    """Yields which modalities are dropped: each, and with ``together`` every combination."""
    for size in range(1, len(modalities) + 1 if together else 2):
        yield from combinations(modalities, size)


def without(
    features: Mapping[str, Features], names: Sequence[str], share: float, *, seed: int
) -> dict[str, Features]:
    """Takes modalities away from a share of the items that have them.

    Args:
        features: Features by modality.
        names: Modalities to drop.
        share: Share of the items that have one.
        seed: Chooses the items; those of a smaller share are among those of a larger one.
    """
    out = dict(features)
    for name in names:
        owners = np.flatnonzero(features[name].present)
        order = spawn_rng(seed, f"robustness/{name}").permutation(owners)
        out[name] = features[name].without(order[: round(share * len(order))])
    return out


def read_rows(bench: Workbench, stage: PlannedStage) -> list[dict[str, Any]]:
    """Returns what a finished stage measured."""
    rows: list[dict[str, Any]] = read_json(bench.folder(stage) / ROWS_FILE)["rows"]
    return rows
