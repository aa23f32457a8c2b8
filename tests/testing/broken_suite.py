"""Conformance tests of broken components, run by test_testing_conformance.py in a pytest of its
own.

Not collected by itself: most of these tests are meant to fail.
"""

from __future__ import annotations

from types import SimpleNamespace

import broken_heavy_plugin
import broken_plugin
import pytest

from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.testing import BackboneConformance, BaselineConformance


@pytest.fixture(scope="session")
def dynmm_catalogue() -> Catalogue:
    catalogue = load_catalogue(only=["ranking_metrics"])
    for module in (broken_plugin, broken_heavy_plugin):
        catalogue.register(module, name=module.__name__)
    failing = SimpleNamespace(dynmm_register_baselines=hookimpl(lambda: 1 / 0))
    catalogue.register(failing, name="failing", distribution="acme")
    return catalogue


RANGE = {"ndcg@10": (0.4, 0.6)}


def suite(component: str, *bases: type, **settings: object) -> type:
    body = {"component": component, "expected": RANGE, **settings}
    return type(f"Test_{component}", bases or (BaselineConformance,), body)


for name in broken_plugin.BASELINES:
    globals()[f"Test_{name}"] = suite(name)
for name in broken_plugin.BACKBONES:
    globals()[f"Test_{name}"] = suite(name, BackboneConformance)

Test_lossy.config = {"rate": 0.25}  # noqa: F821
Test_heavy = suite("heavy")
Test_missing = suite("goood")
Test_nameless = suite("")
Test_expects_nothing = suite("good", expected={})
Test_expects_anything = suite("good", expected={"ndcg@10": (0.0, 1.0)})
Test_expects_no_cutoff = suite("good", expected={"ndcg": (0.3, 0.5)})


class PretendedGPU:
    """These components never look for a GPU, so it can be pretended."""

    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)


Test_on_gpu = suite("Epochs", PretendedGPU, BaselineConformance)
Test_OtherOnGPU = suite("OtherOnGPU", PretendedGPU, BaselineConformance)
Test_NothingOnGPU = suite("NothingOnGPU", PretendedGPU, BaselineConformance)
Test_tolerant = suite("Unseeded", deterministic_within=0.1)
