"""Items that come in mid-stream, known at first by what they are and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework import load_pipeline
from dynmm_framework.data.tables import Dataset
from dynmm_framework.data.windows import stream_of
from dynmm_framework.engine.live import run_split
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run

KINDS, EACH, NEW = ("cats", "trains", "stars"), 10, 2
WORDS = {"cats": "fur purr whisker", "trains": "rail engine station", "stars": "orbit moon comet"}


def dataset() -> Dataset:
    """Users who like one kind of item; the last two items of each kind appear late."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(90):
        kind = user % len(KINDS)
        late = user >= 60
        choices = np.arange(EACH - NEW) if not late else np.arange(EACH)
        for step, item in enumerate(rng.permutation(choices)[:7]):
            rows.append((f"u{user}", f"i{kind * EACH + item}", 1000 * user + step))
    columns = list(zip(*rows, strict=True))
    names = [kind for kind in KINDS for _ in range(EACH)]
    items = pa.table(
        {
            "id": [f"i{n}" for n in range(len(names))],
            "title": [f"{kind} {n}" for n, kind in enumerate(names)],
            "text": [f"{WORDS[kind]} {kind}" for kind in names],
        }
    )
    interactions = pa.table(dict(zip(("user", "item", "timestamp"), columns, strict=True)))
    return Dataset.from_arrow(interactions, name="kinds", items=items)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("content")
    dataset().save(folder / "data")
    pipeline: dict[str, Any] = {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(folder / "data")}},
        "split": {"strategy": "streaming", "offline": 0.67},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 30, "dim": 8}},
        "encoders": {"text": {"name": "tfidf_text", "config": {"dim": 6}}},
        "align": {
            "name": "joint_alignment",
            "config": {"rank_weight": 0, "cold_offset": 0.0, "content_map_least": 2},
        },
        "online": {
            "name": "gated_mlp",
            "config": {"window": 20, "hidden": 8, "probe": 0},
            "controls": False,
            "baselines": False,
        },
        "evaluate": {"at": [5]},
        "compute": {"device": "cpu", "threads": 1},
    }
    return run(load_pipeline(pipeline), runs_dir=Path(folder) / "runs")


def test_new_items_enter_a_stream_through_their_content(finished: Run):
    split = run_split(finished)
    names = finished.dataset.items["id"].to_pylist()
    unseen = np.flatnonzero(split.train_and_valid.item_counts() == 0)
    assert len(unseen) == len(KINDS) * NEW
    assert np.isin(unseen, stream_of(split.test).items).all()
    model = finished.backbone("joint_alignment")
    live = finished.online()
    base = live.snapshot.base.items
    assert base[unseen].any(axis=1).all()  # they have a vector without any event
    np.testing.assert_allclose(base, np.asarray(model.item_vectors()), atol=1e-6)
    for kind in range(len(KINDS)):
        own = [f"i{kind * EACH + item}" for item in range(EACH)]
        # Before the stream, by what they say alone: those of this kind are ahead of other kinds'.
        scores = {entry["item"]: entry["score"] for entry in live.recommend(history=own[:4], k=99)}
        new = [name for name in (names[item] for item in unseen) if name in scores]
        mine = [scores[name] for name in new if name in own]
        others = [scores[name] for name in new if name not in own]
        assert min(mine) > max(others)
