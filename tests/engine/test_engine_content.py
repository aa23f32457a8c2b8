"""Encoders and alignment in a run: stages, keys, what the run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynmm_framework import load_pipeline
from dynmm_framework.data.features import Features
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.robustness import choices, without
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ConfigError
from dynmm_framework.reports.page import write_report
from dynmm_framework.testing import generate_dataset


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("content")
    generate_dataset(folder / "media", n_users=80, n_items=48).save(folder / "data")
    return folder


def pipeline(saved: Path, **changed: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "leave_one_out"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 3, "dim": 8}},
        "encoders": {"text": {"name": "tfidf_text", "config": {"dim": 8}}},
        "align": {"name": "joint_alignment", "config": {"epochs": 1, "hidden": 8}},
        "evaluate": {"at": [10]},
        "compute": {"device": "cpu", "threads": 1},
        **changed,
    }


def stages(mapping: dict[str, Any], runs: Path) -> dict[str, str]:
    plan = make_plan(load_pipeline(mapping), runs_dir=runs)
    return {stage.name: stage.key for stage in plan.stages}


@pytest.fixture(scope="module")
def finished(saved: Path) -> Any:
    return run(load_pipeline(pipeline(saved)), runs_dir=saved / "runs")


def test_the_alignment_is_compared_with_its_backbone(finished: Any) -> None:
    assert list(finished.metrics["recommenders"]) == ["joint_alignment", "bpr_mf"]
    assert finished.label == "joint_alignment"
    assert {c["b"] for c in finished.metrics["comparisons"]} == {"bpr_mf"}
    assert finished.metrics["efficiency"]["joint_alignment"]["fit_seconds"] > 0


def test_a_run_serves_its_alignment_without_the_cache(finished: Any, saved: Path) -> None:
    import shutil

    copy = saved / "alone"
    shutil.copytree(finished.folder, copy)
    alone = type(finished).load(copy)
    user = alone.dataset.users["id"][0].as_py()
    found = alone.recommend(user, k=5)
    assert found == finished.recommend(user, k=5)
    vectors = alone.vectors("joint_alignment", known="test")
    ranked = alone.ranking.to_pandas()
    first = ranked[(ranked.recommender == "joint_alignment") & (ranked["rank"] == 1)].iloc[0]
    score = vectors.users[first["user"]] @ vectors.items[first["item"]]
    assert score == pytest.approx(first["score"], abs=1e-4)


def test_the_run_keeps_features_and_what_is_missing(finished: Any) -> None:
    kept = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*")}
    assert {"features/text/features.safetensors", "features/text/missing.parquet"} <= kept
    assert "features/text/features.safetensors" in finished.manifest.files


def test_a_second_run_computes_nothing(finished: Any, saved: Path) -> None:
    plan = make_plan(load_pipeline(pipeline(saved)), runs_dir=saved / "runs")
    assert all(stage.cached for stage in plan.stages)


def test_changing_the_alignment_leaves_backbone_and_features_alone(saved: Path) -> None:
    before = stages(pipeline(saved), saved / "runs")
    changed = {"name": "joint_alignment", "config": {"epochs": 1, "hidden": 16}}
    after = stages(pipeline(saved, align=changed), saved / "runs")
    different = {name for name in before if before[name] != after[name]}
    assert different == {
        "align/joint_alignment/seed-7",
        "rank/joint_alignment/seed-7/full",
    }


def test_changing_the_encoder_leaves_the_backbone_alone(saved: Path) -> None:
    before = stages(pipeline(saved), saved / "runs")
    encoders = {"text": {"name": "tfidf_text", "config": {"dim": 4}}}
    after = stages(pipeline(saved, encoders=encoders), saved / "runs")
    different = {name for name in before if before[name] != after[name]}
    assert different == {
        "encode/text",
        "align/joint_alignment/seed-7",
        "rank/joint_alignment/seed-7/full",
    }


def test_what_is_not_refitted_beside_an_alignment_has_a_key_of_its_own(
    saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.txt").write_text("0 1 2 3 4\n1 2 3 5 6\n")
    (tmp_path / "test.txt").write_text("0 7\n1 8\n")
    given = {"strategy": "given"} | {
        part: str(tmp_path / f"{part}.txt") for part in ("train", "test")
    }
    others = {"at": [10], "compare_with": ["popularity"]}
    whole = pipeline(saved, split=given, evaluate=others)
    plain = {key: value for key, value in whole.items() if key not in ("align", "encoders")}
    aligned, alone = stages(whole, saved / "runs"), stages(plain, saved / "runs")
    for name in ("fit/popularity/seed-7", "fit/bpr_mf/seed-7"):
        assert aligned[name] != alone[name]
    # Where nothing is refitted anyway, an alignment changes no key of others.
    usual = pipeline(saved, evaluate=others)
    plain = {key: value for key, value in usual.items() if key not in ("align", "encoders")}
    aligned, alone = stages(usual, saved / "runs"), stages(plain, saved / "runs")
    assert all(aligned[name] == key for name, key in alone.items())


def test_changed_files_of_a_pattern_change_the_key(saved: Path, tmp_path: Path) -> None:
    source = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
    np.save(tmp_path / "v.npy", source)
    (tmp_path / "a.wav").write_bytes(b"x")
    encoder = {
        "name": "precomputed",
        "config": {"path": str(tmp_path / "v.npy")},
        "media": {"pattern": "{id}.wav", "folder": str(tmp_path)},
    }
    mapping = pipeline(saved, encoders={"audio": encoder})
    before = stages(mapping, saved / "runs")["encode/audio"]
    (tmp_path / "b.wav").write_bytes(b"y")
    assert stages(mapping, saved / "runs")["encode/audio"] != before


def test_three_modalities_run_together(saved: Path, tmp_path: Path) -> None:
    for name, width in (("vision", 6), ("audio", 5)):
        rows = np.random.default_rng(width).normal(size=(48, width)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", rows)
    encoders = {
        "text": {"name": "tfidf_text", "config": {"dim": 8}},
        **{
            name: {"name": "precomputed", "config": {"path": str(tmp_path / f"{name}.npy")}}
            for name in ("vision", "audio")
        },
    }
    align = {"name": "cross_attention", "config": {"epochs": 1, "hidden": 8, "align_weight": 0.1}}
    done = run(
        load_pipeline(pipeline(saved, encoders=encoders, align=align)), runs_dir=tmp_path / "runs"
    )
    assert done.label == "cross_attention"
    assert (done.folder / "features" / "audio").is_dir()


def test_controls_and_ablations_share_backbone_and_features(saved: Path) -> None:
    mapping = pipeline(
        saved,
        controls=["shuffled_features", "popularity_bias"],
        ablation=[{"name": "Without similarity", "align": {"config": {"similarity": False}}}],
    )
    done = run(load_pipeline(mapping), runs_dir=saved / "runs")
    labels = [
        "joint_alignment",
        "bpr_mf",
        "joint_alignment-shuffled_features",
        "joint_alignment-popularity_bias",
        "joint_alignment-without_similarity",
    ]
    assert list(done.metrics["recommenders"]) == labels
    names = [stage.name for stage in done.manifest.stages]
    assert sum(name.startswith("fit/") for name in names) == 1
    assert sum(name.startswith("encode/") for name in names) == 1
    history = done.dataset.items["id"].to_pylist()[:3]
    ranked = done.ranking.to_pandas()
    for label in labels:
        vectors = done.vectors(label, known="test")
        first = ranked[(ranked.recommender == label) & (ranked["rank"] == 1)].iloc[0]
        score = vectors.users[first["user"]] @ vectors.items[first["item"]]
        assert score == pytest.approx(first["score"], abs=1e-4), label
        assert len(done.recommend(history=history, k=3, label=label)) == 3


def test_robustness_ranks_with_modalities_missing(saved: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
    np.save(saved / "vision.npy", rows)
    encoders = {
        "text": {"name": "tfidf_text", "config": {"dim": 8}},
        "vision": {"name": "precomputed", "config": {"path": str(saved / "vision.npy")}},
    }
    mapping = pipeline(saved, encoders=encoders, robustness={"shares": [1.0, 0.5]}, seeds=[1, 2])
    done = run(load_pipeline(mapping), runs_dir=saved / "runs")
    table = done.metrics["robustness"]
    asked = [("", 0.0)]
    asked += [(names, share) for names in ("text", "vision", "text+vision") for share in (0.5, 1.0)]
    assert [("+".join(row["dropped"]), row["share"]) for row in table] == asked
    whole = done.metrics["recommenders"]["joint_alignment"]["full"]
    for name, value in table[0]["values"].items():
        assert value == pytest.approx(whole[name]["mean"])
    without_all = table[-1]["values"]["mrr"]
    assert without_all is not None
    assert without_all != table[0]["values"]["mrr"]
    page = write_report(done).read_text()
    assert "When modalities are missing" in page
    assert "text + vision" in page


def test_items_that_lose_a_modality_are_nested() -> None:
    present = np.random.default_rng(0).random(200) < 0.8
    features = {"text": Features(np.ones((200, 2), np.float32), present)}
    half = without(features, ["text"], 0.5, seed=3)["text"].present
    most = without(features, ["text"], 0.75, seed=3)["text"].present
    assert half.sum() == present.sum() - round(0.5 * present.sum())
    assert not (most & ~half).any()
    assert not without(features, ["text"], 1.0, seed=3)["text"].present.any()


def test_choices_are_all_combinations_or_each_alone() -> None:
    assert list(choices(("a", "b"), together=False)) == [("a",), ("b",)]
    assert list(choices(("a", "b"), together=True)) == [("a",), ("b",), ("a", "b")]


def test_an_ablation_changes_what_it_names_alone(saved: Path) -> None:
    loaded = load_pipeline(
        pipeline(saved, ablation=[{"name": "no map", "align": {"config": {"content_map": False}}}])
    )
    whole, variant = loaded.configs["joint_alignment"], loaded.configs["joint_alignment-no_map"]
    changed = variant.model_copy(update={"content_map": True})
    assert (changed, variant.content_map) == (whole, False)  # type: ignore[attr-defined]
    assert load_pipeline(loaded.resolved()).resolved() == loaded.resolved()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoders": {}}, "align needs encoders"),
        ({"backbone": None, "baseline": "popularity"}, "align needs a backbone"),
        (
            {"encoders": {"vision": {"name": "tfidf_text"}}},
            "encoders.vision.name: tfidf_text encodes text, not vision",
        ),
        ({"align": {"name": "joint_alignmnet"}}, "did you mean joint_alignment?"),
        (
            {"encoders": {"text": {"name": "tfidf_text", "config": {"dims": 3}}}},
            "did you mean dim?",
        ),
        ({"align": None, "controls": ["popularity_bias"]}, "there is none (align)"),
        (
            {"ablation": [{"name": "a", "align": "concat"}, {"name": "A", "align": "concat"}]},
            "two ablations are named a",
        ),
        ({"controls": ["shuffled"]}, "controls.0"),
        (
            {"ablation": [{"name": "x", "align": {"config": {"hidden": 8}}}]},
            "ablation.0: changes nothing: these are the settings of the pipeline's own align",
        ),
        (
            {"ablation": [{"name": "x", "align": {"config": {"similarty": False}}}]},
            "did you mean similarity?",
        ),
        ({"encoders": {"image": {"name": "timm_image"}}}, "encoders.image: unknown field"),
        (
            {"encoders": {"text": {"name": "tfidf_text", "media": {"pattern": "p/{id}.txt"}}}},
            "encoders.text: media are files of pictures or sounds",
        ),
        (
            {"encoders": {"vision": {"name": "timm_image", "media": {"pattern": "p/*.jpg"}}}},
            "encoders.vision.media.pattern: must have {id} where an item's id stands",
        ),
    ],
)
def test_a_wrong_pipeline_is_refused(saved: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_pipeline(pipeline(saved, **changed))
    assert message in str(caught.value)
