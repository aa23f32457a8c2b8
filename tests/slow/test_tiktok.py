"""The multimodal baselines and the alignment on TikTok's given split (examples/tiktok.yaml)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.run import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * 3600)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "tiktok.yaml"


def test_content_and_graphs_rank_in_a_sane_order(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(real_data / "tiktok")
    runs = Path(os.environ.get("DYNMM_RUNS") or tmp_path)
    done = run(load_pipeline(EXAMPLE), runs_dir=runs)
    recall = {
        label: found["full"]["recall@20"]["mean"]
        for label, found in done.metrics["recommenders"].items()
    }
    controls = ["joint_alignment-shuffled_features", "joint_alignment-popularity_bias"]
    baselines = ["lattice", "mmgcn", "vbpr", "popularity"]
    assert list(recall) == ["joint_alignment", "lightgcn", *baselines, *controls]
    chance = 20 / done.dataset.n_items
    assert min(recall.values()) > 2 * chance
    for label in ("lightgcn", "lattice", "mmgcn", "joint_alignment"):
        assert recall[label] > 1.2 * recall["popularity"], label
    assert recall["lattice"] > recall["mmgcn"] > recall["vbpr"]
    assert (done.dataset.n_users, done.dataset.n_items) == (9_308, 6_710)
