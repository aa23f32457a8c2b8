from __future__ import annotations

from typing import Any, ClassVar

import pytest

from dynmm_framework.data.tables import Dataset
from dynmm_framework.testing import BaselineConformance, generate_dataset

SHORT = {
    "system": "",
    "liked": "\nA:",
    "disliked": "\nB:",
    "target": "\nC",
    "task": "?\n",
    "title_tokens": 6,
}
"""A token is a byte here."""


@pytest.fixture(scope="session")
def dynmm_dataset() -> Dataset:
    return generate_dataset(n_users=30, n_items=16, interactions_per_user=(6, 12))


class TestTALLRecConformance(BaselineConformance):
    component: ClassVar[str] = "tallrec"
    config: ClassVar[dict[str, Any]] = {
        "llm": "tiny_random",
        "examples": 8,
        "min_history": 2,
        "history": 2,
        "epochs": 3,
        "validate_every": 1,
        "validation": 10,
        "rerank": 1000,
        "template": SHORT,
    }
    # Random weights know nothing of anybody's taste: this is where these happen to lead.
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.47, 0.57)}
