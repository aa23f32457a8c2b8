"""A stream in a run: its stage, its numbers, and the run that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from dynmm_framework import load_pipeline
from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import stream_of
from dynmm_framework.engine.live import replay_session, run_split
from dynmm_framework.engine.metrics import MetricsDocument
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run
from dynmm_framework.engine.streaming import BASELINES, CONTROLS, OWN, RETRAIN
from dynmm_framework.errors import ArtifactError, ConfigError, StageError
from dynmm_framework.online.guard import PARTS, STRENGTHS
from dynmm_framework.reports.page import render
from dynmm_framework.reports.streams import stream_tables
from dynmm_framework.testing import generate_dataset


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    generate_dataset(n_users=80, n_items=48).save(folder / "data")
    return folder


def pipeline(saved: Path, **changed: Any) -> dict[str, Any]:
    config = {"window": 60, "steps": 2, "hidden": 8, "replay": 40, "probe_every": 5}
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "streaming"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 3, "dim": 8}},
        "online": {"name": "gated_mlp", "config": config, "retrain_every": 4},
        "evaluate": {"at": [10]},
        "compute": {"device": "cpu", "threads": 1},
        **changed,
    }


@pytest.fixture(scope="module")
def finished(saved: Path) -> Run:
    return run(load_pipeline(pipeline(saved)), runs_dir=saved / "runs")


def test_every_strategy_meets_the_same_events(finished: Run):
    results = finished.metrics["stream"]
    assert list(results["strategies"]) == [OWN, *CONTROLS, *BASELINES, RETRAIN]
    assert results["events"] == len(run_split(finished).test)
    assert {len(curve) for curve in results["curves"].values()} == {results["windows"]}
    values = results["strategies"][OWN]["ndcg@10"]
    assert 0 < values["ci95"][0] <= values["mean"] <= values["ci95"][1] < 1
    assert results["curves"][OWN][-1] == pytest.approx(values["mean"])
    pairs = {(test["a"], test["b"]) for test in results["comparisons"]}
    assert (OWN, "static") in pairs
    assert ("adapter_static_prior", "static_prior") in pairs
    assert results["cost"].keys() == results["strategies"].keys()
    assert min(results["cost"][OWN], results["cost"][RETRAIN]) > 0


def test_what_is_forgotten_is_told_with_its_interval(finished: Run):
    results = finished.metrics["stream"]
    assert results["probed"] == [5, 10][: len(results["probed"])]
    static, own = results["forgetting"]["static"], results["forgetting"][OWN]
    assert static["before"] == static["after"] == pytest.approx(static["during"][0])
    assert static["ci95"] == [0, 0]
    low, high = own["ci95"]
    assert low <= own["after"] - own["before"] <= high
    assert len(own["during"]) == len(results["probed"]) > 0
    titles = [grid.caption for grid in stream_tables(finished.metrics)]
    for words in ("as not having come since", "as if they had just been there"):
        assert any("sample from before the stream" in t and words in t for t in titles)
    present = results["forgetting_as_present"]
    assert present.keys() == results["forgetting"].keys()
    assert present["static"] == static
    assert len(present[OWN]["during"]) == len(results["probed"])


def test_what_guards_let_through_is_told_of_every_window(finished: Run):
    results = finished.metrics["stream"]
    parts = ("correction", "popularity", "long_term_popularity")
    assert tuple(results["served"][OWN]) == parts
    assert tuple(results["served"]["popularity_transitions"]) == parts[1:]
    assert results["served"].keys().isdisjoint({"static", "session_knn", RETRAIN})
    for by_part in results["served"].values():
        for part, values in by_part.items():
            assert len(values) == results["windows"]
            assert set(values) <= set(STRENGTHS if part == "correction" else PARTS)
    (table,) = (grid for grid in stream_tables(finished.metrics) if "let through" in grid.caption)
    assert (OWN, "the correction (λ)") in [row[:2] for row in table.rows]
    page = render(finished)
    assert "What the guards of adapter let through" in page


def test_the_static_base_is_what_ranking_by_hand_gives(finished: Run):
    split = run_split(finished)
    events, base = stream_of(split.test), finished.backbone()
    before = split.train_and_valid.histories()
    hits: list[bool] = []
    past: list[tuple[int, int, int]] = []
    items = np.asarray(base.item_vectors())
    for user, item, time in zip(
        events.users.tolist(), events.items.tolist(), events.times.tolist(), strict=True
    ):
        known = before[user].tolist() + [i for u, i, t in past if u == user and t < time]
        vector = np.asarray(base.user_vectors(Histories.of([known], split.n_items)))[0]
        scores = items @ vector
        scores[[i for i in known if i != item]] = -np.inf
        rank = 1 + (scores > scores[item]).sum() + ((scores == scores[item]).sum() - 1) / 2
        hits.append(rank <= 10)
        past.append((user, item, time))
    found = finished.metrics["stream"]["strategies"]["static"]["hit@10"]["mean"]
    assert found == pytest.approx(np.mean(hits), abs=2 / len(hits))


def test_the_document_keeps_to_its_schema_and_the_page_shows_it(finished: Run):
    schema = MetricsDocument.model_json_schema()
    jsonschema.validate(json.loads((finished.folder / "metrics.json").read_text()), schema)
    page = render(finished)
    assert "NDCG@10 up to each window" in page
    assert "popularity_transitions" in page


def test_a_change_of_the_adapter_leaves_the_base_alone(saved: Path, finished: Run):
    changed = {"name": "gated_mlp", "config": {"window": 50}}
    plan = make_plan(load_pipeline(pipeline(saved, online=changed)), runs_dir=saved / "runs")
    assert [stage.name for stage in plan.stages if not stage.cached] == ["stream/online/seed-7"]


def test_a_run_plays_its_stream_again_with_the_same_numbers(finished: Run):
    session, split = replay_session(finished, [OWN, "static"])
    list(session.push(stream_of(split.test)))
    list(session.flush())
    for name in (OWN, "static"):
        stored = finished.metrics["stream"]["strategies"][name]["ndcg@10"]["mean"]
        assert session.means[name]["ndcg@10"] == pytest.approx(stored, rel=1e-6)
    with pytest.raises(StageError, match="there is no strategy nothing"):
        replay_session(finished, ["nothing"])


def test_what_is_trained_again_trains_as_long_as_early_stopping_found(saved: Path):
    config = {"epochs": 8, "dim": 8, "learning_rate": 0.3, "validate_every": 1}
    online = {
        "name": "gated_mlp",
        "config": {"window": 100, "steps": 1, "hidden": 4, "probe": 0},
        "controls": False,
        "baselines": False,
        "retrain_every": 2,
    }
    mapping = pipeline(saved, backbone={"name": "bpr_mf", "config": config}, online=online)
    done = run(load_pipeline(mapping), runs_dir=saved / "runs")
    curve = done.training["bpr_mf"]["7"]
    assert max(curve, key=lambda epoch: epoch["ndcg@10"])["epoch"] < 8
    session, split = replay_session(done, [OWN, RETRAIN])
    list(session.push(stream_of(split.test)))
    list(session.flush())
    stored = done.metrics["stream"]["strategies"][RETRAIN]["ndcg@10"]["mean"]
    assert session.means[RETRAIN]["ndcg@10"] == pytest.approx(stored, rel=1e-6)


def test_a_run_goes_on_with_events_from_outside(finished: Run):
    live = finished.online()
    ids = finished.dataset.items["id"].to_pylist()
    live.update([{"user": "new", "item": ids[3], "time": 2_000_000_000}])
    found = live.recommend("new", k=3)
    assert len(found) == 3
    assert ids[3] not in [entry["item"] for entry in found]
    assert found[0]["title"]


def test_observers_hear_of_every_window(
    saved: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
):
    heard: list[dict[str, Any]] = []
    loaded = load_pipeline(
        pipeline(saved, online={"name": "gated_mlp", "config": {"window": 200}, "controls": False,
                                "baselines": False})
    )  # fmt: skip
    notify = type(loaded.catalogue).notify

    def hear(self: Any, hook: str, **told: Any) -> None:
        if hook == "dynmm_window_finished":
            heard.append(told)
        notify(self, hook, **told)

    monkeypatch.setattr(type(loaded.catalogue), "notify", hear)
    again = run(loaded, runs_dir=saved / "runs")
    assert [told["window"] for told in heard] == list(
        range(1, again.metrics["stream"]["windows"] + 1)
    )
    assert list(again.metrics["stream"]["strategies"]) == [OWN, "static"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": {"strategy": "leave_one_out"}}, "online needs a stream"),
        ({"backbone": None, "baseline": "popularity"}, "online needs a backbone"),
        ({"online": {"name": "gated_mlp", "config": {"window": "soon"}}}, "must be a number of"),
        ({"online": {"name": "joint_alignment"}}, "joint_alignment"),
        ({"online": {"name": "gated_mlp", "config": {"windw": 5}}}, "did you mean window"),
    ],
)
def test_what_cannot_stream_is_refused(saved: Path, changed: dict[str, Any], message: str):
    settings = {k: v for k, v in pipeline(saved, **changed).items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        load_pipeline(settings)


def test_a_run_without_an_adapter_says_what_to_add(saved: Path):
    settings = {k: v for k, v in pipeline(saved).items() if k != "online"}
    plain = run(load_pipeline(settings), runs_dir=saved / "runs")
    with pytest.raises(ArtifactError, match="has no online adapter") as caught:
        plain.online()
    assert "block online" in caught.value.hint
