"""Each check of the kit fails for a component that has just that fault, and for no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from filelock import FileLock

from dynmm_framework.testing.conformance.odd_histories import TINY

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Outcomes = Mapping[str, Mapping[str, tuple[str, str]]]
"""Component to test to (passed, failed, error or skipped; text)."""

FAULTS: dict[str, dict[str, str]] = {
    # Settings and registration.
    "undocumented": {"every_setting_is_documented": r"UndocumentedConfig\.secret\. Write a docstr"},
    "undocumented_within": {"every_setting_is_documented": r"documentation: Nested\.hidden\."},
    "lax": {"unknown_setting_is_refused": r'LaxConfig takes a setting .* set extra="forbid"'},
    "changeable": {"settings_cannot_be_changed_later": r"ChangeableConfig .* or set frozen=True"},
    "lossy": {"config_survives_a_round_trip": r"rate was 0\.25 and came back as 0\.2\."},
    "heavy": {
        "door_and_config_import_nothing_heavy": r"importing broken_heavy_plugin imports scipy,"
    },
    # Training.
    "ChangesTraining": {"training_leaves_its_data_unchanged": r"fit changed .*: train\.timestamps"},
    "ChangesTrainingHistories": {"training_leaves_its_data_unchanged": r"train\.items.* copies\."},
    "NeedsValidation": {
        "training_needs_no_validation_users": r"no validation users: train all epochs then"
    },
    "Unseeded": {"the_same_seed_gives_the_same_model": r"differ by up to 0\.00\d+ .*ctx\.rng"},
    "GloballySeeded": {"the_same_seed_gives_the_same_model": r"depend on no global generator"},
    "StartsOver": {"an_interrupted_training_resumes": r"started over at epoch 1"},
    "ForgetsProgress": {"an_interrupted_training_resumes": r"resumed differs .* 0\.0\d+ .*optimis"},
    "OtherOnGPU": {"training_on_a_gpu_scores_like_on_the_cpu": r"scores differ by up to 1\."},
    "NothingOnGPU": {"training_on_a_gpu_scores_like_on_the_cpu": r"ndcg@10 is 0\.0\d+, expected"},
    # Scores.
    "WrongShape": {
        "scores_are_finite_and_of_the_right_shape": r"test users: .* \(150, 91\), not \(150, 90\)",
        "an_unknown_user_is_served": r"have shape \(8, 91\)",
        "an_empty_history_is_served": r"have shape \(3, 91\)",
        "a_long_history_with_repeats_is_served": r"have shape \(1, 91\)",
        "an_item_without_training_interactions_is_served": r"have shape \(2, 91\)",
        "a_history_of_one_item_is_served": r"have shape \(3, 91\)",
        "a_history_of_the_whole_catalogue_is_served": r"have shape \(3, 91\)",
        "metrics_are_in_the_expected_range": r"WrongShape returned scores of shape",
    },
    "ScoresAsLists": {
        "scores_are_finite_and_of_the_right_shape": r"scores are list; return a NumPy array",
        "metrics_are_in_the_expected_range": r"'list' object has no attribute 'shape'",
    },
    "NaNScores": {
        "scores_are_finite_and_of_the_right_shape": r"\d+ of 13500 scores are NaN or infinite",
        "an_unknown_user_is_served": r"\d+ of 720 scores are NaN or infinite",
        "metrics_are_in_the_expected_range": r"NaNScores scored an item nan for user",
    },
    "FirstCandidates": {"candidates_score_as_in_the_whole_catalogue": r"Row i of candidates"},
    "TransposedCandidates": {
        "candidates_score_as_in_the_whole_catalogue": r"returned \(5, 8\) for .* shape \(8, 5\)"
    },
    "BatchDependent": {"a_user_scores_the_same_alone_and_in_company": r"who else is in the batch"},
    "NeedsKnownUsers": {"an_unknown_user_is_served": r"IndexError: there is no such user"},
    "TakesTheLastUser": {"an_unknown_user_is_served": r"is None than when it is -1"},
    "MeanOfNothing": {"an_empty_history_is_served": r"empty histories: 180 of 270 scores are NaN"},
    "ShortPositions": {"a_long_history_with_repeats_is_served": r"position 100 is out of range"},
    "DividesByCounts": {
        "an_item_without_training_interactions_is_served": r"no training interactions: 180 of 180",
        "a_history_of_the_whole_catalogue_is_served": r"all items: 180 of 270 scores are NaN or",
    },
    "DividesByPairs": {
        "a_history_of_one_item_is_served": r"of one item: 270 of 270 scores are NaN"
    },
    "NothingLeft": {
        "a_history_of_the_whole_catalogue_is_served": r"all items: 180 of 270 scores are NaN"
    },
    "NeedsEveryUser": {"odd_histories_are_learned_from": r"IndexError: user 1 has no newest item"},
    "DrawsNegatives": {"a_user_with_every_item_is_learned_from": r"ValueError: high <= 0"},
    "BlamesNumbers": {
        f"tiny_data_is_learned_from_or_refused_in_words[{case}]": rf"training on {case} ends in .*"
        r"loss is nan.* Say before the first step that there is nothing to learn from"
        for case in TINY
    },
    "ChangesHistories": {"scoring_leaves_its_inputs_unchanged": r"arguments: histories\.items\. W"},
    "ChangesCandidates": {"scoring_leaves_its_inputs_unchanged": r"arguments: candidates\. Work"},
    "OneUserTooMany": {
        "vectors_have_one_width": r"user_vectors\(histories\) \(151, 90\) for 150 histories",
        "scores_are_finite_and_of_the_right_shape": r"have shape \(151, 90\), not \(150, 90\)",
        "scoring_leaves_its_inputs_unchanged": r"RuntimeError",
        "metrics_are_in_the_expected_range": r"OneUserTooMany returned scores of shape \(151, 90\)",
    },
    # State.
    "StateBeforeFit": {"there_is_no_state_before_training": r"returns noise before fit\. Return"},
    "ForgetsNoise": {"saved_and_restored_scores_are_equal": r"scores known users otherwise"},
    "ForgetsStrangers": {"saved_and_restored_scores_are_equal": r"scores unknown users otherwise"},
    "StateOfLists": {"saved_and_restored_scores_are_equal": r"counts, noise are not\."},
    "NoState": {"saved_and_restored_scores_are_equal": r"it is empty after fit\."},
    # Quality.
    "LearnsNothing": {
        "metrics_are_in_the_expected_range": r"ndcg@10 is 0\.0\d+, expected 0\.4 to 0\.6; on these"
        r" users random scores reach 0\.0444 and item popularity 0\.1516 Too low: does it learn"
    },
    "expects_nothing": {"metrics_are_in_the_expected_range": r'set expected = {"ndcg@10": \(low'},
    "expects_anything": {"metrics_are_in_the_expected_range": r"Random scores are within .* raise"},
    "expects_no_cutoff": {"metrics_are_in_the_expected_range": r"no metric ndcg; write ndcg@10"},
}

SOUND = (
    "good", "GoodBackbone", "TensorBackbone", "Epochs", "SwallowsErrors", "RefusesTinyData",
    "tolerant", "on_gpu",
)  # fmt: skip


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of the tests in broken_suite.py, run once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    report = shared / "broken-suite.xml"
    with FileLock(f"{report}.lock"):
        if not report.exists():
            _run_suite(report)
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        component = case.attrib["classname"].rpartition(".Test_")[2]
        outcome, text = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = {"failure": "failed"}.get(child.tag, child.tag)
                text = f"{child.attrib.get('message', '')} {child.text}"
        test = case.attrib["name"].removeprefix("test_")
        found.setdefault(component, {})[test] = (outcome, " ".join(text.split()))
    return found


def _run_suite(report: Path) -> None:
    command = [sys.executable, "-m", "pytest", str(HERE / "broken_suite.py"), "-q"]
    command += ["-o", "addopts=", "-p", "no:cacheprovider", f"--junitxml={report}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=kept, check=False)
    assert done.returncode == 1, done.stdout + done.stderr  # some tests failed; no worse


def problems(outcomes: Outcomes, component: str) -> dict[str, str]:
    return {
        test: text
        for test, (outcome, text) in outcomes[component].items()
        if outcome in ("failed", "error")
    }


@pytest.mark.parametrize("component", FAULTS)
def test_a_fault_fails_the_test_that_is_meant_for_it(outcomes: Outcomes, component: str) -> None:
    found = problems(outcomes, component)
    assert set(found) == set(FAULTS[component]), found
    for test, text in FAULTS[component].items():
        assert re.search(text, found[test]), found[test]


@pytest.mark.parametrize("component", SOUND)
def test_a_sound_component_passes(outcomes: Outcomes, component: str) -> None:
    assert problems(outcomes, component) == {}
    assert len(outcomes[component]) >= 30


def test_every_check_can_fail(outcomes: Outcomes) -> None:
    tested = {test for faults in FAULTS.values() for test in faults}
    checks = {test for tests in outcomes.values() for test in tests}
    assert checks - tested == {"it_trains"}  # which has a test of its own, below


def test_a_training_that_fails_is_shown_once(outcomes: Outcomes) -> None:
    found = problems(outcomes, "FitRaises")
    shown = found.pop("it_trains")
    assert "ArithmeticError: the loss exploded" in shown
    assert "broken_models.py" in shown  # its own traceback
    assert len(found) > 10
    for text in found.values():
        assert "FitRaises could not be trained, see test_it_trains: Arith" in text
        assert "broken_models.py" not in text


def test_a_component_without_a_method_is_named(outcomes: Outcomes) -> None:
    text = problems(outcomes, "NoScore")["it_trains"]
    assert "baseline noscore of local is not a Recommender: it lacks score" in text


def test_a_component_that_is_not_there_is_a_message_with_the_way_out(outcomes: Outcomes) -> None:
    for text in problems(outcomes, "missing").values():
        assert "unknown baseline 'goood'; did you mean good?" in text
        assert "plugin failing of acme==0: dynmm_register_baselines: ZeroDivisionError" in text
        assert "not installed? pip install -e . where its pyproject.toml is" in text
        assert "Traceback" not in text
    assert len(problems(outcomes, "missing")) == len(outcomes["missing"])
    for text in problems(outcomes, "nameless").values():
        assert 'set component = "the name in YAML" in Test_' in text


def test_resuming_is_skipped_where_there_is_nothing_to_resume(outcomes: Outcomes) -> None:
    name = "an_interrupted_training_resumes"
    assert outcomes["Epochs"][name][0] == "passed"
    outcome, text = outcomes["good"][name]
    assert outcome == "skipped"
    assert "does not report three epochs" in text
    outcome, text = outcomes["EpochsWithoutCheckpoint"][name]
    assert outcome == "skipped"
    assert "leaves no checkpoint in ctx.workdir" in text
