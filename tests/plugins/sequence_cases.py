"""Small training data and a plain context for tests of sequence models."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.protocols import Workers


def context(workdir: Path, **settings: Any) -> Any:
    return SimpleNamespace(
        **{
            "stage": "fit/model",
            "seed": 7,
            "device": "cpu",
            "precision": "fp32",
            "workdir": workdir,
            "validator": None,
            "workers": Workers(),
            "leg": None,
            "rng": lambda name: np.random.default_rng([7, *name.encode()]),
            "progress": lambda description, total=None: nullcontext(lambda n=1, note="": None),
            "epoch_finished": lambda epoch, metrics: None,
            "record": lambda name, value: None,
            "log": lambda message: None,
            **settings,
        }
    )


def training_data(
    lists: list[list[int]], n_items: int, attributes: list[Any] | None = None
) -> TrainingData:
    histories = Histories.of(lists, n_items)
    table = pa.table({"id": [str(item) for item in range(n_items)]})
    if attributes is not None:
        column = pa.array(attributes, pa.list_(pa.string()))
        table = table.append_column("categories", column)
    users = histories.rows.astype(np.int32)
    return TrainingData(Interactions(users, histories.items, len(lists), n_items), table)


def cycles(n_users: int = 200, n_items: int = 20) -> TrainingData:
    """Users who walk around a circle of items: the next item is always the next number."""
    rng = np.random.default_rng(0)
    lists = [
        [int(start + step) % n_items for step in range(length)]
        for start, length in zip(
            rng.integers(0, n_items, n_users), rng.integers(2, 12, n_users), strict=True
        )
    ]
    return training_data(lists, n_items, [[f"a{i % 3}"] for i in range(n_items)])
