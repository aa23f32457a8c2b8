"""What Ray Tune is told by the search and tells it, without a cluster."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

from dynmm_framework.errors import ArtifactError, StageError, StoppedError

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[tune]'")

from dynmm_framework.tuning import asked as asked_module
from dynmm_framework.tuning import worker as worker_module
from dynmm_framework.tuning.asked import Asked, Told, seats
from dynmm_framework.tuning.worker import Steps


class Search:
    """A search of so many trials."""

    def __init__(self, trials: int, *, full: bool = False) -> None:
        self.trials, self.full = trials, full
        self.given = 0
        self.outcomes: dict[int, Any] = {}
        self.epochs: list[tuple[int, Any]] = []
        self.looked = 0

    @property
    def over(self) -> bool:
        return len(self.outcomes) >= self.trials

    def next(self) -> Any:
        if self.given >= self.trials:
            return None
        self.given += 1
        return {"number": self.given, "params": {"x": self.given}, "pipeline": {}}

    def begun(self, number: int, params: Any) -> None: ...

    def epoch(self, number: int, epoch: Any) -> None:
        self.epochs.append((number, epoch))

    def ended(self, number: int, outcome: Any) -> None:
        if self.full:
            raise ArtifactError("the disk is full")
        self.outcomes[number] = outcome

    def look(self) -> None:
        self.looked += 1


def trial(number: int, *, failures: int = 0, said: str = "", folder: Any = None) -> Any:
    path = None
    if said:
        path = folder / f"error-{number}.txt"
        path.write_text(f"Failure # 1 (occurred at noon)\nfirst\nFailure # 2 (at one)\n{said}\n")
    return SimpleNamespace(
        trial_id=f"t{number}",
        num_failures=failures,
        error_file=path,
        config={"seat": {"number": number, "params": {"x": number}}},
        run_metadata=SimpleNamespace(pickled_error_filename="error.pkl"),
    )


def told(host: Search) -> Told:
    return Told(host, SimpleNamespace(reasons={"t1": "asha: behind"}), began=lambda: None)


def test_trials_are_given_out_as_far_as_there_is_room():
    host = Search(3)
    asked = Asked(host, concurrency=2)
    assert asked.suggest("a") == {"seat": {"number": 1, "params": {"x": 1}}}
    assert asked.suggest("b") is not None
    assert asked.suggest("c") is None  # for now
    asked.on_trial_complete("a")
    assert asked.suggest("c")["seat"]["number"] == 3
    assert asked.suggest("d") is None
    host.outcomes = {1: 1, 2: 2, 3: 3}
    assert asked.suggest("d") == Asked.FINISHED
    assert [seat["number"] for seat in seats(Search(4))] == [1, 2, 3, 4]


def test_what_tune_stores_of_a_search_is_empty(tmp_path):
    asked = Asked(Search(1), concurrency=1)
    assert copy.deepcopy(asked) is asked
    assert asked.__getstate__() == {}
    asked.save(str(tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == b""
    with pytest.raises(NotImplementedError):
        asked.restore(str(tmp_path / "state"))


def test_epochs_outcomes_and_stops_are_handed_on():
    host = Search(2)
    callback = told(host)
    for number in (1, 2):
        callback.on_trial_start(0, [], trial(number))
        result = {"reported": {"epoch": 1}, "stages": ["data"]}
        callback.on_trial_result(0, [], trial(number), result)
    assert host.epochs == [(1, {"epoch": 1}), (2, {"epoch": 1})]
    callback.on_trial_complete(0, [], trial(1))
    done = {"outcome": {"state": "finished", "stages": ["data", "fit"]}}
    callback.on_trial_result(0, [], trial(2, failures=1), done)
    callback.on_trial_complete(0, [], trial(2))  # told already
    assert host.outcomes == {
        1: {"state": "pruned", "reason": "asha: behind", "stages": ["data"]},
        2: {"state": "finished", "stages": ["data", "fit"], "attempts": 2},
    }


def test_a_lost_worker_and_one_that_never_started_are_told_apart(tmp_path):
    host = Search(2)
    callback = told(host)
    callback.on_trial_start(0, [], trial(1))
    killed = trial(1, failures=2, said="The actor died because it was killed", folder=tmp_path)
    callback.on_trial_error(0, [], killed)
    callback.on_trial_error(0, [], trial(2, failures=1, said="no module", folder=tmp_path))
    reasons = {number: outcome["reason"] for number, outcome in host.outcomes.items()}
    assert reasons == {
        1: "its worker was lost 2 times: The actor died because it was killed",
        2: "its worker could not be started: no module",
    }
    assert killed.run_metadata.pickled_error_filename is None  # nobody will read it
    assert host.over


def test_where_no_worker_starts_the_search_gives_up(tmp_path):
    host = Search(100)
    callback = told(host)
    for number in range(1, asked_module.MOST_FAILURES + 1):
        callback.on_step_end(0, [])
        callback.on_trial_error(0, [], trial(number, said="no module", folder=tmp_path))
    with pytest.raises(StageError, match="workers cannot be started: no module"):
        callback.on_step_end(0, [])
    # Workers that started and died are trials that failed, however many there are.
    callback = told(Search(100))
    for number in range(1, 20):
        callback.on_trial_start(0, [], trial(number))
        callback.on_trial_error(0, [], trial(number, said="killed", folder=tmp_path))
        callback.on_step_end(0, [])


def test_a_full_disk_ends_the_search_whatever_the_trial_gave():
    callback = told(Search(1, full=True))
    callback.on_trial_start(0, [], trial(1))
    callback.on_trial_complete(0, [], trial(1))
    with pytest.raises(ArtifactError, match="the disk is full"):
        callback.on_step_end(0, [])


# Work that is asked for its next report.


def epochs(n: int, ended: list[str]) -> Any:
    def work(report: Any) -> Any:
        try:
            for epoch in range(1, n + 1):
                report({"epoch": epoch})
        except StoppedError:
            ended.append("stopped")
            return {"state": "pruned"}
        ended.append("done")
        return {"state": "finished"}

    return work


def test_work_waits_after_every_report():
    ended: list[str] = []
    steps = Steps(epochs(2, ended))
    assert [steps.next() for _ in range(2)] == [{"epoch": 1}, {"epoch": 2}]
    assert not steps.over
    assert ended == []
    assert steps.next() == {"state": "finished"}
    assert steps.over
    assert ended == ["done"]


def test_work_that_is_ended_tidies_up():
    ended: list[str] = []
    steps = Steps(epochs(5, ended))
    steps.next()
    steps.end()
    assert ended == ["stopped"]
    assert not steps.over


def test_work_that_nobody_asks_for_lets_go(monkeypatch):
    monkeypatch.setattr(worker_module, "LAPSE_SECONDS", 0.05)
    ended: list[str] = []
    steps = Steps(epochs(5, ended))
    steps.next()
    steps._thread.join(5)
    assert ended == ["stopped"]
    assert steps.lapsed
    assert not steps.over


def test_what_work_cannot_catch_is_an_outcome():
    def work(report: Any) -> Any:
        raise SystemExit(3)

    steps = Steps(work)
    assert steps.next()["state"] == "failed"
    assert steps.over
