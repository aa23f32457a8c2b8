"""What each kind of component can do, as structural types. No torch import, no base classes.

A component is built as ``Class(config)`` with an instance of its own configuration model. Items
are integers ``0 .. n_items - 1``; users are *histories*, so a user unseen in training is served
like any other. Arrays are NumPy unless a torch tensor is named.
"""

from __future__ import annotations

from dynmm_framework.protocols.adapters import (
    Adapter,
    AlignAdapter,
    OnlineAdapter,
    PromptAdapter,
    UserCorrection,
)
from dynmm_framework.protocols.arrays import FloatArray, IntArray, Precision, Scores, State
from dynmm_framework.protocols.components import (
    Backbone,
    Composed,
    DatasetReader,
    EvidenceExtractor,
    FeatureReader,
    Metric,
    ModalityEncoder,
    Recommender,
    Retriever,
    Stateful,
    Tracker,
)
from dynmm_framework.protocols.context import Context, Leg, Validator, Workers
from dynmm_framework.protocols.language import LanguageModel

__all__ = [
    "Adapter",
    "AlignAdapter",
    "Backbone",
    "Composed",
    "Context",
    "DatasetReader",
    "EvidenceExtractor",
    "FeatureReader",
    "FloatArray",
    "IntArray",
    "LanguageModel",
    "Leg",
    "Metric",
    "ModalityEncoder",
    "OnlineAdapter",
    "Precision",
    "PromptAdapter",
    "Recommender",
    "Retriever",
    "Scores",
    "State",
    "Stateful",
    "Tracker",
    "UserCorrection",
    "Validator",
    "Workers",
]
