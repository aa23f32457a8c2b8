"""When a trial is stopped early: the rules, and the files that they read."""

from __future__ import annotations

import pytest

from dynmm_framework.config.search import Scheduler
from dynmm_framework.errors import StoppedError
from dynmm_framework.tuning.epochs import EpochReporter, file_of, read_epochs, rungs, verdict

ASHA = Scheduler(name="asha", grace=1, factor=3)
STAGE = "fit/toy/seed-7"


def flat(value: float, epochs: int) -> list[tuple[int, float]]:
    return [(epoch, value) for epoch in range(1, epochs + 1)]


def test_rungs_grow_by_the_factor():
    assert rungs(ASHA, 30) == [1, 3, 9, 27]
    assert rungs(Scheduler(name="asha", grace=2, factor=4), 31) == [2, 8]


def test_asha_keeps_a_third_of_those_that_came_as_far():
    curves = {n: flat(n / 10, 1) for n in range(1, 7)}
    kept = {n for n in curves if not verdict(ASHA, n, curves)}
    assert kept == {5, 6}
    assert verdict(ASHA, 4, curves) == "asha: 3 of 6 at the rung of epoch 1, the best 2 go on"


def test_the_first_at_a_rung_and_those_between_rungs_go_on():
    assert verdict(ASHA, 1, {1: flat(0.1, 3), 2: flat(0.9, 1)}) == ""
    assert verdict(ASHA, 1, {1: flat(0.1, 2), 2: flat(0.9, 9)}) == ""
    assert verdict(ASHA, 1, {1: flat(0.1, 3), 2: flat(0.9, 9)}) != ""


def test_a_trial_that_validates_seldom_meets_the_last_rung_that_it_passed():
    curves = {1: [(5, 0.1)], 2: flat(0.9, 9)}
    assert "rung of epoch 3" in verdict(ASHA, 1, curves)


def test_what_counts_at_a_rung_is_the_best_so_far():
    assert verdict(ASHA, 1, {1: [(1, 0.9), (2, 0.1), (3, 0.1)], 2: flat(0.5, 3)}) == ""


def test_ties_go_on():
    assert verdict(ASHA, 1, {n: flat(0.5, 1) for n in range(1, 10)}) == ""


def test_median_stops_whose_best_is_below_the_averages_of_the_others():
    rule = Scheduler(name="median", grace=2)
    curves = {n: flat(n / 10, 4) for n in (5, 6, 7)}
    assert verdict(rule, 1, {**curves, 1: flat(0.1, 1)}) == ""  # grace
    stopped = verdict(rule, 1, {**curves, 1: flat(0.1, 2)})
    assert stopped == "median: behind the median of 3 trials at epoch 2"
    assert verdict(rule, 1, {**curves, 1: [(1, 0.65), (2, 0.1)]}) == ""
    assert verdict(rule, 1, {5: flat(0.5, 4), 1: flat(0.1, 2)}) == ""  # too few others


def test_epochs_of_all_trials_decide_and_lower_may_be_better(tmp_path):
    def run(number: int, value: float, sign: int) -> str:
        reporter = EpochReporter(tmp_path, number, "loss", sign, ASHA)
        try:
            reporter(STAGE, 1, {"loss": value})
        except StoppedError as stopped:
            return stopped.message
        return ""

    assert run(1, 0.9, -1) == ""
    assert run(2, 0.5, -1) == ""
    assert run(3, 0.8, -1).startswith("asha: 2 of 3")


def test_stages_of_other_kinds_and_trainings_within_a_stage_do_not_count(tmp_path):
    for number in (1, 2, 3):
        EpochReporter(tmp_path, number, "ndcg@10", 1, ASHA)(STAGE, 1, {"ndcg@10": number / 10})
    reporter = EpochReporter(tmp_path, 4, "ndcg@10", 1, ASHA)
    reporter("align/joint/seed-7", 1, {"ndcg@10": 0.01})
    reporter(f"{STAGE}/pretrain", 1, {"ndcg@10": 0.01})
    reporter(STAGE, 1, {"loss": 3.0})
    reporter(STAGE, 1, {"ndcg@10": float("nan")})
    with pytest.raises(StoppedError):
        reporter(STAGE, 1, {"ndcg@10": 0.01})


def test_a_resumed_trial_s_epochs_count_once_and_cut_off_lines_not_at_all(tmp_path):
    reporter = EpochReporter(tmp_path, 1, "ndcg@10", 1, Scheduler())
    for epoch, value in ((1, 0.1), (2, 0.2), (2, 0.3)):
        reporter(STAGE, epoch, {"ndcg@10": value})
    path = file_of(tmp_path, 1)
    path.write_text(path.read_text() + '{"stage": "fit/t')
    assert [(e["epoch"], e["value"]) for e in read_epochs(path)] == [(1, 0.1), (2, 0.3)]
