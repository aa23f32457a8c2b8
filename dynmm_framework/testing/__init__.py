"""For authors of plugins: a generated dataset, contexts, and one conformance class per kind.

A plugin's test is a subclass with a few class variables::

    from dynmm_framework.testing import BackboneConformance

    class TestMyModel(BackboneConformance):
        component = "my_model"
        config = {"hidden_size": 16, "epochs": 5}
        expected = {"ndcg@10": (0.10, 0.60)}

The fixtures that the classes use come with the package as a pytest plugin.
"""

from __future__ import annotations

from dynmm_framework.testing.conformance import BackboneConformance, BaselineConformance
from dynmm_framework.testing.generated import generate_dataset

__all__ = ["BackboneConformance", "BaselineConformance", "generate_dataset"]
