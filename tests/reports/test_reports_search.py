"""The page of a search, made of plain data."""

from __future__ import annotations

import re
from typing import Any

from dynmm_framework.reports.search import Parallel, gather_search, parallel, write_search_report

SPACE = {
    "backbone.name": {"choice": ["sasrec", "<b>"]},
    "backbone.config.dropout": {"float": {"low": 0.0, "high": 1.0}, "when": {"a": 1}},
    "align.config.dropout": {"log": {"low": 1e-4, "high": 1.0}},
}


def trial(number: int, value: float | None, **params: Any) -> dict[str, Any]:
    return {
        "number": number,
        "state": "failed" if value is None else "finished",
        "params": {path: params[key] for path, key in KEYS.items() if key in params},
        "metrics": {} if value is None else {"ndcg@10": value, "latency": 10.0 - number},
        "epochs": [],
        "seconds": 1.5,
        "reason": "ZeroDivisionError: <script>" if value is None else "",
    }


KEYS = {"backbone.name": "name", "backbone.config.dropout": "drop", "align.config.dropout": "rate"}
TRIALS = [
    trial(1, 0.1, name="sasrec", drop=0.5, rate=1e-4),
    trial(2, 0.4, name="<b>", rate=1e-2),
    trial(3, None, name="<b>", rate=1e-1),
    trial(4, 0.2, name="sasrec", drop=1.0, rate=1.0),
]


def manifest(**changed: Any) -> dict[str, Any]:
    return {
        "search": "p-search-1",
        "created": "2026-01-02T03:04:05Z",
        "name": "p",
        "source": "p.yaml",
        "status": "finished",
        "settings": {"sampler": "tpe", "scheduler": {"name": "asha"}},
        "space": SPACE,
        "objectives": [{"name": "ndcg@10", "direction": "max"}],
        "engine": "local",
        "trials": {"finished": 3, "failed": 1},
        "best": 2,
        "front": [],
        "importance": {"align.config.dropout": 0.25, "backbone.name": 0.75},
        "test": {"metrics": {"ndcg@10": 0.35}},
        "seconds": 12.0,
        **changed,
    }


def done() -> list[dict[str, Any]]:
    return [trial for trial in TRIALS if trial["state"] == "finished"]


def test_the_headline_has_both_numbers():
    content = gather_search(manifest(), TRIALS)
    assert "Trial 2 of 4 reaches NDCG@10 0.4000 on validation users." in content.headline
    assert "On test users, whom no trial saw: 0.3500." in content.headline
    assert [bar.percent for bar in content.importance] == [75.0, 25.0]


def test_the_history_never_falls():
    chart = gather_search(manifest(), TRIALS).history
    assert chart is not None
    assert [row[1] for row in chart.rows] == ["0.1000", "0.4000", "0.4000"]
    best, points = chart.lines
    assert best.pieces
    assert not points.pieces
    assert len(points.marks) == 3


def test_parallel_coordinates_have_an_axis_a_setting_and_the_metric_last():
    drawn = parallel(done(), SPACE, "ndcg@10", "max")
    assert drawn is not None
    titles = ["name", "backbone dropout", "align dropout", "NDCG@10"]
    assert [axis.title for axis in drawn.axes] == titles
    assert drawn.ways[-1].title == "trial 2: NDCG@10 0.4000"  # the best is drawn above the others
    assert drawn.ways[-1].colour == 0
    places = {w.title[6]: [p.split(",") for p in w.points.split()] for w in drawn.ways}
    assert float(places["2"][3][1]) < float(places["4"][3][1]) < float(places["1"][3][1])
    assert float(places["2"][1][1]) == Parallel.bottom  # it has no such setting
    heights = [float(places[n][2][1]) for n in ("4", "2", "1")]  # 1, 0.01 and 0.0001
    assert heights[1] - heights[0] == heights[2] - heights[1] > 0
    assert parallel([], SPACE, "ndcg@10", "max") is None


def test_two_objectives_are_drawn_against_each_other():
    objectives = [
        {"name": "ndcg@10", "direction": "max"},
        {"name": "latency", "direction": "min"},
    ]
    content = gather_search(manifest(objectives=objectives, front=[2, 4]), TRIALS)
    assert content.trade_off is not None
    assert [legend.label for legend in content.trade_off.legend] == ["front", "other trials"]


def test_the_page_quotes_what_comes_from_data(tmp_path):
    page = write_search_report(tmp_path, manifest(), TRIALS).read_text()
    assert "<script>" not in page
    assert "ZeroDivisionError: &lt;script&gt;" in page
    assert "&lt;b&gt;" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_a_search_without_a_finished_trial_has_a_page(tmp_path):
    nothing = manifest(best=None, importance={}, test={}, trials={"failed": 1})
    page = write_search_report(tmp_path, nothing, TRIALS[2:3]).read_text()
    assert "None of 1 trials was finished." in page
