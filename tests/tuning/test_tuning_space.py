"""The search block: what it may hold, and every mistake found before anything runs."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dynmm_framework.config.load import load_pipeline
from dynmm_framework.config.schema import json_schema
from dynmm_framework.config.search import Dimension, SearchBlock
from dynmm_framework.config.space import holds
from dynmm_framework.errors import ConfigError
from dynmm_framework.tuning.space import combinations, contains, decode, distribution, encode

HEAD = """
version: 1
data: {name: movielens_100k}
split: {strategy: leave_one_out}
backbone: {name: sasrec, config: {epochs: 3}}
search:
"""


@pytest.fixture
def problems(tmp_path, monkeypatch, catalogue):
    """Returns what is wrong with a search, a line each; the search begins on line 6."""
    monkeypatch.chdir(tmp_path)

    def problems(text: str, head: str = HEAD) -> list[str]:
        body = "".join(f"  {line}\n" for line in dedent(text).strip().splitlines())
        Path("p.yaml").write_text(head.lstrip() + body)
        try:
            load_pipeline("p.yaml", catalogue=catalogue)
        except ConfigError as error:
            return [str(problem) for problem in error.problems]
        return []

    return problems


def test_all_mistakes_of_a_space_are_reported_at_once_with_their_lines(problems):
    found = problems("""
        trials: 0
        metric: bleu@10
        space:
          backbone.config.hiden_size: [32, 64]
          backbone.config.dropout: {float: {low: 0, high: 1}}
          backbone.config.layers: {float: {low: 1, high: 4}}
          backbone.config.heads: [1, 0]
          backbone.config.batch_size: {power_of_two: {low: 8, high: 64}}
          align.config.dim: [64]
          split.strategy: [leave_one_out, random]
          evaluate.monitor: [hit@10]
          bakbone.name: [sasrec]
    """)
    where = [line.partition(": ")[0] for line in found]
    assert where == [f"p.yaml:{n}" for n in (6, 7, 9, 10, 11, 12, 14, 15, 16, 17)]
    text = "\n".join(found)
    assert "search.trials: must be at least 1, not 0" in text
    assert "search.metric: no stage reports bleu@10: unknown metric 'bleu'" in text
    assert "hiden_size: names no field: unknown field; did you mean hidden_size?" in text
    assert "dropout.float.high: must be less than 1, not 1.0" in text
    assert "layers.float: must be a whole number, not 2.14" in text
    assert "heads.choice.1: must be at least 1, not 0" in text or "heads.1: must be at" in text
    assert "align.config.dim: names no field: there is no align in this pipeline" in text
    assert "split.strategy: trials would not be measured alike" in text
    assert "bakbone.name: names no field: unknown block bakbone; did you mean backbone?" in text


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("space: {}", "space: names no setting; write default, or paths and their values"),
        ("space: {backbone.config.layers: {int: {low: 4, high: 2}}}", "low (4) must be less than"),
        ("space: {backbone.config.layers: {choice: [1], log: {low: 1, high: 2}}}", "not choice"),
        ("space: {backbone.config.layers: {}}", "must be one of choice, int, float, log, power"),
        ("space: {backbone.config.layers: []}", "must have at least 1 entry, not 0"),
        ("space: {backbone.config.layers: {power_of_two: {low: 3, high: 8}}}", "a power of two"),
        ("space: {backbone.config.dropout: {log: {low: 0, high: 0.5}}}", "must be greater than 0"),
        ("space: {backbone.config.layers: {integer: {low: 1, high: 2}}}", "did you mean int?"),
        ("sampler: bayes\nspace: default", "must be one of random, grid, tpe"),
        ("scheduler: bohb\nspace: default", "must be one of none, asha, median, pbt"),
        ("time_budget: soon\nspace: default", "must be seconds or a time such as 90s, 10min"),
        ("resources: {gpus: 1.5}\nspace: default", "must be a part of one GPU or whole GPUs"),
        ("metric: ndcg\nspace: default", "ndcg needs a cut-off, as in ndcg@10"),
        ("metric: latency\nspace: default", "write objectives: [ndcg@10, latency]"),
        ("objectives: [latency, ndcg@10]\nspace: default", "comes after the metric that decides"),
        ("mode: min\nspace: default", "ndcg@10 is better when it is higher; write max"),
        (
            "objectives: [ndcg@10, latency]\nscheduler: asha\nspace: default",
            "compares trials by one number, and there are 2 objectives",
        ),
        ("metric: hit@5\nobjectives: [ndcg@10]\nspace: default", "both metric and objectives"),
        ("engine: local\nconcurrency: 2\nspace: default", "concurrency: 2 needs engine: ray"),
        ("space: {backbone.name: [sasrec, nothing]}", "unknown backbone 'nothing'"),
        ("space: {encoders: default}", "default is for a block that names a component"),
        ("space: {align: default}", "names no field: there is no align"),
        ("space: {backbone: [sasrec, sgl], backbone.config.epochs: default}", "default is for"),
    ],
)
def test_what_a_search_may_not_be(problems, search, message):
    found = problems(search)
    assert len(found) == 1, found
    assert message in found[0]
    assert found[0].startswith("p.yaml:")


def test_a_condition_names_a_setting_of_the_space_and_a_value_that_it_may_have(problems):
    found = problems("""
        space:
          backbone.name: [sasrec, lightgcn]
          backbone.config.layers: {choice: [1, 2], when: {backbone.nme: sasrec}}
          backbone.config.epochs: {choice: [1, 2], when: {backbone.name: bpr_mf}}
          backbone.config.heads: {choice: [1, 2]}
          backbone.config.dim: {choice: [8], when: {backbone.config.average: 0.5}}
          backbone.config.average: {float: {low: 0, high: 0.9}, when: {backbone.config.dim: 8}}
    """)
    text = "\n".join(found)
    assert "when.backbone.nme: when: backbone.nme is not varied by this search; did you" in text
    assert "when: backbone.name is never 'bpr_mf', but 'sasrec', 'lightgcn'" in text
    assert "when: backbone.config.average has no values to count; make it a choice" in text
    assert "conditions depend on one another in a circle" in text
    assert "heads: names no field where backbone.name is 'lightgcn': unknown field" in text


def test_a_space_over_names_is_checked_against_each(problems):
    assert (
        problems("""
        space:
          backbone.name: [sasrec, lightgcn]
          backbone.config.learning_rate: {log: {low: 1.0e-4, high: 1.0e-2}}
          backbone.config.heads: {choice: [1, 2], when: {backbone.name: sasrec}}
          backbone.config.dim: {choice: [32, 64], when: {backbone.name: [lightgcn]}}
    """)
        == []
    )


def test_settings_that_do_not_go_together_are_refused_only_if_nothing_else_varies(problems):
    alone = problems("space: {backbone.config.heads: [1, 3]}")
    assert "heads (3) must divide hidden_size (64) without rest" in alone[0]
    both = {"backbone.config.heads": "[1, 3]", "backbone.config.hidden_size": "[48, 64]"}
    assert problems(f"space: {{{', '.join(f'{k}: {v}' for k, v in both.items())}}}") == []


def test_a_field_s_alternatives_are_values_too(problems):
    assert problems("space: {backbone.config.n_negatives: [null, 4], seed: [1]}") != []
    assert problems("space: {backbone.config.n_negatives: [null, 4]}") == []


# Default spaces.


def test_default_takes_the_spaces_that_components_bring(load):
    found = load(space="default").space
    assert list(found) == ["baseline.config.quality", "baseline.config.width"]
    assert found["baseline.config.width"].values == (4, 8, 16)


def test_what_is_written_goes_before_the_default(load):
    found = load(space={"baseline": "default", "baseline.config.width": [2]}).space
    assert found["baseline.config.width"].choice == [2]
    assert found["baseline.config.quality"].float is not None


def test_a_component_without_a_space_says_so(load):
    with pytest.raises(ConfigError, match="popularity brings no default space; write one"):
        load(blocks={"baseline": "popularity"}, space="default")
    space = {"baseline.name": ["toy", "other_toy"], "baseline": "default"}
    with pytest.raises(ConfigError, match="other_toy brings no default space"):
        load(space=space)


def test_default_of_a_varied_name_holds_where_the_name_does(load):
    space = {"backbone.name": ["sasrec", "lightgcn"], "backbone": "default"}
    found = load(blocks={"baseline": None, "backbone": "sasrec"}, space=space).space
    whens = {d.when.get("backbone.name") for p, d in found.items() if p != "backbone.name"}
    assert whens == {"sasrec", "lightgcn"}
    assert next(iter(found)) == "backbone.name"


@pytest.mark.parametrize(
    ("blocks", "needs"),
    [
        ({"backbone": "sasrec"}, "backbone"),
        ({"backbone": "lightgcn"}, "backbone"),
        ({"backbone": "bpr_mf"}, "backbone"),
        ({"baseline": "item_knn"}, "baseline"),
        (
            {"backbone": "bpr_mf", "encoders": {"text": "tfidf_text"}, "align": "joint_alignment"},
            "align",
        ),
        (
            {"backbone": "bpr_mf", "split": {"strategy": "streaming"}, "online": "gated_mlp"},
            "online",
        ),
        ({"backbone": "bpr_mf", "prompt": "soft_prompt"}, "prompt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_our_components_bring_spaces_that_they_hold_themselves(load, blocks, needs):
    found = load(blocks={"baseline": None, **blocks}, space={needs: "default"})
    assert len(found.space) >= 3
    assert all(path.startswith(f"{needs}.config.") for path in found.space)


# The file.


def test_a_pipeline_with_a_search_round_trips(load, catalogue):
    loaded = load(space={"baseline.config.width": [2, 4]}, time_budget="10min", scheduler="asha")
    again = load_pipeline(loaded.resolved(), catalogue=catalogue)
    assert again.resolved() == loaded.resolved()
    assert again.pipeline.search.time_budget == 600
    assert loaded.without_search().resolved()["search"] is None


def test_a_search_may_be_a_file_that_extends_the_pipeline(tmp_path, monkeypatch, catalogue):
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(HEAD.lstrip().removesuffix("search:\n"))
    Path("search.yaml").write_text(
        "extends: base.yaml\nsearch: {trials: 3, space: {backbone.config.layers: [1, 2]}}\n"
    )
    loaded = load_pipeline("search.yaml", overrides=["search.trials=5"], catalogue=catalogue)
    assert loaded.pipeline.search.trials == 5
    assert loaded.written["backbone"] == {"name": "sasrec", "config": {"epochs": 3}}


def test_the_schema_knows_searches(catalogue):
    validator = jsonschema.Draft202012Validator(json_schema(catalogue))
    base = {
        "version": 1,
        "data": {"name": "movielens_100k"},
        "split": {"strategy": "leave_one_out"},
        "backbone": "sasrec",
    }
    good = {
        "backbone": "default",
        "backbone.name": ["sasrec"],
        "backbone.config.layers": {"int": {"low": 1, "high": 3}},
    }
    assert validator.is_valid({**base, "search": {"space": good, "scheduler": "asha"}})
    assert validator.is_valid({**base, "search": {"space": "default", "time_budget": "2h"}})
    for bad in ({"trials": 0}, {"space": {"x": {"integer": 3}}}, {"scheduler": "bohb"}):
        assert not validator.is_valid({**base, "search": bad})


# The sampler's terms.

DIMENSIONS = [
    Dimension.model_validate(raw)
    for raw in (
        [1, "a", None, [1, 2], {"b": True}],
        {"int": {"low": -3, "high": 9, "step": 4}},
        {"power_of_two": {"low": 2, "high": 64}},
        {"float": {"low": -1, "high": 1}},
        {"log": {"low": 1e-4, "high": 1e-1}},
    )
]


@examples(deadline=None, max_examples=50)
@given(st.sampled_from(DIMENSIONS), st.integers(0, 2**32 - 1))
def test_what_is_drawn_is_in_the_space_and_survives_encoding(dimension, seed):
    import optuna

    sampler = optuna.samplers.RandomSampler(seed=seed)
    trial = optuna.create_study(sampler=sampler).ask({"x": distribution(dimension)})
    value = decode(dimension, trial.params["x"])
    assert contains(dimension, value)
    assert decode(dimension, encode(dimension, value)) == value


def test_combinations_leave_out_what_conditions_exclude():
    space = {
        "a": Dimension(choice=[1, 2]),
        "b": Dimension(choice=["x", "y"], when={"a": 2}),
        "c": Dimension(choice=[0], when={"b": ["y"]}),
    }
    found = list(combinations(space))
    assert found == [{"a": 1}, {"a": 2, "b": "x"}, {"a": 2, "b": "y", "c": 0}]
    assert not holds(space["b"], {"a": 1})


def test_a_block_names_its_objectives():
    assert SearchBlock().names("ndcg@10") == ["ndcg@10"]
    assert SearchBlock(metric="hit@5").names("ndcg@10") == ["hit@5"]
    assert SearchBlock(objectives=["hit@5", "latency"]).names("x") == ["hit@5", "latency"]


@pytest.mark.parametrize("name", ["search.yaml", "cluster/gpu.yaml"])
def test_the_examples_are_right(name, catalogue):
    loaded = load_pipeline(Path(__file__).parents[2] / "examples" / name, catalogue=catalogue)
    assert len(loaded.space) >= 5
    assert loaded.pipeline.search.time_budget is not None


@pytest.mark.parametrize("name", ["on-prem.yaml", "aws.yaml"])
def test_the_cluster_files_are_right(name):
    util = pytest.importorskip("ray.autoscaler._private.util")
    from dynmm_framework.config.yaml import parse

    config = parse(Path(__file__).parents[2] / "examples" / "cluster" / name).data
    util.validate_config(util.prepare_config(config))
    mounted = [line for line in config["setup_commands"] if "mount " in line]
    assert mounted
    assert "/shared" in mounted[0]
