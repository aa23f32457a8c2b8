"""When a trial is stopped early: in this process by Optuna, on Ray by Ray Tune."""

from __future__ import annotations

import time

import pytest

from dynmm_framework.config.search import Scheduler
from dynmm_framework.errors import StoppedError
from dynmm_framework.tuning.epochs import Epoch, EpochReporter, kind_of
from dynmm_framework.tuning.pruning import Pruning
from dynmm_framework.tuning.records import Objective, TrialRecord

ASHA = Scheduler(name="asha", grace=1, factor=3)
MEDIAN = Scheduler(name="median", grace=2)
UP, DOWN = (Objective(name="m", direction=direction) for direction in ("max", "min"))
STAGE = "fit/toy/seed-7"


def epoch(number: int, value: float | None, stage: str = STAGE) -> Epoch:
    return {"stage": stage, "epoch": number, "value": value, "seconds": 0.0}


class Local:
    """Early stopping where trials run one after another."""

    def __init__(self, scheduler: Scheduler, objective: Objective = UP, known=()) -> None:
        self.rule = Pruning(scheduler, objective, known=known)

    def trial(self, number: int, values: list[float], stage: str = STAGE) -> int:
        """Returns the epoch after which a trial was stopped, 0 if it was not."""
        for at, value in enumerate(values, start=1):
            if self.rule.behind(number, epoch(at, value, stage)):
                self.rule.ended(number, finished=False)
                return at
        self.rule.ended(number, finished=True)
        return 0


class OnRay:
    """The same by Ray Tune's schedulers, without a cluster."""

    def __init__(self, scheduler: Scheduler, objective: Objective = UP, known=()) -> None:
        schedulers = pytest.importorskip("dynmm_framework.tuning.schedulers")
        self.schedulers = schedulers
        self.rule = schedulers.make_scheduler(scheduler, objective, {}, seed=0, known=known)

    def trial(self, number: int, values: list[float], stage: str = STAGE) -> int:
        trial = self.schedulers._Earlier(f"trial-{number}")
        for at, value in enumerate(values, start=1):
            found = epoch(at, value, stage)
            result = {"kind": kind_of(found), "epoch": at, "value": value}
            if self.rule.on_trial_result(None, trial, result) == "STOP":
                assert self.schedulers.reason_of(self.rule, trial).endswith(f"at epoch {at}")
                return at
        return 0


BOTH = pytest.mark.parametrize("place", [Local, OnRay])


@BOTH
def test_asha_stops_at_rungs_whoever_is_behind_those_that_came_as_far(place):
    rule = place(ASHA)
    assert rule.trial(1, [0.5] * 9) == 0
    assert rule.trial(2, [0.9] * 9) == 0  # the best so far
    assert rule.trial(3, [0.1] * 9) == 1
    assert rule.trial(4, [0.95, 0.95, 0.1]) == 3
    assert rule.trial(5, [0.99] * 9) == 0


@BOTH
def test_grace_and_factor_are_the_rungs(place):
    rule = place(Scheduler(name="asha", grace=2, factor=4))
    for number in (1, 2, 3, 4):
        assert rule.trial(number, [0.5 + number / 10] * 8) == 0
    assert rule.trial(5, [0.1] * 8) == 2


@BOTH
def test_lower_may_be_better(place):
    rule = place(ASHA, DOWN)
    assert rule.trial(1, [0.5] * 3) == 0
    assert rule.trial(2, [0.4] * 3) == 0
    assert rule.trial(3, [0.9] * 3) == 1


@BOTH
def test_median_stops_whose_best_is_below_that_of_the_others(place):
    rule = place(MEDIAN)
    for number in (5, 6, 7):
        assert rule.trial(number, [number / 10] * 4) == 0
    assert rule.trial(1, [0.1] * 4) == 2  # grace
    assert rule.trial(2, [0.9, 0.1]) == 0  # the best of its own counts
    assert place(MEDIAN).trial(1, [0.1] * 4) == 0  # nobody to compare with


@BOTH
def test_kinds_of_stages_are_compared_each_by_itself(place):
    rule = place(ASHA)
    for number in (1, 2, 3):
        assert rule.trial(number, [number / 10] * 3) == 0
    assert rule.trial(4, [0.01] * 3, "align/joint/seed-7") == 0
    assert rule.trial(5, [0.01] * 3) == 1


@BOTH
def test_earlier_sittings_count(place):
    known = [
        TrialRecord(
            number=number,
            state="finished",
            params={},
            epochs=[dict(epoch(at, number / 10)) for at in (1, 2, 3)],
        )
        for number in (5, 6, 7)
    ]
    assert place(ASHA, known=known).trial(8, [0.1] * 3) == 1
    assert place(MEDIAN, known=known).trial(8, [0.1] * 3) == 2
    assert place(ASHA, known=known).trial(8, [0.8] * 3) == 0


def test_epochs_without_a_value_and_trainings_within_a_stage_cannot_be_compared():
    assert kind_of(epoch(1, 0.5)) == "fit"
    assert kind_of(epoch(1, 0.5, "stream/online/seed-7")) == "stream"
    assert kind_of(epoch(1, None)) == ""
    assert kind_of(epoch(1, 0.5, f"{STAGE}/pretrain")) == ""


def test_what_is_not_finite_is_no_value_and_time_ends_a_trial():
    seen: list[Epoch] = []
    reporter = EpochReporter("ndcg@10", seen.append)
    reporter(STAGE, 1, {"loss": 3.0})
    reporter(STAGE, 2, {"ndcg@10": float("nan")})
    reporter(STAGE, 3, {"ndcg@10": 0.5})
    assert [(e["epoch"], e["value"]) for e in seen] == [(1, None), (2, None), (3, 0.5)]
    late = EpochReporter("ndcg@10", seen.append, deadline=time.time() - 1)
    with pytest.raises(StoppedError, match="time budget is spent"):
        late(STAGE, 4, {"ndcg@10": 0.5})
    assert seen[-1]["epoch"] == 4  # it counts all the same
