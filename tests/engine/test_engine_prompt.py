"""A prompt in a run: stages, keys, what it stands on, what the run keeps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dynmm_framework import load_pipeline
from dynmm_framework.cli.app import build_cli
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ConfigError
from dynmm_framework.testing import generate_dataset
from dynmm_framework.testing.language_models import write_tiny_random


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompt")
    generate_dataset(n_users=60, n_items=32).save(folder / "data")
    write_tiny_random(folder / "llm")
    return folder


def pipeline(saved: Path, **changed: Any) -> dict[str, Any]:
    llm = {"name": "hf_causal", "config": {"model": str(saved / "llm")}}
    small = {"epochs": 1, "examples": 8, "history": 3, "candidates": 5, "validation_users": 30}
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "leave_one_out"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 2, "dim": 8}},
        "encoders": {"text": {"name": "tfidf_text", "config": {"dim": 8}}},
        "align": {"name": "joint_alignment", "config": {"epochs": 1, "hidden": 8}},
        "prompt": {"name": "soft_prompt", "config": {"llm": llm, **small}},
        "ablation": [
            {"name": "without language model", "prompt": {"config": {"scorer": "direct"}}},
            {"name": "without similarity", "align": {"config": {"similarity": False}}},
        ],
        "evaluate": {"at": [10], "protocols": ["full", "sampled:2"]},
        "compute": {"device": "cpu", "threads": 1},
        **changed,
    }


@pytest.fixture(scope="module")
def finished(saved: Path) -> Any:
    return run(load_pipeline(pipeline(saved)), runs_dir=saved / "runs")


def test_the_prompt_is_compared_with_what_it_stands_on(finished: Any) -> None:
    assert finished.label == "soft_prompt"
    assert list(finished.metrics["recommenders"]) == [
        "soft_prompt",
        "joint_alignment",
        "bpr_mf",
        "soft_prompt-without_language_model",
        "joint_alignment-without_similarity",
    ]
    assert finished.metrics["efficiency"]["soft_prompt"]["fit_seconds"] > 0


def test_the_run_keeps_and_prints_what_its_prompts_cost(saved: Path) -> None:
    several = pipeline(saved, encoders={}, ablation=[{"name": "L 2", "prompt": {"config": {}}}])
    del several["align"]
    several["prompt"]["config"] |= {"candidates": 31, "validation_users": 40}
    several["ablation"][0]["prompt"]["config"] = {"history": 2}
    written = saved / "several.yaml"
    written.write_text(json.dumps(several))
    words = ["run", str(written), "--runs", str(saved / "runs")]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 0, result.stderr
    (table,) = re.findall(r"^Prompts: .*?\n\n?(?=s/batch: )", result.stdout, re.DOTALL | re.M)
    assert re.search(r"^soft_prompt +3 +0 +\d+ ", table, re.M)
    assert re.search(r"^soft_prompt-l_2 +2 +0 +\d+ ", table, re.M)
    (folder,) = (saved / "runs").glob("several-*")
    told = Run.load(folder).metrics["prompts"]
    assert list(told) == ["soft_prompt", "soft_prompt-l_2"]
    assert told["soft_prompt-l_2"]["soft_tokens"] == {"history": 2, "evidence": 0}
    lengths = [sum(one["tokens_of_a_prompt"].values()) for one in told.values()]
    assert lengths[0] > lengths[1] > 0
    assert all(one["seconds_a_batch"] > 0 for one in told.values())
    assert '<section id="prompts">' in (folder / "report.html").read_text()


def test_an_ablation_of_the_prompt_keeps_its_other_settings(saved: Path) -> None:
    loaded = load_pipeline(pipeline(saved))
    whole, varied = (
        loaded.configs[label] for label in ("soft_prompt", "soft_prompt-without_language_model")
    )
    assert varied == whole.model_copy(update={"scorer": "direct"})
    assert loaded.retrieval_label == "joint_alignment"
    assert loaded.backbone_label == "bpr_mf"


def test_the_example_compares_prompts_of_three_lengths() -> None:
    loaded = load_pipeline(Path(__file__).parents[2] / "examples" / "prompt_length.yaml")
    prompts = [config for label, config in loaded.configs.items() if "soft_prompt" in label]
    assert [(config.history, config.evidence_tokens) for config in prompts] == [
        (50, 16), (20, 8), (80, 32),
    ]  # fmt: skip
    first = prompts[0].model_dump(exclude={"history", "evidence_tokens"})
    for other in prompts[1:]:
        assert other.model_dump(exclude={"history", "evidence_tokens"}) == first


def test_an_ablation_merges_what_lies_deeper(saved: Path) -> None:
    changed = pipeline(saved)
    template = {"system": "Films.", "history": "\n<HIST> Watched:"}
    changed["prompt"]["config"] |= {"template": template}
    changed["ablation"] = [
        {"name": "asked otherwise", "prompt": {"config": {"template": {"task": "\n<TASK> Rank."}}}},
        {"name": "cut", "prompt": {"config": {"llm": {"config": {"context_length": 200}}}}},
    ]
    loaded = load_pipeline(changed)
    otherwise, cut = (
        loaded.configs[f"soft_prompt-{name}"].model_dump() for name in ("asked_otherwise", "cut")
    )
    assert otherwise["template"]["system"] == "Films."
    assert otherwise["template"]["task"] == "\n<TASK> Rank."
    assert cut["llm"]["config"]["model"] == str(saved / "llm")
    assert cut["llm"]["config"]["context_length"] == 200


def test_the_alignment_is_compared_with_its_own_variants(finished: Any) -> None:
    pairs = {(c["a"], c["b"]) for c in finished.metrics["comparisons"]}
    assert pairs == {
        ("soft_prompt", "joint_alignment"),
        ("soft_prompt", "bpr_mf"),
        ("soft_prompt", "soft_prompt-without_language_model"),
        ("joint_alignment", "bpr_mf"),
        ("joint_alignment", "joint_alignment-without_similarity"),
    }


def test_variants_draw_what_the_whole_draws(saved: Path, tmp_path: Path) -> None:
    plan = make_plan(load_pipeline(pipeline(saved)), runs_dir=tmp_path)
    seeds = {stage.label: stage.seed for stage in plan.of_kind("align", "prompt")}
    assert seeds["soft_prompt"] == seeds["soft_prompt-without_language_model"]
    assert seeds["joint_alignment"] == seeds["joint_alignment-without_similarity"]
    assert seeds["soft_prompt"] != seeds["joint_alignment"]


def test_a_run_serves_its_prompt_without_the_cache(finished: Any, saved: Path) -> None:
    copy = saved / "alone"
    shutil.copytree(finished.folder, copy)
    alone = type(finished).load(copy)
    user = alone.dataset.users["id"][0].as_py()
    assert alone.recommend(user, k=5) == finished.recommend(user, k=5)


def test_changing_the_prompt_trains_nothing_below_it(saved: Path, tmp_path: Path) -> None:
    def keys(mapping: dict[str, Any]) -> dict[str, str]:
        return {s.name: s.key for s in make_plan(load_pipeline(mapping), runs_dir=tmp_path).stages}

    before, changed = keys(pipeline(saved)), pipeline(saved)
    changed["prompt"]["config"]["hidden"] = 32
    after = keys(changed)
    differ = {name for name in before if before[name] != after[name]}
    assert {name.split("/")[1].split("-")[0] for name in differ} == {"soft_prompt"}


def test_a_prompt_stands_on_a_backbone_alone_too(saved: Path, tmp_path: Path) -> None:
    alone = pipeline(saved, encoders={}, ablation=[])
    del alone["align"]
    done = run(load_pipeline(alone), runs_dir=tmp_path)
    assert list(done.metrics["recommenders"]) == ["soft_prompt", "bpr_mf"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone": None, "baseline": "popularity"}, "prompt needs a backbone"),
        (
            {"prompt": None, "ablation": [{"name": "x", "prompt": "soft_prompt"}]},
            "an ablation changes the prompt, and there is none",
        ),
        (
            {"ablation": [{"name": "x", "prompt": "soft_prompt", "align": "concat"}]},
            "changes align and prompt; make a variant of each",
        ),
        ({"ablation": [{"name": "x"}]}, "names no change; give align or prompt"),
        ({"prompt": "soft_promt"}, "did you mean soft_prompt"),
    ],
)
def test_a_wrong_prompt_is_refused(saved: Path, changed: dict[str, Any], message: str) -> None:
    wrong = pipeline(saved, **changed)
    if "baseline" in changed:
        del wrong["align"], wrong["ablation"]
    with pytest.raises(ConfigError, match=message):
        load_pipeline({key: value for key, value in wrong.items() if value is not None})
