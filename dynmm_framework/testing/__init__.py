"""For authors of plugins: generated data, contexts, and one conformance class for each kind.

A plugin's test is a subclass with three class variables::

    from dynmm_framework.testing import BackboneConformance

    class TestMyModel(BackboneConformance):
        component = "my_model"
        config = {"hidden_size": 16, "epochs": 5}
        expected = {"ndcg@10": (0.25, 0.60)}

The fixtures that the classes use come with the package as a pytest plugin
(:mod:`dynmm_framework.testing.pytest_plugin`). A component whose plugin is installed is found by
its entry point. One that is not installed yet is registered by overriding a fixture, in the test
module, in ``conftest.py`` or in the class::

    import pytest
    import my_package.plugin
    from dynmm_framework.catalogue import load_catalogue

    @pytest.fixture(scope="session")
    def dynmm_catalogue():
        catalogue = load_catalogue()
        catalogue.register(my_package.plugin, name="my_plugin")
        return catalogue

The classes need pytest and the extra ``torch``; :func:`generate_dataset` needs neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynmm_framework.testing.conformance import BackboneConformance, BaselineConformance
    from dynmm_framework.testing.conformance.align import AlignConformance
    from dynmm_framework.testing.conformance.dataset import DatasetConformance
    from dynmm_framework.testing.conformance.encoder import (
        EncoderConformance,
        FeatureReaderConformance,
    )
    from dynmm_framework.testing.conformance.evidence import EvidenceConformance
    from dynmm_framework.testing.conformance.language_model import LanguageModelConformance
    from dynmm_framework.testing.conformance.online import OnlineConformance
    from dynmm_framework.testing.conformance.prompt import PromptConformance
    from dynmm_framework.testing.contexts import ContextFactory
    from dynmm_framework.testing.generated import generate_dataset

__all__ = [
    "AlignConformance",
    "BackboneConformance",
    "BaselineConformance",
    "ContextFactory",
    "DatasetConformance",
    "EncoderConformance",
    "EvidenceConformance",
    "FeatureReaderConformance",
    "LanguageModelConformance",
    "OnlineConformance",
    "PromptConformance",
    "generate_dataset",
]

_MODULES = {
    "AlignConformance": "conformance.align",
    "BackboneConformance": "conformance",
    "BaselineConformance": "conformance",
    "ContextFactory": "contexts",
    "DatasetConformance": "conformance.dataset",
    "EncoderConformance": "conformance.encoder",
    "EvidenceConformance": "conformance.evidence",
    "FeatureReaderConformance": "conformance.encoder",
    "LanguageModelConformance": "conformance.language_model",
    "OnlineConformance": "conformance.online",
    "PromptConformance": "conformance.prompt",
    "generate_dataset": "generated",
}

_INSTALL = {"pytest": "pytest", "torch": "dynmm-framework[torch]"}


def __getattr__(name: str) -> Any:
    # Lazy, because pytest imports this package on its way to the plugin, in every project.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in _INSTALL:
            raise
        raise ImportError(
            f"{name} needs {error.name}, which is not installed: pip install"
            f" '{_INSTALL[error.name]}'",
            name=error.name,
        ) from error
    return getattr(module, name)
