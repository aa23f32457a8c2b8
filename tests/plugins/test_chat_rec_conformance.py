from __future__ import annotations

from typing import Any, ClassVar

import pytest

from dynmm_framework.data.tables import Dataset
from dynmm_framework.testing import BaselineConformance, generate_dataset


@pytest.fixture(scope="session")
def dynmm_dataset() -> Dataset:
    return generate_dataset(n_users=40, n_items=30, interactions_per_user=(6, 12))


class TestChatRecConformance(BaselineConformance):
    component: ClassVar[str] = "chat_rec"
    config: ClassVar[dict[str, Any]] = {
        "llm": "tiny_random",
        "candidates": 3,
        "history": 2,
        "title_characters": 8,
        "max_new_tokens": 2,
        "template": {"system": "s", "history": "h", "candidates": "c", "task": "t"},
    }
    # The chat model has random weights, so this is what popularity reaches.
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.25, 0.6)}
