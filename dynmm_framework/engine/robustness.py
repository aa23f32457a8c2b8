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
    """Ranks the catalogue with each choice of modalities missing for each share of the items."""
    from dynmm_framework.evaluation.evaluate import evaluate
    from dynmm_framework.evaluation.ranking import as_recommender

    block = bench.loaded.pipeline.robustness
    assert block is not None  # the stage is planned only with it
    adapter = bench.aligned(stage.label, stage.model_seed).adapter
    backbone = bench.fitted(bench.loaded.backbone_label, stage.model_seed)
    chosen = choices(tuple(bench.features), together=block.combinations)
    asked = [((), 0.0), *((names, share) for names in chosen for share in block.shares)]
    rows, ctx = [], bench.context(stage, writer)
    with ctx.progress(stage.name, len(asked)) as advance:
        for names, share in asked:
            fewer = without(bench.features, names, share, seed=stage.seed)
            recommender: Any = Aligned.attached(adapter, fewer, backbone)
            result = evaluate(
                as_recommender(recommender),
                bench.test,
                bench.requests(),
                item_counts=bench.item_counts,
                items=bench.dataset.items,
                name=stage.label,
                latency_users=0,
            )
            rows.append({"dropped": list(names), "share": share, "values": result.values})
            advance(1)
    write_json(writer.folder / ROWS_FILE, {"schema_version": 1, "rows": rows})
    return {"rankings": len(rows)}


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
