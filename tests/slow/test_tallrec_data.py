"""TALLRec's stored prompts, made again from MovieLens-100K."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.pipeline import UserDisjoint
from dynmm_framework.data.judgements import asked_judgements, judged
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.data.tables import Dataset
from dynmm_framework.engine.context import bare_context

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def movielens() -> Dataset:
    catalogue = load_catalogue()
    reader = catalogue.create(catalogue.find("dataset", "movielens_100k"), {})
    dataset: Dataset = reader.read(bare_context(catalogue))
    return dataset


@pytest.fixture(scope="module")
def split(movielens: Dataset) -> Split:
    recipe = UserDisjoint(strategy="user_disjoint", examples=10_000, whole_users=False)
    return make_split(movielens, recipe, seed=0)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_labels_and_words_equal_the_stored_ones(
    real_data: Path, movielens: Dataset, split: Split, part: Any
) -> None:
    stored = json.loads((real_data / "tallrec-movie" / f"{part}.json").read_text())
    found = asked_judgements(split.evaluation(part))
    labels = ["Yes." if liked else "No." for liked in found.liked]
    assert len(stored) == 1000
    assert labels == [row["output"] for row in stored]
    titles = [f'"{title}"' for title in movielens.items["title"].to_pylist()]
    histories = found.histories(10)
    assert histories.ratings is not None
    for row, item in enumerate(found.items):
        place = slice(histories.offsets[row], histories.offsets[row + 1])
        liked = histories.ratings[place] > 3
        good = ", ".join(titles[i] for i, yes in zip(histories[row], liked, strict=True) if yes)
        bad = ", ".join(titles[i] for i, yes in zip(histories[row], liked, strict=True) if not yes)
        assert stored[row]["input"] == (
            f"User Preference: {good}\nUser Unpreference: {bad}\n"
            f"Whether the user will like the target movie {titles[item]}?"
        )


def test_there_are_eight_thousand_training_examples(movielens: Dataset, split: Split) -> None:
    assert len(judged(split.training_data(movielens.items).histories, 10)) == 8000
