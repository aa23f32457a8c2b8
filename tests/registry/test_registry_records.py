"""The records that we ship: whole, right where it can be checked, fetched for real when slow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dynmm_framework.artifacts.record_types import PypiSource
from dynmm_framework.artifacts.records import (
    ComponentRecord,
    DatasetRecord,
    ModelRecord,
    PipelineRecord,
    Registry,
)
from dynmm_framework.artifacts.sources import Fetcher
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.errors import ArtifactError
from dynmm_framework.verification import find_claims, prepare
from dynmm_registry.plugin import dynmm_register_records

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load(dynmm_register_records())


def test_every_record_is_where_its_kind_and_name_say(registry: Registry) -> None:
    (root,) = dynmm_register_records()
    for record in registry.records():
        assert registry.path(record) == root / f"{record.kind}s" / f"{record.name}.yaml"


def test_named_datasets_models_and_components_are_there(registry: Registry) -> None:
    names = {kind: {record.name for record in registry.records(kind)} for kind in HOOKS_OF_RECORDS}
    assert {"movielens_100k", "movielens_1m"} <= names["dataset"]
    models = {"smollm2_135m", "all_minilm_l6_v2", "efficientnet_lite1", "moonshine_tiny"}
    assert models <= names["model"]
    components = {"popularity", "item_knn", "bpr_mf", "sasrec", "lightgcn"}
    assert components <= names["component"]


HOOKS_OF_RECORDS = ("dataset", "model", "component")


def test_every_record_says_where_it_comes_from_and_what_its_licence_is(registry: Registry) -> None:
    for record in registry.records():
        assert record.paper is not None, record.name
        assert record.licence, record.name
        if isinstance(record, DatasetRecord | ModelRecord):
            assert record.homepage, record.name


def test_sources_are_tied_to_one_version(registry: Registry) -> None:
    for record in registry.records():
        for source in getattr(record, "sources", ()):
            if isinstance(source, PypiSource):
                assert source.pypi.sha256, record.name
                assert source.pypi.bytes, record.name


def test_component_records_agree_with_the_plugins(registry: Registry) -> None:
    catalogue = load_catalogue()
    for record in registry.records("component"):
        assert isinstance(record, ComponentRecord)
        component = catalogue.find(record.provides, record.name)
        assert component.provider.distribution == record.distribution, record.name
        assert (component.spec.extra or None) == record.extra, record.name


def test_verified_metrics_name_pipelines_and_datasets_of_the_registry(registry: Registry) -> None:
    for record in registry.records():
        if isinstance(record, ComponentRecord | PipelineRecord):
            for metric in record.metrics:
                assert registry.get("pipeline", metric.pipeline), record.name
                assert registry.get("dataset", metric.dataset), record.name


def test_every_recommender_has_numbers_and_every_pipeline_gives_some(registry: Registry) -> None:
    components = [r for r in registry.records("component") if isinstance(r, ComponentRecord)]
    kinds = ("backbone", "baseline")
    assert [r.name for r in components if r.provides in kinds and not r.metrics] == []
    named = {number.pipeline for record in components for number in record.metrics}
    assert named == {record.name for record in registry.records("pipeline")}


def test_pipelines_give_the_numbers_of_the_records(registry: Registry) -> None:
    checks = prepare(find_claims(registry), registry, catalogue=load_catalogue())
    for check in checks:
        assert check.loaded.name == check.pipeline
        datasets = {claim.number.dataset for claim in check.claims}
        data = check.loaded.pipeline.data
        assert datasets == {data.config.get("record", data.name)}, check.pipeline


def test_the_example_is_the_pipeline_of_the_record(registry: Registry) -> None:
    example = load_pipeline(ROOT / "examples" / "beauty.yaml")
    assert example.resolved() == load_pipeline(registry.pipeline_file("sasrec_beauty")).resolved()


def test_beauty_and_games_are_the_files_that_are_here(
    registry: Registry, real_data: Path, tmp_path: Path
) -> None:
    for name in ("amazon_beauty", "amazon_games"):
        record = registry.find_files(name)
        for source in record.sources:  # a branch would change under the digests
            assert re.search(r"/[0-9a-f]{40}/", source.label), source.label
        folder = Fetcher(tmp_path, offline=True, folder=real_data).fetch(record)
        assert {path.name for path in folder.iterdir()} == set(record.files)


def test_movielens_1m_is_fetched_by_hand(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        Fetcher(tmp_path).fetch(registry.find_files("movielens_1m"))
    assert caught.value.message == "dataset movielens_1m has to be fetched by hand"
    for part in ("https://grouplens.org/datasets/movielens/1m/", "ratings.dat", "config: {path: "):
        assert part in caught.value.hint


def test_door_is_light() -> None:
    code = (
        "import sys, dynmm_registry.plugin\n"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'ruamel.yaml') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["movielens_100k", "smollm2_135m", "all_minilm_l6_v2", "efficientnet_lite1", "moonshine_tiny"],
)
def test_real_files_are_fetched_and_right(registry: Registry, tmp_path: Path, name: str) -> None:
    record = registry.find_files(name)
    folder = Fetcher(tmp_path).fetch(record)
    fetched = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert fetched == set(record.files)
    assert {finding.status for finding in Fetcher(tmp_path).verify(record)} == {"ok"}
    if name == "movielens_100k":
        lines = (folder / "ml-100k.inter").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1 + 100_000
