"""MovieLens-100K on one process and on two Ray workers: the same metrics, but for chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.run import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SETTINGS: dict[str, Any] = {
    "version": 1,
    "data": {"name": "movielens_100k"},
    "split": {"strategy": "leave_one_out"},
    "backbone": {"name": "bpr_mf", "config": {"epochs": 60}},
    "evaluate": {
        "at": [10],
        "compare_with": [{"name": "sasrec", "config": {"epochs": 30, "batch_size": 128}}],
    },
}


def test_two_workers_give_the_metrics_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    found = {}
    for engine, compute in (
        ("local", {"threads": 1}),
        ("ray", {"engine": "ray", "workers": 2, "threads": 1}),
    ):
        result = run(load_pipeline({**SETTINGS, "compute": compute}), runs_dir=tmp_path)
        found[engine] = {
            label: {name: value["mean"] for name, value in protocols["full"].items()}
            for label, protocols in result.metrics["recommenders"].items()
        }
        print(engine, found[engine])  # shown by -s  # noqa: T201
        for label, curves in result.training.items():
            curve = curves["7"]
            seconds = sorted(epoch["seconds"] for epoch in curve)[len(curve) // 2]
            print(engine, label, len(curve), f"{seconds:.2f} s an epoch")  # noqa: T201
    for name, value in found["local"]["bpr_mf"].items():
        assert found["ray"]["bpr_mf"][name] == pytest.approx(value, abs=2e-3)
    # Ten users more or fewer of 943 in the top ten are chance.
    assert found["ray"]["sasrec"]["hit@10"] == pytest.approx(
        found["local"]["sasrec"]["hit@10"], abs=0.02
    )
    assert found["ray"]["sasrec"]["ndcg@10"] == pytest.approx(
        found["local"]["sasrec"]["ndcg@10"], abs=0.01
    )
