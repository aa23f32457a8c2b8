from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_components import CountConfig, DeepConfig, Rival

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.errors import ConfigError

Write = Callable[..., Path]

GOOD = """
version: 1
data: {name: toy, filters: {k_core: 5}}
split: {strategy: temporal_user, ratios: [0.8, 0.1, 0.1]}
backbone:
  name: Deep-Net
  config: {hidden_size: 128, window: 2h}
evaluate:
  metrics: [ndcg, hit]
  protocols: [full, sampled:100]
  compare_with: [counts, {name: deep_net, config: {layers: 1}}, fakes/counts]
"""


def problems(source: Any, catalogue: Catalogue, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_pipeline(source, overrides=overrides, catalogue=catalogue)
    return str(caught.value).splitlines()


def test_a_good_file_is_loaded(write: Write, catalogue: Catalogue) -> None:
    loaded = load_pipeline(write(GOOD, "runs/my.pipeline.yaml"), catalogue=catalogue)
    assert loaded.source == "runs/my.pipeline.yaml"
    assert loaded.name == "my"
    assert loaded.catalogue is catalogue
    assert list(loaded.components) == ["data", "deep_net", "counts", "deep_net#2", "counts#2"]
    assert loaded.components["deep_net"].identity == "fakes==1.2/deep_net"
    assert loaded.configs["data"] == CountConfig()
    assert loaded.configs["deep_net"] == DeepConfig(hidden_size=128, window=7200)
    assert loaded.configs["deep_net#2"] == DeepConfig(layers=1)
    assert [metric.name for metric in loaded.metrics] == ["ndcg", "hit"]
    assert [p.name for p in loaded.pipeline.evaluate.protocols] == ["full", "sampled:100"]
    assert load_pipeline("runs/my.pipeline.yaml", catalogue=catalogue).source == loaded.source


def test_a_file_with_five_mistakes_gives_five_lines(write: Write, catalogue: Catalogue) -> None:
    file = write("""
        version: 1
        sed: 7
        data: {name: toy}
        split: {strategy: temporal}
        backbone:
          name: deep_net
          config:
            hiden_size: 128
            layers: 0
        evaluate:
          metrics: [ndgc]
        """)
    assert problems(file, catalogue) == [
        "pipeline.yaml:2: sed: unknown field; did you mean seed?",
        "pipeline.yaml:4: split.strategy: unknown strategy 'temporal'; did you mean temporal_user?",
        "pipeline.yaml:8: backbone.config.hiden_size: unknown field; did you mean hidden_size?",
        "pipeline.yaml:9: backbone.config.layers: must be at least 1, not 0",
        "pipeline.yaml:11: evaluate.metrics.0: unknown metric 'ndgc'; did you mean ndcg? "
        "(installed: auc, hit, mrr, ndcg, recall)",
    ]


def test_mistakes_of_every_source_come_in_one_list(write: Write, catalogue: Catalogue) -> None:
    write("split: {strategy: mmrec, x: 1}\nseed: -1\nseed: 2\n", "base.yaml")
    file = write("extends: base.yaml\nversion: 2\ndata: no\nbackbone: {config: {}}\ndata: toy\n")
    assert problems(file, catalogue, "compute.threads=0", "seed", "backbone.name=deep") == [
        "pipeline.yaml:2: version: must be 1, not 2",
        "pipeline.yaml:3: data.name: unknown dataset 'no' (installed: file, toy)",
        "pipeline.yaml:5: data: duplicate key; the first is on line 3",
        "base.yaml:1: split.x: unknown field; known: strategy",
        "base.yaml:2: seed: must be at least 0, not -1",
        "base.yaml:3: seed: duplicate key; the first is on line 2",
        "override backbone.name=deep: backbone.name: unknown backbone 'deep'; did you mean "
        "deep_net? (installed: crashing, deep_net)",
        "override compute.threads=0: compute.threads: must be at least 1, not 0",
        "override seed: write it as path=value, such as backbone.config.hidden_size=128",
    ]


def edited(**blocks: Any) -> dict[str, Any]:
    base = {
        "version": 1,
        "data": "toy",
        "split": {"strategy": "mmrec"},
        "backbone": {"name": "deep_net"},
    }
    return {key: value for key, value in {**base, **blocks}.items() if value != "gone"}


@pytest.mark.parametrize(
    ("blocks", "line"),
    [
        ({"version": "gone"}, "version: missing"),
        ({"version": "1"}, "version: must be 1, not '1'"),
        ({"data": "gone"}, "data: missing"),
        ({"data": None}, "data: must be a mapping of settings, not null"),
        ({"data": []}, "data: must be a mapping of settings, not a list"),
        ({"data": ""}, "data: must not be empty"),
        ({"data": {"config": {}}}, "data.name: missing"),
        ({"data": {"name": 3}}, "data.name: must be text, not 3"),
        ({"data": {"name": "toy", "config": None}}, "data.config: must be a mapping of settings"),
        ({"data": {"name": "file"}}, "data.config.path: missing"),
        ({"data": {"name": "toy", "filter": {}}}, "data.filter: unknown field; did you mean filt"),
        ({"data": "deep_net"}, "data: unknown dataset 'deep_net'; it is a backbone (installed:"),
        ({"split": "mmrec"}, "split: must be a mapping of settings, not 'mmrec'"),
        ({"splt": {}, "split": "gone"}, "splt: unknown field; did you mean split?"),
        ({"backbone": "gone"}, "name exactly one recommender: a backbone or a baseline"),
        ({"baseline": "counts"}, "name exactly one recommender: a backbone or a baseline"),
        ({"backbone": "gone", "bakbone": "deep_net"}, "bakbone: unknown field; did you mean back"),
        ({"backbone": "acme/deep_net"}, "backbone: unknown backbone 'acme/deep_net'; did you mea"),
        (
            {"backbone": {"name": "deep_net", "layers": 3}},
            "backbone.layers: unknown field; did you mean backbone.config.layers?",
        ),
        (
            {"backbone": {"name": "deep_net", "hiden_size": 3}},
            "backbone.hiden_size: unknown field; did you mean backbone.config.hidden_size?",
        ),
        (
            {"backbone": {"name": "deep_net", "confg": {}}},
            "backbone.confg: unknown field; did you mean config?",
        ),
        (
            {"backbone": {"name": "deep_net", "zzzz": 3}},
            "backbone.zzzz: unknown field; known: name, config",
        ),
        (
            {"backbone": {"name": "deep_net", "config": {"optimiser": {"betas": [1]}}}},
            "backbone.config.optimiser.betas: too short: entry 2 is missing",
        ),
        (
            {"backbone": {"name": "deep_net", "config": {"dropout": True}}},
            "backbone.config.dropout: must be a number, not true",
        ),
        (
            {"backbone": {"name": "crashing"}},
            "",
        ),
        (
            {"backbone": {"name": "crashing", "config": {"size": 3}}},
            "backbone.config: CrashingConfig fails on it: RuntimeError: bug at 3 (",
        ),
        (
            {"backbone": "gone", "baseline": {"name": "unloadable"}},
            "baseline.name: baseline unloadable of fakes cannot be loaded: AttributeError: module",
        ),
        ({"evaluate": {"at": [0]}}, "evaluate.at.0: must be at least 1, not 0"),
        ({"evaluate": {"at": [2000]}}, "evaluate.at.0: must be at most 1000, not 2000"),
        ({"evaluate": {"metrics": []}}, "evaluate.metrics: must have at least 1 entry, not 0"),
        ({"evaluate": {"metrics": [3]}}, "evaluate.metrics.0: must be text, not 3"),
        ({"evaluate": {"metrics": "ndcg"}}, "evaluate.metrics: must be a list, not 'ndcg'"),
        (
            {"evaluate": {"metrics": ["ndcg@10"]}},
            "evaluate.metrics.0: cut-offs are listed in evaluate.at; write ndcg in place of ndcg@",
        ),
        ({"evaluate": {"monitor": "ndgc@10"}}, "evaluate.monitor: unknown metric 'ndgc'; did you"),
        (
            {"evaluate": {"monitor": "ndcg"}},
            "evaluate.monitor: ndcg needs a cut-off, as in ndcg@10",
        ),
        (
            {"evaluate": {"monitor": "auc@10"}},
            "evaluate.monitor: auc takes no cut-off; write auc",
        ),
        (
            {"evaluate": {"monitor": "ndcg@x"}},
            "evaluate.monitor: the cut-off of 'ndcg@x' must be a positive whole number, as in nd",
        ),
        (
            {"evaluate": {"monitor": "ndcg@5000"}},
            "evaluate.monitor: the cut-off must be at most 1000, not 5000",
        ),
        (
            {"evaluate": {"compare_with": ["toy"]}},
            "evaluate.compare_with.0: unknown baseline or backbone 'toy'; it is a dataset (inst",
        ),
        (
            {"evaluate": {"compare_with": [{"name": "counts", "config": {"smoothing": -1}}]}},
            "evaluate.compare_with.0.config.smoothing: must be at least 0, not -1",
        ),
        ({"evaluate": {"compare_with": "counts"}}, "evaluate.compare_with: must be a list, not"),
        ({"compute": {"device": "gpu"}}, "compute.device: must be auto, cpu, cuda or cuda:N, not"),
        ({"compute": {"precision": "fp16"}}, "compute.precision: must be one of fp32, bf16, not"),
        ({"seeds": []}, "seeds: must have at least 1 entry, not 0"),
        (
            {"seeds": [1, 2, 1]},
            "seeds: lists 1 more than once; the same seed gives the same numbers again, so list"
            " each once",
        ),
        ({"seed": 2**32}, "seed: must be less than 4294967296, not 4294967296"),
        ({"tracking": {"options": {}}}, "tracking.name: missing"),
        ({"evaluate": None}, "evaluate: must be a mapping of settings, not null"),
    ],
)
def test_a_mistake_gives_one_line(blocks: dict[str, Any], line: str, catalogue: Catalogue) -> None:
    if not line:
        load_pipeline(edited(**blocks), catalogue=catalogue)
        return
    (found,) = problems(edited(**blocks), catalogue)
    assert found.startswith(line)


def test_one_error_is_told_on_the_line_of_its_block(write: Write, catalogue: Catalogue) -> None:
    file = write("""
        # A comment.
        version: 1
        data:
          name: file
          config:
            columns: {}
        split: {}
        backbone: deep_net
        """)
    assert [line.split(":")[1] for line in problems(file, catalogue)] == ["5", "7"]


def test_a_file_that_cannot_be_read(write: Write, catalogue: Catalogue) -> None:
    write(GOOD)
    assert problems("pipline.yaml", catalogue) == [
        "pipline.yaml: no such file; did you mean pipeline.yaml?"
    ]
    assert problems(write("a: [", "x.yaml"), catalogue, "seed")[0].startswith("x.yaml:1: not valid")
    assert problems(write("", "empty.yaml"), catalogue) == ["empty.yaml: the file is empty"]
    assert problems(write("- 1", "list.yaml"), catalogue)[0].startswith("list.yaml:1: expected")


# Extending.


def test_a_file_extends_another_relative_to_itself(write: Write, catalogue: Catalogue) -> None:
    write(GOOD, "common/base.yaml")
    write("extends: base.yaml\nseed: 3\nevaluate: {at: [1]}", "common/middle.yaml")
    file = write("extends: ../common/middle.yaml\nbackbone: {config: {layers: 1}}", "mine/a.yaml")
    loaded = load_pipeline(file, catalogue=catalogue)
    assert loaded.pipeline.seed == 3
    assert loaded.pipeline.evaluate.at == [1]
    assert loaded.configs["deep_net"] == DeepConfig(hidden_size=128, window=7200, layers=1)
    assert "extends" not in loaded.resolved()


def test_mistakes_in_the_extended_file_name_that_file(write: Write, catalogue: Catalogue) -> None:
    write(GOOD.replace("hidden_size", "hiden"), "common/base.yaml")
    file = write("extends: common/base.yaml\n")
    assert problems(file, catalogue) == [
        "common/base.yaml:6: backbone.config.hiden: unknown field; did you mean hidden_size?"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "extends: gone.yaml",
            "pipeline.yaml:2: extends: gone.yaml: no such file; did you mean on",
        ),
        ("extends: sub", "pipeline.yaml:2: extends: sub: this is a folder; name a YAML file in it"),
        (
            "extends: [a, b]",
            "pipeline.yaml:2: extends: must be the path of one YAML file, not a li",
        ),
        ("extends: ''", "pipeline.yaml:2: extends: must be the path of one YAML file, not ''"),
        ("extends: pipeline.yaml", "pipeline.yaml:2: extends: pipeline.yaml extends itself"),
        ("extends: ./sub/../pipeline.yaml", "pipeline.yaml:2: extends: pipeline.yaml extends itse"),
        ("extends: loop.yaml", "loop.yaml:1: extends: pipeline.yaml extends itself through the fi"),
        ("extends: broken.yaml", "broken.yaml:2: not valid YAML: a tab; indent with spaces"),
    ],
)
def test_a_bad_extends_is_the_only_line(
    write: Write, catalogue: Catalogue, text: str, line: str
) -> None:
    write("extends: pipeline.yaml", "loop.yaml")
    write("a:\n\t- b", "broken.yaml")
    write("a: 1", "one.yaml")
    write("a: 1", "sub/x.yaml")
    # `version: 9` is wrong too, but without its base the file cannot be judged.
    (found,) = problems(write(f"version: 9\n{text}"), catalogue)
    assert found.startswith(line)


def test_a_chain_may_be_five_files_long(write: Write, catalogue: Catalogue) -> None:
    write(GOOD, "0.yaml")
    for number in range(1, 6):
        write(f"extends: {number - 1}.yaml\nseed: {number}", f"{number}.yaml")
    assert load_pipeline("4.yaml", catalogue=catalogue).pipeline.seed == 4
    assert problems("5.yaml", catalogue) == [
        "1.yaml:1: extends: more than 5 files extend one another"
    ]


def test_a_new_name_in_an_extending_file_drops_the_settings(
    write: Write, catalogue: Catalogue
) -> None:
    write(GOOD, "base.yaml")
    file = write("extends: base.yaml\nbackbone: null\nbaseline: counts\nsplit: {strategy: mmrec}")
    loaded = load_pipeline(file, catalogue=catalogue)
    assert list(loaded.components)[:2] == ["data", "counts"]
    file = write("extends: base.yaml\nbackbone: {name: crashing}")
    assert load_pipeline(file, catalogue=catalogue).resolved()["backbone"]["config"] == {"size": 1}


# Overrides.


def test_overrides_change_a_pipeline(write: Write, catalogue: Catalogue) -> None:
    overrides = [
        "backbone.config.hidden_size=32",
        "backbone.config.optimiser.rate=1e-2",
        "evaluate.compare_with.0.config.smoothing=2",
        "evaluate.compare_with.1.name=counts",
        "seeds=[1, 2]",
        "data.filters.k_core=0",
    ]
    loaded = load_pipeline(write(GOOD), overrides=overrides, catalogue=catalogue)
    config = loaded.configs["deep_net"]
    assert isinstance(config, DeepConfig)
    assert (config.hidden_size, config.optimiser.rate, config.window) == (32, 0.01, 7200)
    assert loaded.configs["counts"] == CountConfig(smoothing=2)
    assert loaded.configs["counts#2"] == CountConfig()
    assert loaded.pipeline.model_seeds == (1, 2)
    assert loaded.pipeline.data.filters.k_core == 0


def test_a_mistake_in_an_override_names_it(write: Write, catalogue: Catalogue) -> None:
    file = write(GOOD)
    assert problems(file, catalogue, "backbone.config.hiden=3", "backbne.name=x") == [
        "override backbne.name=x: backbne: unknown field; did you mean backbone?",
        "override backbone.config.hiden=3: backbone.config.hiden: unknown field; did you mean "
        "hidden_size?",
    ]


# Mappings.


def test_a_mapping_is_a_pipeline_too(catalogue: Catalogue) -> None:
    loaded = load_pipeline(
        edited(
            data={"name": "file", "config": {"path": Path("a/b.csv")}},
            split={"strategy": "random", "ratios": (0.8, 0.1, 0.1)},
            backbone={"name": "deep_net", "config": DeepConfig(layers=3)},
        ),
        catalogue=catalogue,
    )
    assert (loaded.source, loaded.name) == ("", "pipeline")
    assert loaded.configs["deep_net"] == DeepConfig(layers=3)
    assert loaded.resolved()["data"]["config"]["path"] == "a/b.csv"


def test_a_mapping_is_not_changed(catalogue: Catalogue) -> None:
    source = edited(backbone="deep_net")
    load_pipeline(source, overrides=["backbone.config.layers=3"], catalogue=catalogue)
    assert source == edited(backbone="deep_net")


def test_a_mapping_of_other_things_is_refused_by_path(catalogue: Catalogue) -> None:
    source = edited(seed=object(), compute={3: 4}, evaluate={"at": {1, 2}})
    assert problems(source, catalogue) == [
        "compute: the key 3 is not text",
        "evaluate.at: must be plain data (text, number, list or mapping), not a set",
        "evaluate.at: must be a list, not null",
        "seed: must be plain data (text, number, list or mapping), not a object",
        "seed: must be a whole number, not null",
    ]


# Resolution.


def resolved(source: Any, catalogue: Catalogue, *overrides: str) -> dict[str, Any]:
    return load_pipeline(source, overrides=overrides, catalogue=catalogue).resolved()


def test_resolution_fills_in_every_default(catalogue: Catalogue) -> None:
    data = resolved(edited(), catalogue)
    assert data["backbone"] == {
        "name": "deep_net",
        "config": {
            "hidden_size": 64,
            "layers": 2,
            "dropout": 0.2,
            "norm": "pre",
            "scale": False,
            "window": 3600,
            "optimiser": {"rate": 0.001, "betas": [0.9, 0.98]},
        },
    }
    assert data["data"]["config"] == {"smoothing": 0.0}
    assert data["evaluate"]["metrics"] == ["hit", "ndcg", "recall", "mrr"]
    assert data["compute"] == {
        "device": "auto",
        "precision": "fp32",
        "threads": None,
        "engine": "local",
        "workers": 1,
        "gpus_per_worker": "auto",
        "address": None,
    }


def test_equal_pipelines_resolve_equally_however_they_are_spelt(
    write: Write, catalogue: Catalogue
) -> None:
    file = write(GOOD)
    other = edited(
        seed=7,
        data={"filters": {"k_core": 5.0, "deduplicate": "last"}, "name": "Toy", "config": {}},
        split={"ratios": (0.8, 0.1, 0.1), "strategy": "temporal_user"},
        backbone={"name": "fakes/DEEP NET", "config": {"window": 7200, "hidden_size": 128}},
        evaluate={
            "compare_with": ["COUNTS", {"config": {"layers": 1}, "name": "deep-net"}, "counts"],
            "metrics": ["NDCG", "hit", "ndcg"],
            "protocols": ["full", {"sampled": 100}, {"full": True}],
            "at": [5, 10, 20, 5],
            "monitor": "fakes/NDCG@10",
        },
    )
    assert resolved(other, catalogue) == resolved(file, catalogue)
    assert resolved(file, catalogue, "seed=8") != resolved(file, catalogue)


def test_resolved_data_loads_again_to_the_same(write: Write, catalogue: Catalogue) -> None:
    once = resolved(write(GOOD), catalogue)
    assert resolved(once, catalogue) == once


def test_what_two_distributions_provide_is_qualified(write: Write, catalogue: Catalogue) -> None:
    catalogue.register(Rival(), name="rival", distribution="Acme-Rec", version="3")
    ndcg = "metric 'ndcg' is provided by Acme-Rec==3 and by fakes==1.2 (write Acme-Rec/ndcg or "
    assert problems(write(GOOD), catalogue) == [
        f"pipeline.yaml:7: evaluate.monitor: {ndcg}fakes/ndcg)",
        f"pipeline.yaml:8: evaluate.metrics.0: {ndcg}fakes/ndcg)",
        "pipeline.yaml:10: evaluate.compare_with.0: baseline or backbone 'counts' is provided by "
        "Acme-Rec==3 and by fakes==1.2 (write Acme-Rec/counts or fakes/counts)",
    ]
    evaluate = {
        "metrics": ["Acme-Rec/NDCG", "hit"],
        "monitor": "fakes/ndcg@5",
        "compare_with": ["acme_rec/Counts", "fakes/counts", "fakes/deep_net"],
    }
    data = resolved(edited(evaluate=evaluate), catalogue)
    assert data["evaluate"]["metrics"] == ["acme_rec/ndcg", "hit"]
    assert data["evaluate"]["monitor"] == "fakes/ndcg@5"
    names = [entry["name"] for entry in data["evaluate"]["compare_with"]]
    assert names == ["acme_rec/counts", "fakes/counts", "deep_net"]
    assert resolved(data, catalogue) == data
    loaded: LoadedPipeline = load_pipeline(data, catalogue=catalogue)
    assert loaded.metrics[0].target == "c:d"
    assert loaded.components["counts"].provider.distribution == "Acme-Rec"
    assert loaded.components["counts#2"].provider.distribution == "fakes"


def test_loading_imports_nothing_heavy(write: Write) -> None:
    write("version: 1\ndata: x\nsplit: {strategy: mmrec}\nbackbone: y\n")
    code = """
import sys
from dynmm_framework import load_pipeline
from dynmm_framework.errors import ConfigError
try:
    load_pipeline("pipeline.yaml")
except ConfigError as error:
    assert len(error.problems) == 2, error
heavy = {"torch", "numpy", "scipy", "pyarrow", "pandas", "polars", "matplotlib", "rich", "click"}
print(sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
