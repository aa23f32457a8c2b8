"""Language models as components: the kind's conformance, and what names mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.catalogue import Catalogue
from dynmm_framework.testing import LanguageModelConformance
from dynmm_framework.testing.language_models import write_tiny_random


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_random(tmp_path_factory.mktemp("llm"), architecture="opt")


class TestHFCausalConformance(LanguageModelConformance):
    component: ClassVar[str] = "hf_causal"

    @pytest.fixture
    def make(self, dynmm_catalogue: Catalogue, folder: Path) -> Callable[..., Any]:
        component = dynmm_catalogue.find("language_model", "hf_causal")
        return lambda: dynmm_catalogue.create(component, {"model": str(folder)})


class TestTinyRandomConformance(LanguageModelConformance):
    component: ClassVar[str] = "tiny_random"


@pytest.mark.parametrize("name", ["smollm2_135m", "llama_7b", "qwen3_0_6b"])
def test_names_stand_for_weights_that_are_pinned_and_have_a_record(
    dynmm_catalogue: Catalogue, name: str
) -> None:
    component = dynmm_catalogue.find("language_model", name)
    config: Any = dynmm_catalogue.config_model(component)()
    registry = Registry.load(dynmm_catalogue.record_folders())
    record = registry.get("model", name)
    assert record is not None
    assert config.model == name or (config.revision and config.revision in record.manual)
    assert config.fingerprint(registry)


def test_no_pipeline_outside_tests_knows_random_weights() -> None:
    from dynmm_framework.catalogue import load_catalogue

    names = {component.name for component in load_catalogue().components("language_model")}
    assert "tiny_random" not in names
    assert {"hf_causal", "opt_1_3b", "smollm2_135m"} <= names
