"""A plugin-based framework for multimodal, LLM-based recommendation.

Example::

    import dynmm_framework as dynmm

    run = dynmm.run(dynmm.load_pipeline("examples/quickstart.yaml", overrides=["seed=1"]))
    run.metrics["recommenders"]["sasrec"]["full"]["ndcg@10"]["mean"]

Names are imported when first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynmm_framework.api import run, tune
    from dynmm_framework.config.load import load_pipeline
    from dynmm_framework.data.tables import Dataset
    from dynmm_framework.engine.results import Run
    from dynmm_framework.hookspecs import hookimpl
    from dynmm_framework.specs import ComponentSpec, MetricSpec

    __version__: str

__all__ = [
    "ComponentSpec",
    "Dataset",
    "MetricSpec",
    "Run",
    "__version__",
    "hookimpl",
    "load_pipeline",
    "run",
    "tune",
]

_MODULES = {
    "ComponentSpec": "specs",
    "Dataset": "data.tables",
    "MetricSpec": "specs",
    "Run": "engine.results",
    "hookimpl": "hookspecs",
    "load_pipeline": "config.load",
    "run": "api",
    "tune": "api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("dynmm-framework")
    elif name in _MODULES:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
