"""The soft prompt under the conformance kit, on a tiny language model with random weights."""

from __future__ import annotations

from dynmm_framework.testing import PromptConformance


class TestSlots(PromptConformance):
    component = "soft_prompt"
    config = {
        "llm": "tiny_random", "examples": 12, "epochs": 1, "batch_size": 6, "hidden": 8,
        "candidates": 4, "history": 3, "history_titles": 1, "validation_users": 20,
    }  # fmt: skip


class TestWithoutLanguageModel(PromptConformance):
    component = "soft_prompt"
    config = {**TestSlots.config, "scorer": "direct"}
