"""Runs side by side."""

from __future__ import annotations

import pytest
from fake_run import write_fake_run

from dynmm_framework.engine.results import Run
from dynmm_framework.errors import ArtifactError
from dynmm_framework.reports.comparison import compare_runs


@pytest.fixture
def load(tmp_path):
    def make(name: str, **settings) -> Run:
        return Run.load(write_fake_run(tmp_path / name, **settings))

    return make


def found_in(comparison, **wanted):
    return [
        test
        for test in comparison.metrics["comparisons"]
        if all(test[key] == value for key, value in wanted.items())
    ]


def test_the_same_run_twice_does_not_differ(load):
    run = load("a")
    comparison = compare_runs([run, run], metrics=["ndcg@10"])
    (test,) = found_in(comparison, protocol="full", b="B sasrec")
    assert test["difference"] == 0
    assert test["p_t"] == 1
    assert comparison.differences == {}
    assert comparison.notes == ()


def test_a_better_run_is_seen_as_better_over_common_users(load):
    a = load("a", users=range(120), noise=1, skill={"sasrec": 0.5})
    b = load("b", users=range(60, 200), noise=2, skill={"sasrec": 0.2}, settings={"layers": 3})
    comparison = compare_runs([a, b], metrics=["ndcg@10"], protocols=["full"])
    (test,) = comparison.metrics["comparisons"]
    assert (test["a"], test["b"], test["n"]) == ("A sasrec", "B sasrec", 60)
    assert test["difference"] == pytest.approx(0.3, abs=0.08)
    assert test["p_adjusted"] < 0.001
    assert comparison.differences == {"backbone.config.layers": (None, 3)}
    (table,) = comparison.tables
    assert [row.label for row in table.rows] == ["A sasrec", "B sasrec"]
    assert table.rows[1].cells[0].stars == "***"


def test_users_are_matched_by_their_own_ids_not_by_their_place(load):
    a = load("a", users=range(100))
    b = load("b", users=range(99, -1, -1))
    comparison = compare_runs([a, b], metrics=["ndcg@10"], protocols=["full"])
    (test,) = found_in(comparison, b="B sasrec")
    assert test["n"] == 100
    # The same draws go to other users, so that the pairs differ although the means agree.
    assert test["difference"] == pytest.approx(0, abs=1e-9)
    assert test["ci95"][0] < 0 < test["ci95"][1]


def test_seeds_are_averaged_before_anything_is_tested(load):
    a, b = load("a", seeds=(1, 2, 3)), load("b", seeds=(1,))
    comparison = compare_runs([a, b], metrics=["ndcg@10"], protocols=["full"])
    assert {test["n"] for test in comparison.metrics["comparisons"]} == {120}


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"split_hash": "6" * 64}, "another split"),
        ({"data_fingerprint": "e" * 64}, "other data"),
    ],
)
def test_runs_on_other_tasks_are_shown_but_not_tested(load, settings, note):
    comparison = compare_runs([load("a"), load("b", **settings)], metrics=["ndcg@10"])
    assert note in comparison.notes[0]
    assert not found_in(comparison, b="B sasrec")
    assert found_in(comparison, b="A item_knn")
    assert "B sasrec" in comparison.metrics["recommenders"]


def test_metrics_of_whole_lists_are_shown_but_not_tested(load):
    run = load("a")
    for by_protocol in run.metrics["recommenders"].values():
        by_protocol["full"]["coverage@10"] = {"mean": 0.5, "ci95": None, "per_seed": {"7": 0.5}}
    comparison = compare_runs([run, run], metrics=["coverage@10"])
    assert comparison.metrics["comparisons"] == []
    assert comparison.tables[0].metrics == ("coverage@10",)


def test_an_unknown_metric_or_protocol_is_an_error_with_a_suggestion(load):
    run = load("a")
    with pytest.raises(ArtifactError, match=r"metric 'ndgc@10'; did you mean ndcg@10\?"):
        compare_runs([run, run], metrics=["ndgc@10"])
    with pytest.raises(ArtifactError, match=r"protocol 'sampled:10'; did you mean sampled:100\?"):
        compare_runs([run, run], protocols=["sampled:10"])
