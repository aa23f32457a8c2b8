"""Items that nothing learned from: the split that holds them out, and ranking them alone."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynmm_framework import load_pipeline
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.run import run
from dynmm_framework.errors import DataError
from dynmm_framework.reports.comparison import compare_runs
from dynmm_framework.reports.content import group_grids
from dynmm_framework.reports.page import write_report
from dynmm_framework.testing import generate_dataset

GROUPS = ("0", "1–4", "5–19", "20+")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cold")
    generate_dataset(folder / "media", n_users=80, n_items=48).save(folder / "data")
    return folder


def pipeline(saved: Path, **changed: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "cold_items", "share": 0.3},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 1, "dim": 8}},
        "encoders": {"text": {"name": "tfidf_text", "config": {"dim": 8}}},
        "align": {"name": "joint_alignment", "config": {"epochs": 1, "hidden": 8}},
        "controls": ["shuffled_features", "popularity_bias"],
        "ablation": [{"name": "no map", "align": {"config": {"content_map": False}}}],
        "robustness": {"shares": [1.0]},
        "evaluate": {
            "protocols": ["full", "cold:1", {"sampled": 5}],
            "at": [5],
            "compare_with": ["popularity"],
            "monitor": "ndcg@5",
        },
        "compute": {"device": "cpu", "threads": 1},
        **changed,
    }


def cheap(saved: Path, **changed: Any) -> dict[str, Any]:
    block = pipeline(saved)
    content = ("backbone", "encoders", "align", "controls", "ablation", "robustness")
    return {k: v for k, v in block.items() if k not in content} | {"baseline": "ease"} | changed


@pytest.fixture(scope="module")
def finished(saved: Path) -> Any:
    return run(load_pipeline(pipeline(saved)), runs_dir=saved / "runs")


def test_both_protocols_have_numbers_and_the_cold_one_chance(finished: Any) -> None:
    metrics = finished.metrics
    labels = ["joint_alignment", "bpr_mf", "popularity"]
    labels += [f"joint_alignment-{name}" for name in ("shuffled_features", "popularity_bias")]
    assert list(metrics["recommenders"]) == [*labels, "joint_alignment-no_map"]
    for by in metrics["recommenders"].values():
        assert list(by) == ["full", "cold:1", "sampled:5"]
    assert set(metrics["chance"]) == {"cold:1", "sampled:5"}
    assert metrics["users"]["cold:1"] == metrics["users"]["full"]
    assert set(finished.manifest.candidate_hashes) == {"cold:1", "sampled:5"}
    compared = {test["b"] for test in metrics["comparisons"] if test["protocol"] == "cold:1"}
    assert compared == set(metrics["recommenders"]) - {"joint_alignment"}


def test_chance_is_the_share_of_the_pool_that_a_list_shows(saved: Path, finished: Any) -> None:
    found = finished.ranking.to_pandas()
    cold = found[(found.protocol == "cold:1") & (found.recommender == "popularity")]
    pool = set(cold["item"])
    warm = set(found[found.protocol == "full"]["item"]) - pool
    assert warm  # a full ranking lists them
    # Nothing is left of a list that is as long as the pool but what the user knows.
    sizes = cold.groupby("user").size().to_numpy()
    assert sizes.max() <= len(pool) < 20
    assert finished.metrics["chance"]["cold:1"]["hit@5"] == pytest.approx(np.mean(5 / sizes))
    hits = cold.groupby("user").hit.sum()
    assert (hits == 1).all()


def test_groups_are_the_means_of_the_per_user_results(finished: Any) -> None:
    per_user = finished.per_user.to_pandas()
    grids = {grid.caption: grid for grid in group_grids(finished)}
    assert list(grids) == [f"NDCG@5, {name}" for name in ("full", "cold:1", "sampled:5")]
    for caption, grid in grids.items():
        of_protocol = per_user[per_user.protocol == caption.partition(", ")[2]]
        assert grid.columns[1:] == GROUPS
        sizes, *rows = grid.rows
        assert int(sizes[1]) == finished.metrics["users"][of_protocol.protocol.iloc[0]]
        for label, *cells in rows:
            mine = of_protocol[of_protocol.recommender == label]
            assert cells[0] == f"{mine['ndcg@5'].mean():.4f}"
            assert cells[1:] == ["–", "–", "–"]


def test_groups_of_warm_targets_are_the_means_too(saved: Path) -> None:
    split = {"strategy": "leave_one_out"}
    evaluate = {"protocols": ["full", "cold:20"], "at": [5], "monitor": "ndcg@5"}
    done = run(load_pipeline(cheap(saved, split=split, evaluate=evaluate)), runs_dir=saved / "runs")
    per_user = done.per_user.to_pandas()
    edges = [0, 1, 5, 20, np.inf]
    several = 0
    for grid in group_grids(done):
        mine = per_user[per_user.protocol == grid.caption.partition(", ")[2]]
        for place, (low, high) in enumerate(pairwise(edges), start=1):
            group = mine[(mine.target_interactions >= low) & (mine.target_interactions < high)]
            assert grid.rows[0][place] == f"{len(group):,}"
            text = f"{group['ndcg@5'].mean():.4f}" if len(group) else "–"
            assert grid.rows[1][place] == text
            several += len(group) > 0
    assert several >= 3
    asked = done.metrics["users"]
    assert 0 < asked["cold:20"] == int((mine.target_interactions < 20).sum()) < asked["full"]


def test_robustness_ranks_the_cold_items_too(finished: Any) -> None:
    rows = finished.metrics["robustness"]
    assert [(row["protocol"], row["dropped"]) for row in rows] == [
        (protocol, dropped)
        for protocol in ("full", "cold:1", "sampled:5")
        for dropped in ([], ["text"])
    ]
    for row in rows:
        if not row["dropped"]:
            known = finished.metrics["recommenders"]["joint_alignment"][row["protocol"]]
            for name, value in row["values"].items():
                assert value == pytest.approx(known[name]["mean"], abs=1e-6)


def test_the_page_shows_protocol_groups_and_robustness(finished: Any) -> None:
    page = write_report(finished).read_text()
    assert "Ranking of the items without training interactions, " in page
    assert "training interactions of the target" in page
    assert "the alignment with modalities missing, cold:1" in page
    assert "NDCG@5 with modalities missing, cold:1" in page


def test_two_runs_are_compared_on_the_cold_items(saved: Path) -> None:
    runs = [run(load_pipeline(cheap(saved)), runs_dir=saved / "runs")]
    runs.append(run(load_pipeline(cheap(saved, baseline="item_knn")), runs_dir=saved / "runs"))
    comparison = compare_runs(runs, protocols=["cold:1"])
    assert comparison.notes == ()
    (table,) = comparison.tables
    assert table.title == "Ranking of the items without training interactions"
    assert [row.label for row in table.rows] == [
        "A ease", "A popularity", "B item_knn", "B popularity", "chance",
    ]  # fmt: skip
    assert {test["b"] for test in comparison.metrics["comparisons"]} == {
        "A popularity", "B item_knn", "B popularity",
    }  # fmt: skip


def test_recommenders_without_content_put_cold_items_into_the_middle(saved: Path) -> None:
    done = run(load_pipeline(cheap(saved)), runs_dir=saved / "runs")
    per_user = done.per_user.to_pandas()
    cold = per_user[(per_user.protocol == "cold:1") & (per_user.recommender == "popularity")]
    found = done.ranking.to_pandas()
    sizes = found[(found.protocol == "cold:1") & (found.recommender == "popularity")]
    sizes = sizes.groupby("user").size().reindex(cold.user).to_numpy()
    assert cold["mrr"].to_numpy() == pytest.approx(2 / (sizes + 1))


def test_nobody_asked_for_a_cold_item_is_an_error_before_training(
    saved: Path, tmp_path: Path
) -> None:
    split = {"strategy": "leave_one_out"}
    evaluate = {"protocols": ["full", "cold:1"], "at": [5], "max_users": 3}
    with pytest.raises(DataError) as caught:
        run(load_pipeline(cheap(saved, split=split, evaluate=evaluate)), runs_dir=tmp_path)
    message = str(caught.value)
    assert "the protocol cold:1 has nobody to ask: of 3 test targets of the split" in message
    assert "'leave_one_out'" in message
    (manifest,) = tmp_path.glob("*/manifest.json")
    done = [stage["name"] for stage in json.loads(manifest.read_text())["stages"]]
    assert done == ["data", "split"]


def test_a_number_changes_the_keys_of_its_protocol_alone(saved: Path) -> None:
    def keys(protocols: list[Any]) -> dict[str, str]:
        loaded = load_pipeline(cheap(saved, evaluate={"protocols": protocols, "at": [5]}))
        return {s.name: s.key for s in make_plan(loaded, runs_dir=saved / "runs").stages}

    one, two = keys(["full", "cold:1"]), keys(["full", {"cold": 2}])
    assert {name for name in one if name not in two} == {
        "candidates/cold:1", "rank/ease/seed-7/cold:1",
    }  # fmt: skip
    assert all(two[name] == key for name, key in one.items() if name in two)
    assert two["candidates/cold:2"] != one["candidates/cold:1"]
