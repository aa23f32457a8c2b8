"""The table of components: what is added, what is removed, and what is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_run import write_fake_run

from dynmm_framework.cli.app import build_cli
from dynmm_framework.engine.results import Run
from dynmm_framework.errors import ArtifactError
from dynmm_framework.evaluation.significance import compare, holm
from dynmm_framework.reports.comparison import paired_values, user_values
from dynmm_framework.reports.components import component_table, variants_of

WHOLE = "soft_prompt"
WITHOUT = "soft_prompt-without_evidence"
SKILL = {WHOLE: 0.45, "joint_alignment": 0.35, "sasrec": 0.2, WITHOUT: 0.40}


def write(folder: Path, *, skill: dict[str, float] = SKILL, **changed: Any) -> Run:
    write_fake_run(folder, skill=skill, protocols=("full",))
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    prompt = {"name": "soft_prompt", "config": {"history": 10, "evidence_tokens": 16}}
    pipeline = manifest["pipeline"]
    pipeline |= {
        "encoders": {"text": {"name": "sentence_text"}},
        "align": {"name": "joint_alignment"},
        "prompt": prompt,
        "evidence": [{"name": "cf_neighbours"}],
        "ablation": [
            {
                "name": "without evidence",
                "prompt": {**prompt, "config": {**prompt["config"], "evidence_tokens": 0}},
            }
        ],
        **changed,
    }
    manifest["pipeline"] = {key: value for key, value in pipeline.items() if value is not None}
    path.write_text(json.dumps(manifest))
    return Run.load(folder)


def test_components_are_read_off_the_pipeline(tmp_path: Path):
    found = {v.label: set(v.components) for v in variants_of(write(tmp_path / "a"))}
    assert found == {
        WHOLE: {"multimodal", "language model", "evidence"},
        "joint_alignment": {"multimodal"},
        "sasrec": set(),
        WITHOUT: {"multimodal", "language model"},
    }


def test_each_row_is_tested_against_the_one_that_it_is_read_beside(tmp_path: Path):
    table = component_table([write(tmp_path / "a")])
    assert [(row.part, row.name, row.recommender) for row in table.rows] == [
        ("added", "backbone", "sasrec"),
        ("added", "+ multimodal", "joint_alignment"),
        ("added", "+ language model", WITHOUT),
        ("added", "+ evidence", WHOLE),
        ("removed", "whole", WHOLE),
        ("removed", "without evidence and language model", "joint_alignment"),
        ("removed", "without evidence", WITHOUT),
    ]
    assert table.rows[0].p is None
    assert all(row.p is not None and row.p < 0.05 for row in table.rows[1:4])
    assert any("without multimodal" in note for note in table.notes)
    assert any("dynamic" in note for note in table.notes)
    assert len(table.columns) == len(next(iter(table.cells())))


def test_p_values_are_corrected_for_the_different_tests_of_the_table(tmp_path: Path):
    skill = {WHOLE: 0.45, "joint_alignment": 0.44, "sasrec": 0.42, WITHOUT: 0.43}
    run = write(tmp_path / "a", skill=skill)
    rows = component_table([run]).rows
    pairs = [
        ("joint_alignment", "sasrec"),
        (WITHOUT, "joint_alignment"),
        (WHOLE, WITHOUT),  # twice in the table: added last, and removed
        ("joint_alignment", WHOLE),
    ]
    raw = []
    for a, b in pairs:
        found = paired_values(
            user_values(run, a, "full", "ndcg@10"), user_values(run, b, "full", "ndcg@10")
        )
        assert found is not None
        raw.append(compare([found[0]], [found[1]]).t_p)
    tested = [row.p for row in rows if row.p is not None]
    corrected = holm(raw)
    assert tested == pytest.approx([*corrected[:3], corrected[3], corrected[2]])


def test_the_same_network_without_the_language_model_takes_it_away_alone(tmp_path: Path):
    direct = f"{WHOLE}-without_language_model"
    prompt = {"name": "soft_prompt", "config": {"history": 10, "evidence_tokens": 16}}
    changed = {**prompt, "config": {**prompt["config"], "scorer": "direct"}}
    run = write(
        tmp_path / "a",
        skill={**SKILL, direct: 0.43},
        ablation=[{"name": "without language model", "prompt": changed}],
    )
    rows = {(row.part, row.name): row for row in component_table([run]).rows}
    assert rows["removed", "without language model"].recommender == direct


def test_another_run_fills_what_is_missing(tmp_path: Path):
    other = write(
        tmp_path / "b",
        skill={WHOLE: 0.42, "sasrec": 0.2, WITHOUT: 0.3},
        align=None,
        encoders=None,
    )
    table = component_table([write(tmp_path / "a"), other])
    names = {row.name for row in table.rows if row.part == "removed"}
    assert "without multimodal" in names
    assert not any("without multimodal" in note for note in table.notes)


def test_a_run_on_another_split_is_left_out(tmp_path: Path):
    write_fake_run(tmp_path / "b", protocols=("full",), split_hash="9" * 64)
    table = component_table([write(tmp_path / "a"), Run.load(tmp_path / "b")])
    assert any("another split" in note for note in table.notes)


def test_a_variant_that_differs_otherwise_is_no_component(tmp_path: Path):
    prompt = {"name": "soft_prompt", "config": {"history": 5, "evidence_tokens": 16}}
    run = write(tmp_path / "a", ablation=[{"name": "without evidence", "prompt": prompt}])
    assert WITHOUT not in {variant.label for variant in variants_of(run)}


def test_a_single_model_has_no_components(tmp_path: Path):
    with pytest.raises(ArtifactError, match="is a single model"):
        component_table([Run.load(write_fake_run(tmp_path / "a"))])
    run = write(tmp_path / "b")
    with pytest.raises(ArtifactError, match="has no protocol 'sampled:9'"):
        component_table([run], protocol="sampled:9")


def test_the_command_prints_the_table(tmp_path: Path):
    write(tmp_path / "a")
    words = ["report", str(tmp_path / "a"), "--table", "components"]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 0, result.stderr
    assert "+ evidence" in result.stdout
    assert "without evidence" in result.stdout
    document = json.loads(CliRunner().invoke(build_cli(), [*words, "--json"]).stdout)
    assert document["protocol"] == "full"
    both = ["report", str(tmp_path / "a"), str(tmp_path / "a")]
    assert CliRunner().invoke(build_cli(), both).exit_code == 2
    assert not (tmp_path / "a" / "report.html").exists()


def test_evidence_of_other_items_is_tested_beside_the_whole(tmp_path: Path):
    control = f"{WHOLE}-shuffled_evidence"
    run = write(tmp_path / "a", skill={**SKILL, control: 0.38}, controls=["shuffled_evidence"])
    table = component_table([run])
    (row,) = [row for row in table.rows if row.part == "control"]
    assert (row.name, row.recommender) == ("evidence of other items", control)
    assert row.p is not None
    assert "+ evidence" in {row.name for row in table.rows}
