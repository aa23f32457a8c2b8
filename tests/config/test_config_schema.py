from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_components import Rival
from jsonschema import Draft202012Validator

from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.config.schema import json_schema
from dynmm_framework.config.yaml import parse

EXAMPLES = Path(__file__).parents[2] / "examples"


def mistakes(schema: dict[str, Any], text: str) -> list[str]:
    errors = Draft202012Validator(schema).iter_errors(parse(text).data)
    return sorted(".".join(map(str, error.absolute_path)) for error in errors)


def whole(**blocks: str) -> str:
    parts = {"data": "toy", "split": "{strategy: mmrec}", "backbone": "deep_net", **blocks}
    return "version: 1\n" + "\n".join(f"{key}: {text}" for key, text in parts.items())


@pytest.fixture
def schema(catalogue: Catalogue) -> dict[str, Any]:
    return json_schema(catalogue)


def test_the_schema_is_a_schema_and_plain_json(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    references = {part.split('"')[0] for part in json.dumps(schema).split('"$ref": "#/$defs/')[1:]}
    assert references == set(schema["$defs"])


@pytest.mark.parametrize(
    "text",
    [
        whole(),
        whole(backbone="Deep-Net"),
        whole(backbone="{name: fakes/deep_net, config: {hidden_size: 3, optimiser: {rate: 1}}}"),
        whole(data="{name: file, config: {path: x.csv}, filters: {k_core: 5}}"),
        whole(split="{strategy: temporal_user, ratios: [0.8, 0.1, 0.1]}"),
        whole(evaluate="{protocols: [full, {sampled: 9}], metrics: [hit, auc], at: [1]}"),
        whole(evaluate="{protocols: [{cold: 1}, cold:5, sampled:100]}"),
        whole(split="{strategy: cold_items, share: 0.1}"),
        whole(evaluate="{compare_with: [counts, {name: deep_net, config: {layers: 1}}]}"),
        whole(backbone="null", baseline="counts", tracking="{name: mlflow, options: {a: 1}}"),
        "extends: base.yaml\nbackbone: {config: {layers: 1}}\nsplit: {ratios: [0.5, 0.3, 0.2]}",
        "extends: base.yaml\ndata: {config: {columns: {a: b}}}",
    ],
)
def test_good_files_fit(schema: dict[str, Any], text: str) -> None:
    assert mistakes(schema, text) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (whole(sed="3"), ""),
        (whole(backbone="nope"), "backbone"),
        (whole(backbone="{name: deep_net, config: {hiden: 3}}"), "backbone"),
        (whole(backbone="{name: deep_net, config: {layers: 0}}"), "backbone"),
        (whole(backbone="{config: {}}"), "backbone"),
        (whole(data="{name: file}"), "data"),
        (whole(data="{name: file, config: {}}"), "data.config"),
        (whole(split="{strategy: zzz}"), "split"),
        (whole(evaluate="{metrics: [ndgc]}"), "evaluate.metrics.0"),
        (whole(evaluate="{compare_with: [toy]}"), "evaluate.compare_with.0"),
        (whole(evaluate="{compare_with: [{config: {}}]}"), "evaluate.compare_with.0"),
        (whole(evaluate="{protocols: [ful]}"), "evaluate.protocols.0"),
        (whole(evaluate="{protocols: [cold]}"), "evaluate.protocols.0"),
        (whole(evaluate="{protocols: [cold:0]}"), "evaluate.protocols.0"),
        (whole(evaluate="{protocols: [{cold: 0}]}"), "evaluate.protocols.0"),
        (whole(split="{strategy: cold_items, share: 1}"), "split"),
        ("version: 1\ndata: toy\nbackbone: deep_net", ""),
        ("version: 1\ndata: toy\nsplit: {strategy: mmrec}", ""),
        ("extends: 3", "extends"),
    ],
)
def test_bad_files_do_not(schema: dict[str, Any], text: str, place: str) -> None:
    assert place in mistakes(schema, text)


def test_settings_are_described_by_their_models(schema: dict[str, Any]) -> None:
    settings = schema["$defs"]["backbone.fakes.deep_net"]
    assert settings["description"] == "The component Deep-Net\n\nSettings of a deep backbone."
    assert settings["properties"]["hidden_size"] == {
        "default": 64,
        "description": "Width of the hidden states.",
        "minimum": 1,
        "title": "Hidden Size",
        "type": "integer",
    }
    assert settings["additionalProperties"] is False
    assert schema["properties"]["version"]["const"] == 1
    assert schema["properties"]["seed"]["description"].startswith("Root seed")


def test_a_component_that_cannot_be_imported_is_listed_by_name(schema: dict[str, Any]) -> None:
    assert "unloadable" in schema["$defs"]["baseline"]["then"]["enum"]
    assert mistakes(schema, whole(backbone="null", baseline="{name: unloadable}")) == []


def test_a_name_of_two_providers_is_written_in_full(catalogue: Catalogue) -> None:
    catalogue.register(Rival(), name="rival", distribution="Acme-Rec")
    schema = json_schema(catalogue)
    names = schema["$defs"]["baseline"]["then"]["enum"]
    assert names == ["Acme-Rec/counts", "fakes/counts", "fakes/unloadable", "unloadable"]
    metrics = schema["$defs"]["EvaluateBlock"]["properties"]["metrics"]["items"]["enum"]
    assert "ndcg" not in metrics
    assert {"Acme-Rec/ndcg", "fakes/ndcg", "hit"} <= set(metrics)


def test_without_plugins_there_is_a_schema_too() -> None:
    Draft202012Validator.check_schema(json_schema(Catalogue()))


def test_every_example_fits_the_schema_of_this_installation() -> None:
    catalogue = load_catalogue()
    validator = Draft202012Validator(json_schema(catalogue))
    files = sorted(EXAMPLES.glob("*.yaml"))
    if not files:
        pytest.skip("there are no examples yet")
    for file in files:
        assert [e.message for e in validator.iter_errors(parse(file).data)] == []
        loaded = load_pipeline(file, catalogue=catalogue)
        assert [e.message for e in validator.iter_errors(loaded.resolved())] == []
