"""What tests of soft prompts share: data, vectors that know a little, small settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dynmm_framework.config.pipeline import LeaveOneOut
from dynmm_framework.data.splits import make_split
from dynmm_framework.data.tables import Histories
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.evaluation.evaluate import expand, make_validator
from dynmm_framework.testing import generate_dataset
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.mixing import Mixture
from dynmm_plugins.soft_prompt.model import SoftPrompt

DATA = generate_dataset(n_users=60, n_items=32)
SPLIT = make_split(DATA, LeaveOneOut(strategy="leave_one_out"), seed=0)
SMALL = {
    "examples": 24, "epochs": 2, "batch_size": 8, "micro_batch": 4, "hidden": 16, "candidates": 6,
    "history": 4, "history_titles": 2, "validation_users": 40, "learning_rate": 0.01,
}  # fmt: skip


def histories_of(rows: list[list[int]], n_items: int) -> Histories:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return Histories(offsets=offsets, items=items, n_items=n_items)


class Fixed:
    """Vectors that know a little: an item's own, and the mean of a history's."""

    def __init__(self, width: int = 8, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.items = rng.normal(size=(DATA.n_items, width)).astype(np.float32)

    def item_vectors(self) -> np.ndarray:
        return self.items

    def user_vectors(self, histories: Histories) -> np.ndarray:
        rows = [
            self.items[histories[row]].mean(axis=0) if len(histories[row]) else self.items[0] * 0
            for row in range(len(histories))
        ]
        return np.stack(rows).astype(np.float32)


def context(surroundings: Surroundings, folder: Path, *, validate: bool = True) -> RunContext:
    evaluation = SPLIT.evaluation("valid")
    (request,) = expand([surroundings.catalogue.metric("ndcg")], [10])
    validator = make_validator(evaluation, request) if validate else None
    folder.mkdir(exist_ok=True)
    return RunContext(surroundings, "prompt", seed=3, workdir=folder, validator=validator)


def fitted(ctx: RunContext, llm: Any, base: Any, **changed: Any) -> SoftPrompt:
    adapter = SoftPrompt(SoftPromptConfig(**{**SMALL, "llm": llm, **changed}))
    adapter.connect(ctx)
    adapter.fit(SPLIT.training_data(DATA.items), base, ctx)
    return adapter


def with_weights(adapter: SoftPrompt, gamma: float, *, eta: float = 0.0) -> SoftPrompt:
    adapter._weights = Mixture(1.0, eta, gamma)
    return adapter
