from __future__ import annotations

from typing import Any

import pytest

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.errors import PluginError
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import Component, ComponentSpec, MetricSpec, closest, fold, split_metric


def spec(name: str, **fields: Any) -> ComponentSpec:
    return ComponentSpec(
        **{"target": "a.b:C", "config": "a.c:D", "summary": "s", **fields}, name=name
    )


class Plugin:
    def __init__(self, **records: list[ComponentSpec]) -> None:
        self.records = records

    @hookimpl
    def dynmm_register_backbones(self) -> list[ComponentSpec]:
        return self.records.get("backbones", [])

    @hookimpl
    def dynmm_register_baselines(self) -> list[ComponentSpec]:
        return self.records.get("baselines", [])

    @hookimpl
    def dynmm_register_adapters(self) -> list[ComponentSpec]:
        return self.records.get("adapters", [])

    @hookimpl
    def dynmm_register_evidence_extractors(self) -> list[ComponentSpec]:
        return self.records.get("evidence", [])

    @hookimpl
    def dynmm_register_metrics(self) -> list[MetricSpec]:
        names = ("ndcg", "auc")
        return [MetricSpec(name=n, target="a:b", higher_is_better=True, summary="s") for n in names]


@pytest.fixture
def catalogue() -> Catalogue:
    catalogue = Catalogue()
    ours = Plugin(
        backbones=[spec("SASRec"), spec("lightgcn"), spec("popularity")],
        baselines=[spec("popularity"), spec("item_knn")],
        adapters=[spec("gated_mlp", slot="online"), spec("joint", slot="align")],
        evidence=[spec("attention")],
    )
    catalogue.register(ours, name="ours", distribution="dynmm-framework", version="0.1.0")
    return catalogue


def error(catalogue: Catalogue, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PluginError) as caught:
        catalogue.find(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("name", ["sasrec", "SASRec", " Sasrec ", "dynmm_framework/SASRec"])
def test_names_are_folded(catalogue: Catalogue, name: str) -> None:
    component = catalogue.find("backbone", name)
    assert component.name == "sasrec"
    assert component.identity == "dynmm-framework==0.1.0/sasrec"


def test_folding_keeps_letters_and_digits() -> None:
    assert fold("A-LLMRec") == "a_llmrec" == fold("a__llmrec!") == fold(" A LLMRec")


def test_an_unknown_name_gives_the_closest_and_all(catalogue: Catalogue) -> None:
    assert error(catalogue, "backbone", "sasrek") == (
        "unknown backbone 'sasrek'; did you mean sasrec?\n  installed: lightgcn, popularity, sasrec"
    )
    assert error(catalogue, "backbone", "xyz") == (
        "unknown backbone 'xyz'\n  installed: lightgcn, popularity, sasrec"
    )
    assert error(catalogue, ("baseline", "backbone"), "lightgnc") == (
        "unknown baseline or backbone 'lightgnc'; did you mean lightgcn?\n"
        "  installed: item_knn, lightgcn, popularity, sasrec"
    )
    assert error(catalogue, "encoder", "clip") == "unknown encoder 'clip'\n  installed: none"


def test_a_name_of_another_kind_is_said_to_be_that(catalogue: Catalogue) -> None:
    assert "unknown backbone 'item_knn'; it is a baseline" in error(
        catalogue, "backbone", "item_knn"
    )
    assert "unknown dataset 'gated_mlp'; it is an adapter" in error(
        catalogue, "dataset", "gated_mlp"
    )
    assert "unknown dataset 'attention'; it is an evidence extractor" in error(
        catalogue, "dataset", "attention"
    )


def test_an_unknown_distribution_gives_the_right_one(catalogue: Catalogue) -> None:
    assert "unknown backbone 'acme/sasrec'; did you mean sasrec?" in error(
        catalogue, "backbone", "acme/sasrec"
    )


def test_the_install_command_is_given_where_it_is_known(catalogue: Catalogue) -> None:
    catalogue.hints = {"bert4rec": "pip install dynmm-bert4rec"}.get
    assert error(catalogue, "backbone", "bert4rec").endswith(
        "; to install it: pip install dynmm-bert4rec"
    )
    assert "to install it" not in error(catalogue, "backbone", "gru4rec")


def test_plugins_that_failed_are_mentioned(catalogue: Catalogue) -> None:
    catalogue.register(Plugin(backbones=[spec("-")]), name="gru", distribution="acme")
    assert error(catalogue, "backbone", "gru4rec").endswith(
        "; could not be loaded: gru (see dynmm plugins list)"
    )


def test_two_providers_of_one_name_are_both_listed_and_must_be_told_apart(
    catalogue: Catalogue,
) -> None:
    catalogue.register(
        Plugin(backbones=[spec("sasrec")]), name="acme", distribution="Acme-Rec", version="2"
    )
    assert len([c for c in catalogue.components("backbone") if c.name == "sasrec"]) == 2
    assert error(catalogue, "backbone", "SASRec") == (
        "backbone 'sasrec' is provided by Acme-Rec==2 and by dynmm-framework==0.1.0\n"
        "  write Acme-Rec/sasrec or dynmm-framework/sasrec"
    )
    assert str(catalogue.find("backbone", "acme_rec/sasrec").provider) == "Acme-Rec==2"
    assert str(catalogue.find("backbone", "dynmm-framework/sasrec").provider).startswith("dynmm")
    assert error(catalogue, "backbone", "sasre").endswith(
        "installed: lightgcn, popularity, Acme-Rec/sasrec, dynmm-framework/sasrec"
    )
    assert "unknown backbone 'x/sasrec'; did you mean Acme-Rec/sasrec, dynmm-fr" in error(
        catalogue, "backbone", "x/sasrec"
    )
    with pytest.raises(PluginError, match="metric 'ndcg' is provided by Acme-Rec==2 and by dyn"):
        catalogue.metric("ndcg")
    assert catalogue.metric("Acme-Rec/NDCG").name == "ndcg"


def test_of_several_kinds_of_one_distribution_the_first_is_meant(catalogue: Catalogue) -> None:
    assert catalogue.find(("baseline", "backbone"), "popularity").kind == "baseline"
    assert catalogue.find(("backbone", "baseline"), "popularity").kind == "backbone"
    assert catalogue.find(("baseline", "backbone"), "sasrec").kind == "backbone"


def test_a_baseline_of_another_distribution_does_not_hide_a_backbone(catalogue: Catalogue) -> None:
    catalogue.register(Plugin(baselines=[spec("sasrec")]), name="acme", distribution="acme")
    assert "is provided by acme==0 and by dynmm-framework==0.1.0" in error(
        catalogue, ("baseline", "backbone"), "sasrec"
    )


def test_an_adapter_is_found_by_its_slot(catalogue: Catalogue) -> None:
    assert catalogue.find("adapter", "gated_mlp", slot="online").spec.slot == "online"
    assert catalogue.find("adapter", "gated_mlp").name == "gated_mlp"
    assert error(catalogue, "adapter", "gated_mlp", slot="align") == (
        "adapter 'gated_mlp' works in the slot online, not align\n  for align: joint"
    )
    assert error(catalogue, "adapter", "join", slot="align").endswith("installed: joint")


def test_an_unknown_metric_gives_the_closest(catalogue: Catalogue) -> None:
    with pytest.raises(PluginError) as caught:
        catalogue.metric("ndgc")
    assert str(caught.value) == (
        "unknown metric 'ndgc'; did you mean ndcg?\n  installed: auc, ndcg"
    )


def test_components_are_in_order(catalogue: Catalogue) -> None:
    names = [(c.kind, c.name) for c in catalogue.components()]
    assert names == sorted(names)
    assert all(isinstance(c, Component) for c in catalogue.components("adapter"))


@pytest.mark.parametrize(
    ("name", "parts"), [("ndcg@10", ("ndcg", 10)), ("auc", ("auc", None)), ("a/b@1", ("a/b", 1))]
)
def test_a_metric_is_split(name: str, parts: tuple[str, int | None]) -> None:
    assert split_metric(name) == parts


@pytest.mark.parametrize("name", ["ndcg@", "ndcg@0", "ndcg@-1", "ndcg@x", "ndcg@1@2", "ndcg@²"])
def test_a_bad_cut_off_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be a positive whole number, as in ndcg@10"):
        split_metric(name)


def test_the_closest_is_found_whatever_the_case() -> None:
    assert closest("SASREK", ["SASRec", "bpr"]) == "SASRec"
    assert closest("x", ["SASRec"]) == ""
