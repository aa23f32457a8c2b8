"""What every component must do, as test classes to subclass; one for each kind.

A failed check prints what is wrong and what to do about it, without a traceback; a traceback is
the component's own.
"""

from dynmm_framework.testing.conformance.component import ComponentConformance
from dynmm_framework.testing.conformance.recommender import (
    BackboneConformance,
    BaselineConformance,
    RecommenderConformance,
)

__all__ = [
    "BackboneConformance",
    "BaselineConformance",
    "ComponentConformance",
    "RecommenderConformance",
]
