"""Recorded numbers against what their pipelines give."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_registry import sequences, write_component, write_registry

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.errors import ArtifactError, ConfigError
from dynmm_framework.verification import (
    _relative,
    _status,
    find_claims,
    judge,
    prepare,
    verify,
)


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the toy pipeline gives, by recommender, protocol and metric."""
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNMM_CACHE", str(folder / "cache"))
        write_component(write_registry(folder / "records"), "popularity", ("full", "hit@10", 0.5))
        patch.setattr(Catalogue, "record_folders", lambda _: (folder / "records",))
        (folder / "toy.txt").write_bytes(sequences())
        (found,) = verify("popularity", runs_dir=folder / "runs", data=folder)
    return found.run.metrics["recommenders"]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only records are those of a folder; the data lies beside them."""
    monkeypatch.setenv("DYNMM_CACHE", str(tmp_path / "cache"))
    folder = write_registry(tmp_path / "records")
    monkeypatch.setattr(Catalogue, "record_folders", lambda _: (folder,))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "toy.txt").write_bytes(sequences())
    monkeypatch.chdir(tmp_path)
    return folder


def test_each_number_is_met_exceeded_or_missed(toy: Path, ours: dict[str, Any]) -> None:
    hit = ours["popularity"]["full"]["hit@10"]["mean"]
    ndcg = ours["popularity"]["full"]["ndcg@10"]["mean"]
    sampled = ours["popularity"]["sampled:5"]["hit@5"]["mean"]
    write_component(
        toy,
        "popularity",
        ("full", "hit@10", hit * 1.04),
        ("full", "ndcg@10", ndcg * 0.9),
        ("sampled:5", "hit@5", sampled * 1.1),
    )
    (found,) = verify("popularity", data="mine")
    assert [v.status for v in found.verdicts] == ["met", "exceeded", "missed"]
    assert [v.ours for v in found.verdicts] == [hit, ndcg, sampled]
    assert found.verdicts[0].difference == pytest.approx(1 / 1.04 - 1)
    assert not found.met
    assert found.check.command == "dynmm registry verify toy"
    assert found.minutes > 0
    assert (found.run.folder / "report.html").is_file()
    assert found.run.folder.parent == Path("runs")
    assert found.run.id.startswith("toy-")
    (again,) = verify("popularity")  # the data is in the cache, the stages are in the store
    assert again.minutes == found.minutes
    assert again.run.id == found.run.id


def test_a_pipeline_answers_for_all_components_that_name_it(
    toy: Path, ours: dict[str, Any]
) -> None:
    knn = ours["item_knn"]["full"]["hit@10"]["mean"]
    write_component(toy, "popularity", ("full", "mrr", 0.2))
    write_component(toy, "item_knn", ("full", "hit@10", knn))
    for names in (("pipeline/toy",), ("toy",), (), ("popularity", "item_knn")):
        wanted = names if names != ("toy",) else ("pipeline/toy",)  # a dataset is called toy too
        (found,) = verify(*wanted, data="mine")
        assert {v.recommender for v in found.verdicts} == {"popularity", "item_knn"}
    (found,) = verify("item_knn", data="mine")
    assert [(v.recommender, v.status) for v in found.verdicts] == [("item_knn", "met")]


def test_a_record_without_numbers_says_which_have_some(toy: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        verify("ease")
    assert caught.value.message == (
        "the registry has no numbers of component ease, so there is nothing to verify"
    )
    assert caught.value.hint == "Components with numbers: none."
    write_component(toy, "popularity", ("full", "mrr", 0.2))
    with pytest.raises(ArtifactError) as caught:
        verify("ease", "popularity")
    assert caught.value.hint == "Components with numbers: popularity."


def test_a_number_that_the_pipeline_does_not_give_is_found_before_anything_runs(
    toy: Path,
) -> None:
    write_component(toy, "popularity", ("full", "hit@7", 0.1), ("sampled:9", "hit@5", 0.1))
    write_component(toy, "bpr_mf", ("full", "hit@5", 0.1))
    with pytest.raises(ConfigError) as caught:
        verify()
    assert [str(problem).partition("metrics: ")[2] for problem in caught.value.problems] == [
        "the pipeline toy has no recommender 'bpr_mf'; it has popularity, item_knn",
        "the pipeline toy has no metric 'hit@7'; it has hit@5, hit@10, ndcg@5, ndcg@10, "
        "recall@5, recall@10, mrr",
        "the pipeline toy has no protocol 'sampled:9'; it has full, sampled:5",
    ]
    assert str(toy / "popularity.yaml") in str(caught.value)
    assert not Path("runs").exists()


def test_a_protocol_that_judges_has_metrics_of_its_own(toy: Path) -> None:
    pipeline = toy / "toy.pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("{sampled: 5}", "auc, {auc: 4}"))

    def checked() -> list[str]:
        registry = Registry.load([toy])
        checks = prepare(find_claims(registry), registry, catalogue=load_catalogue())
        return [claim.number.metric for check in checks for claim in check.claims]

    write_component(toy, "popularity", ("auc", "auc", 0.5), ("auc:4", "uauc", 0.5))
    assert checked() == ["auc", "uauc"]
    write_component(toy, "popularity", ("auc", "hit@5", 0.5), ("full", "auc", 0.5))
    with pytest.raises(ConfigError) as caught:
        checked()
    told = [str(problem).partition("metrics: ")[2] for problem in caught.value.problems]
    assert told[0] == "the pipeline toy has no metric 'hit@5'; it has auc, uauc"
    assert told[1].startswith("the pipeline toy has no metric 'auc'; it has hit@5, hit@10, ")


def test_a_number_of_an_unknown_pipeline_or_dataset(toy: Path) -> None:
    write_component(toy, "popularity", ("full", "mrr", 0.2))
    text = (toy / "popularity.yaml").read_text()
    for old, new, message in (
        (
            "pipeline: toy",
            "pipeline: tooy",
            "has no pipeline 'tooy'; did you mean toy",
        ),
        ("dataset: toy", "dataset: other", "has no dataset 'other'"),
    ):
        (toy / "popularity.yaml").write_text(text.replace(old, new))
        with pytest.raises(ArtifactError, match=message):
            verify("popularity", data="mine")


def test_data_of_another_content_stops_before_any_run(toy: Path) -> None:
    write_component(toy, "popularity", ("full", "mrr", 0.2))
    Path("mine/toy.txt").write_bytes(sequences(n_users=31))
    with pytest.raises(ArtifactError, match=r"mine/toy\.txt is not toy\.txt:\n +SHA-256"):
        verify("popularity", data="mine")
    with pytest.raises(ArtifactError) as caught:
        verify("popularity", offline=True)
    assert "dynmm data fetch toy --from FOLDER" in caught.value.hint
    assert not Path("runs").exists()


def test_a_metric_that_is_undefined_is_missed(toy: Path) -> None:
    write_component(toy, "popularity", ("full", "hit@10", 0.1))
    registry = Registry.load([toy])
    (claim,) = (
        SimpleNamespace(number=number, recommender=lambda _: "popularity", record=record)
        for record in registry.records("component")
        for number in record.metrics
    )
    check: Any = SimpleNamespace(claims=(claim,))
    for values in ({}, {"hit@10": {"mean": None}}):
        metrics = {"recommenders": {"popularity": {"full": values}}}
        (verdict,) = judge(check, metrics)
        assert (verdict.ours, verdict.difference, verdict.status) == (None, None, "missed")
        assert verdict.percent == "–"
    metrics = {"recommenders": {"popularity": {"full": {"hit@10": {"mean": 0.0999999}}}}}
    (verdict,) = judge(check, metrics)
    assert verdict.percent == "+0.0 %"


@given(
    number=st.floats(0.001, 1),
    factor=st.floats(0.5, 2),
    tolerance=st.floats(0.01, 0.4),
    higher=st.booleans(),
)
def test_verdicts_are_symmetric_in_the_direction_of_the_metric(
    number: float, factor: float, tolerance: float, higher: bool
) -> None:
    difference = _relative(number * factor, number)
    assert difference == pytest.approx(factor - 1, abs=1e-9)
    status = _status(difference, tolerance, higher_is_better=higher)
    mirrored = _status(-difference, tolerance, higher_is_better=not higher)
    assert status == mirrored
    assert (status == "met") == (abs(difference) <= tolerance + 1e-12)
    if status != "met":
        assert (status == "exceeded") == ((factor > 1) == higher)


def test_a_number_of_zero_is_met_by_zero_only() -> None:
    assert _status(_relative(0.0, 0.0), 0.05, higher_is_better=True) == "met"
    assert _status(_relative(0.1, 0.0), 0.05, higher_is_better=True) == "exceeded"
    assert _status(_relative(0.1, 0.0), 0.05, higher_is_better=False) == "missed"
