"""Reviews go with their interactions: whoever learns is given those of training alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import TypeAdapter

from dynmm_framework.config.pipeline import SplitBlock
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.splits import make_split

HALF = (0.5, 0.25, 0.25)


def block(strategy: str, **settings: Any) -> SplitBlock:
    made: SplitBlock = TypeAdapter(SplitBlock).validate_python({"strategy": strategy, **settings})
    return made


def test_components_are_given_the_reviews_of_training_interactions_alone() -> None:
    """Every review says whose it is of what; none of a held-out row is among those given."""
    users, items = np.divmod(np.arange(60), 6)
    texts = [f"{user} of {item}" for user, item in zip(users, items, strict=True)]
    table = {"user": users, "item": items, "timestamp": items * 10 + users, "review": texts}
    dataset = assemble(table, name="x", items={"id": [str(n) for n in range(6)]})
    for made in (
        block("leave_one_out"),
        block("temporal_user", ratios=HALF),
        block("random", ratios=HALF),
        block("global_time", ratios=HALF),
        block("streaming", offline=0.7),
        block("cold_items", share=0.3),
    ):
        split = make_split(dataset, made, seed=0)
        names = dataset.users["id"].to_pylist(), dataset.items["id"].to_pylist()
        for rows in (split.training_data(dataset.items).train, split.valid, split.test):
            assert rows.reviews is not None
            pairs = zip(rows.users.tolist(), rows.items.tolist(), strict=True)
            expected = [f"{names[0][user]} of {names[1][item]}" for user, item in pairs]
            assert rows.reviews.to_pylist() == expected, made.strategy
