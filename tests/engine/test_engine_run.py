"""Running a pipeline: what is computed, what is skipped, what is written."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from dynmm_framework.artifacts.manifest import RunManifest, read_document
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.digest import code_digest
from dynmm_framework.engine.metrics import MetricsDocument
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ArtifactError, ConfigError, DataError, PluginError, StageError
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec, MetricSpec


def cached(loaded, runs_dir):
    return {stage.name: stage.cached for stage in make_plan(loaded, runs_dir=runs_dir).stages}


def test_a_run_writes_its_documents(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    MetricsDocument.model_validate(found.metrics)
    manifest = read_document(found.folder / "manifest.json", RunManifest)
    assert manifest.status == "finished"
    assert manifest.run == found.id
    assert manifest.split_hash
    assert set(manifest.candidate_hashes) == {"sampled:10"}
    assert manifest.components["popularity"].startswith("dynmm-framework==")
    assert found.per_user.num_rows == 2 * 2 * found.metrics["users"]["full"]
    assert set(found.metrics["recommenders"]) == {"popularity", "item_knn"}
    assert found.metrics["chance"]["sampled:10"]["hit@5"] == pytest.approx(5 / 11)


def test_the_mean_of_the_per_user_results_is_the_metric(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    rows = found.per_user.to_pylist()
    for label, protocols in found.metrics["recommenders"].items():
        for protocol, metrics in protocols.items():
            values = [
                row["ndcg@10"]
                for row in rows
                if row["recommender"] == label and row["protocol"] == protocol
            ]
            assert np.mean(values) == pytest.approx(metrics["ndcg@10"]["mean"])


def test_a_second_run_computes_nothing(load, tmp_path):
    first = run(load(), runs_dir=tmp_path)
    written = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    assert all(cached(load(), tmp_path).values())
    second = run(load(), runs_dir=tmp_path)
    assert second.folder == first.folder
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == written


def test_only_what_a_setting_reaches_is_computed_again(load, settings, tmp_path):
    run(load(), runs_dir=tmp_path)
    evaluate = {**settings["evaluate"], "compare_with": ["item_knn", "bpr_mf"], "at": [5, 10, 20]}
    state = cached(load(evaluate=evaluate), tmp_path)
    assert {name for name, done in state.items() if not done} == {
        "fit/bpr_mf/seed-7",
        "rank/bpr_mf/seed-7/full",
        "rank/bpr_mf/seed-7/sampled:10",
    }
    knn = [{"name": "item_knn", "config": {"neighbours": 3}}]
    state = cached(load(evaluate={**settings["evaluate"], "compare_with": knn}), tmp_path)
    assert not state["fit/item_knn/seed-7"]
    assert state["fit/popularity/seed-7"]
    state = cached(load(seed=8), tmp_path)
    assert state["data"]
    assert not state["split"]


def test_a_changed_data_file_changes_every_key(load, settings, interactions_file, tmp_path):
    copy = tmp_path / "copy.csv"
    shutil.copy(interactions_file, copy)
    data = {"name": "interaction_file", "config": {"path": str(copy)}}
    before = make_plan(load(data=data), runs_dir=tmp_path)
    with copy.open("a") as file:
        file.write('"u0","i39",1700000000,5\n')
    after = make_plan(load(data=data), runs_dir=tmp_path)
    assert all(a.key != b.key for a, b in zip(before.stages, after.stages, strict=True))


def test_the_same_pipeline_gives_the_same_metrics_anywhere(load, tiny_sasrec, tmp_path):
    blocks = {"backbone": tiny_sasrec, "baseline": None}
    first = run(load(**blocks), runs_dir=tmp_path / "a")
    second = run(load(**blocks), runs_dir=tmp_path / "b")
    assert first.id == second.id
    assert first.metrics["recommenders"] == second.metrics["recommenders"]
    assert first.metrics["comparisons"] == second.metrics["comparisons"]


def test_several_seeds_give_several_values_and_one_mean(load, tiny_sasrec, tmp_path):
    found = run(load(backbone=tiny_sasrec, baseline=None, seeds=[1, 2]), runs_dir=tmp_path)
    value = found.metrics["recommenders"]["sasrec"]["full"]["ndcg@10"]
    assert set(value["per_seed"]) == {"1", "2"}
    assert value["per_seed"]["1"] != value["per_seed"]["2"]
    assert value["mean"] == pytest.approx(np.mean(list(value["per_seed"].values())))
    assert set(found.training["sasrec"]) == {"1", "2"}
    assert found.training["sasrec"]["1"][0]["epoch"] == 1


def test_a_run_outlives_the_stage_cache(load, tiny_sasrec, tmp_path):
    found = run(load(backbone=tiny_sasrec, baseline=None), runs_dir=tmp_path)
    before = found.recommend("u3", k=5)
    shutil.rmtree(tmp_path / ".cache")
    assert Run.load(found.folder).recommend("u3", k=5) == before


def test_a_known_user_is_not_recommended_what_they_have(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    known = found.dataset.interactions.histories()[3]
    ids = np.array(found.dataset.items["id"].to_pylist())
    recommended = {row["item"] for row in found.recommend("u3", k=10)}
    assert recommended
    assert not recommended & set(ids[known])


def test_a_new_user_is_served_by_history(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    rows = found.recommend(history=["i1", "i2"], k=3, label="item_knn")
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert not {"i1", "i2"} & {row["item"] for row in rows}


def test_a_component_registered_by_a_script_recommends_too(settings, tmp_path):
    class Plugin:
        @hookimpl
        def dynmm_register_baselines(self):
            place = "dynmm_plugins.popularity"
            target, config = f"{place}.model:Popularity", f"{place}.config:PopularityConfig"
            return [ComponentSpec(name="of_a_script", target=target, config=config, summary="x")]

    catalogue = load_catalogue()
    catalogue.register(Plugin(), name="script")
    loaded = load_pipeline({**settings, "baseline": "of_a_script"}, catalogue=catalogue)
    for _ in ("computed", "cached"):
        found = run(loaded, runs_dir=tmp_path)
        assert len(found.recommend("u1", k=3)) == 3
    assert len(Run.load(found.folder, catalogue=catalogue).recommend("u1", k=3)) == 3
    with pytest.raises(PluginError, match="of_a_script was made by local==0"):
        Run.load(found.folder).recommend("u1", k=3)


def test_unknown_ids_are_named(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    with pytest.raises(DataError, match="no user 'u999'"):
        found.recommend("u999")
    with pytest.raises(DataError, match="no item 'i999'"):
        found.recommend(history=["i1", "i999"])
    with pytest.raises(ArtifactError, match="no recommender 'sasrc'"):
        found.recommend("u1", label="sasrc")
    with pytest.raises(DataError, match="either a user or a list"):
        found.recommend()
    with pytest.raises(DataError, match="either a user or a list"):
        found.recommend(history="i1")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no run in .*manifest\.json is missing"):
        Run.load(tmp_path)


def test_a_failed_run_says_so_and_goes_on_when_mended(load, tmp_path, monkeypatch):
    from dynmm_plugins.item_knn.model import ItemKNN

    def fail(self, data, ctx):
        raise StageError("the neighbours moved out")

    with monkeypatch.context() as patch:
        patch.setattr(ItemKNN, "fit", fail)
        with pytest.raises(StageError, match="moved out"):
            run(load(), runs_dir=tmp_path)
    folder = tmp_path / make_plan(load(), runs_dir=tmp_path).run_id
    manifest = read_document(folder / "manifest.json", RunManifest)
    assert manifest.status == "failed"
    assert "moved out" in manifest.error
    with pytest.raises(ArtifactError, match="not finished"):
        Run.load(folder)
    assert run(load(), runs_dir=tmp_path).manifest.status == "finished"


def test_a_full_disk_does_not_hide_why_a_run_failed(load, tmp_path, monkeypatch):
    from dynmm_framework.engine import run as engine_run
    from dynmm_plugins.item_knn.model import ItemKNN

    def fail(self, data, ctx):
        monkeypatch.setattr(engine_run, "write_document", full)
        raise StageError("the neighbours moved out")

    def full(path, document):
        raise ArtifactError("the disk is full")

    monkeypatch.setattr(ItemKNN, "fit", fail)
    with pytest.raises(StageError, match="moved out"):
        run(load(), runs_dir=tmp_path)


def test_a_damaged_run_is_put_together_again_from_the_cache(load, tmp_path, caplog):
    found = run(load(), runs_dir=tmp_path)
    file = found.folder / "data" / "items.parquet"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[::-1])
    assert Run.find(found.folder) is None
    again = run(load(), runs_dir=tmp_path)
    assert "items.parquet has the right size and the wrong content" in caplog.text
    assert "put together again" in caplog.text
    assert all(stage.cached for stage in again.manifest.stages)
    assert file.read_bytes() == content
    assert again.metrics == found.metrics


def test_metrics_of_a_newer_version_are_refused(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    document = json.loads((found.folder / "metrics.json").read_text())
    (found.folder / "metrics.json").write_text(json.dumps({**document, "schema_version": 2}))
    with pytest.raises(ArtifactError, match=r"metrics\.json: schema_version"):
        Run.load(found.folder)


def test_another_version_of_a_metric_is_ranked_again(load, settings, tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    module = folder / "house_metric.py"
    source = "def first(outcome, k):\n    return (outcome.ranks < 2).astype(float)\n"
    module.write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    catalogue = load_catalogue()
    spec = MetricSpec(name="first", target="house_metric:first", higher_is_better=True, summary="x")

    class Plugin:
        @hookimpl
        def dynmm_register_metrics(self):
            return [spec]

    catalogue.register(Plugin(), name="house")
    evaluate = {"metrics": ["first"], "at": [5]}
    loaded = load_pipeline({**settings, "evaluate": evaluate}, catalogue=catalogue)
    before = make_plan(loaded, runs_dir=tmp_path)
    module.write_text(source.replace("< 2", "< 3"))
    code_digest.cache_clear()
    after = make_plan(loaded, runs_dir=tmp_path)
    changed = {a.kind for a, b in zip(before.stages, after.stages, strict=True) if a.key != b.key}
    assert changed == {"rank"}


@pytest.mark.parametrize("monitor", ["novelty@5", "diversity@5", "popularity_bias@5"])
def test_training_may_follow_a_metric_of_what_is_recommended(
    load, settings, tiny_sasrec, tmp_path, monitor
):
    items = tmp_path / "items.csv"
    items.write_text("id,kind\n" + "".join(f"i{i},{'abc'[i % 3]}\n" for i in range(60)))
    data = {**settings["data"]["config"], "items": {"path": str(items), "categories": "kind"}}
    loaded = load(
        data={"name": "interaction_file", "config": data},
        backbone=tiny_sasrec,
        baseline=None,
        evaluate={"at": [5], "metrics": ["ndcg"], "monitor": monitor},
    )
    curve = run(loaded, runs_dir=tmp_path / "runs").training["sasrec"]["7"]
    values = [record[monitor] for record in curve if monitor in record]
    assert values
    # What depends on the training counts is never what it would be with no count at all.
    assert all(value not in (0, pytest.approx(np.log2(60))) for value in values)


def test_a_report_without_any_defined_metric_says_so(load, tmp_path):
    from dynmm_framework.reports.page import render

    found = run(load(evaluate={"at": [5], "metrics": ["diversity"]}), runs_dir=tmp_path)
    assert "No metric that was asked for is defined here" in render(found)


def test_what_a_split_and_a_protocol_leave_out_is_said(load, settings, tmp_path):
    console = Console(file=io.StringIO(), width=200)
    evaluate = {**settings["evaluate"], "metrics": ["ndcg", "diversity"]}
    run(load(evaluate=evaluate), runs_dir=tmp_path, console=console)
    said = console.file.getvalue()
    assert "data: deduplicate last: 60 users" in said
    assert "split: test: 60 users, 60 targets" in said
    assert said.count("the items have no categories: diversity@5") == 2  # once a protocol


def test_a_corrupt_stage_is_computed_again(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    (state,) = (tmp_path / ".cache").glob("fit__item_knn*/*/state.safetensors")
    state.write_bytes(state.read_bytes()[:-7] + b"garbage")
    shutil.rmtree(found.folder)
    again = run(load(), runs_dir=tmp_path)
    computed = [stage.name for stage in again.manifest.stages if not stage.cached]
    assert computed == ["fit/item_knn/seed-7"]
    assert again.metrics["recommenders"] == found.metrics["recommenders"]


def test_a_split_without_test_users_is_one_clear_error(load, tmp_path):
    split = {"strategy": "leave_one_out", "min_interactions": 1000}
    with pytest.raises(DataError, match="no test user"):
        run(load(split=split), runs_dir=tmp_path)


def test_a_gpu_that_is_not_there_is_refused(load, tmp_path):
    torch = pytest.importorskip("torch")
    device = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigError, match="torch sees"):
        run(load(compute={"device": device}), runs_dir=tmp_path)


def test_limits_of_users_hold(load, settings, tmp_path):
    evaluate = {**settings["evaluate"], "max_users": 7}
    found = run(load(evaluate=evaluate), runs_dir=tmp_path)
    assert found.metrics["users"] == {"full": 7, "sampled:10": 7}


def test_comparisons_are_paired_and_corrected(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    row = next(r for r in found.metrics["comparisons"] if r["metric"] == "ndcg@10")
    full = {
        label: protocols["full"]["ndcg@10"]["mean"]
        for label, protocols in found.metrics["recommenders"].items()
    }
    assert row["difference"] == pytest.approx(full["popularity"] - full["item_knn"])
    assert row["p_adjusted"] >= row["p_t"]
    assert row["n"] == found.metrics["users"]["full"]


def test_metrics_json_is_strict_json(load, tmp_path):
    found = run(load(), runs_dir=tmp_path)
    text = (found.folder / "metrics.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert pq.read_schema(found.folder / "ranking.parquet").names[:3] == [
        "recommender",
        "seed",
        "protocol",
    ]


def test_an_exception_of_a_component_names_the_component(load, tmp_path, monkeypatch):
    from dynmm_plugins.item_knn.model import ItemKNN

    monkeypatch.setattr(ItemKNN, "fit", lambda self, data, ctx: 1 / 0)
    with pytest.raises(PluginError, match=r"item_knn failed in stage fit/item_knn.*Zero"):
        run(load(), runs_dir=tmp_path)


def test_a_recommender_outlives_the_plugins_it_was_compared_with(load, tmp_path):
    from dynmm_framework.catalogue import load_catalogue

    folder = run(load(), runs_dir=tmp_path).folder
    fewer = load_catalogue(only=["popularity"])
    assert Run.load(folder, catalogue=fewer).recommend("u1", k=1)
    with pytest.raises(PluginError, match=r"item_knn was made by dynmm-framework==.*install it"):
        Run.load(folder, catalogue=fewer).recommend("u1", k=1, label="item_knn")


def test_every_stage_names_the_versions_it_was_computed_with(load, tmp_path):
    import numpy

    stages = run(load(), runs_dir=tmp_path).manifest.stages
    assert {stage.libraries["numpy"] for stage in stages} == {numpy.__version__}
