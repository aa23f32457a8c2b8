"""Each row of docs/histories.md holds for each of its models."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.pipeline import LeaveOneOut
from dynmm_framework.data.splits import make_split
from dynmm_framework.data.tables import Dataset, Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.ranking import as_recommender, recommend
from dynmm_framework.testing import ContextFactory, generate_dataset

PAGE = Path(__file__).parents[2] / "docs" / "histories.md"
N_ITEMS = 40
COLD = (38, 39)
"""Items of the generated data that never have interactions."""

TRIPLES = {"epochs": 40, "batch_size": 256, "learning_rate": 0.02, "dim": 8}
SEQUENCE: dict[str, Any] = {
    "hidden_size": 16, "layers": 1, "heads": 1, "max_length": 6, "feed_forward_size": 32,
    "dropout": 0.0, "attention_dropout": 0.0, "batch_size": 16, "epochs": 20,
    "learning_rate": 0.01, "average": 0.0,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "item_knn": {},
    "ease": {"regularisation": 10.0},
    "bpr_mf": TRIPLES,
    "lightgcn": TRIPLES,
    "sgl": {**TRIPLES, "ssl_weight": 0.01},
    "sasrec": SEQUENCE,
    "s3rec": {**SEQUENCE, "pretraining": {"epochs": 1, "prefixes": "one", "batch_size": 16}},
}
COUNTS = ("popularity",)
SUMS = ("item_knn", "ease")
FACTORS = ("bpr_mf", "lightgcn", "sgl")
SEQUENCES = ("sasrec", "s3rec")
ALL = (*COUNTS, *SUMS, *FACTORS, *SEQUENCES)
FEW = {"epochs": 2}

CASES: list[str] = []
"""Rows of the page that have a test."""


def case(row: str) -> Callable[[Any], Any]:
    """Marks a test as that of a row of the page."""
    CASES.append(row)
    return lambda test: test


class Trainer:
    """Trains any of the models on plain lists of items, or on the generated data, once."""

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        self.dataset = generate_dataset(n_users=60, n_items=N_ITEMS, interactions_per_user=(4, 20))
        split = make_split(self.dataset, LeaveOneOut(strategy="leave_one_out"), seed=0)
        self.catalogue = catalogue
        self.data = split.training_data(self.dataset.items)
        self.contexts = ContextFactory(catalogue, split, folder)
        self.trained: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        """Returns the model, trained on the generated data."""
        if name not in self.trained:
            self.trained[name] = self.fit(name, self.data)
        return self.trained[name]

    def fit(self, name: str, data: TrainingData, **changed: Any) -> Any:
        found = self.catalogue.find(("baseline", "backbone"), name)
        known = self.catalogue.config_model(found).model_fields
        changed = {key: value for key, value in changed.items() if key in known}
        model = self.catalogue.create(found, {**SETTINGS[name], **changed})
        model.fit(data, self.contexts(validate=False))
        return model

    def on(self, name: str, lists: list[list[int]], n_items: int, **changed: Any) -> Any:
        """Returns a model that is trained on lists of items, one for each user."""
        return self.fit(name, training_data(lists, n_items, self.dataset), **changed)


@pytest.fixture(scope="module")
def trainer(dynmm_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Trainer(dynmm_catalogue, tmp_path_factory.mktemp("work"))
    torch.set_num_threads(threads)


def training_data(lists: list[list[int]], n_items: int, dataset: Dataset) -> TrainingData:
    made = Histories.of(lists, n_items)
    rows = Interactions(made.rows.astype(np.int32), made.items, len(lists), n_items)
    items: pa.Table = dataset.items.slice(0, n_items)
    return TrainingData(rows, items)


def scores(model: Any, *lists: Any, n_items: int = N_ITEMS) -> np.ndarray:
    """Scores all items for users of these histories who were not trained on."""
    return np.asarray(as_recommender(model).score(Histories.of(lists, n_items)))


def own_scores(model: Any, lists: list[list[int]], n_items: int) -> np.ndarray:
    """Scores all items for the training users."""
    users = np.arange(len(lists), dtype=np.int32)
    return np.asarray(as_recommender(model).score(Histories.of(lists, n_items, users)))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-4, atol=1e-5)


# What is learned.


@case("an item without training interactions")
@pytest.mark.parametrize("name", ALL)
def test_an_item_without_interactions_is_scored_low(trainer: Trainer, name: str) -> None:
    histories = trainer.data.histories
    found = np.asarray(as_recommender(trainer(name)).score(histories))
    if name in COUNTS + SUMS:
        assert (found[:, COLD] == 0).all()
        assert (found[:, COLD] < found.max(axis=1, keepdims=True)).all()
    else:
        above = (found[:, None, :] > found[:, COLD, None]).mean(axis=2)
        assert above.mean() > 0.7  # 0.5 would be the middle of the list


@case("a user without training interactions")
@pytest.mark.parametrize("name", ALL)
def test_a_user_without_interactions_is_as_good_as_new(trainer: Trainer, name: str) -> None:
    lists = [[0, 1, 2], [], [1, 2, 3], [3, 4, 5]]
    model = trainer.on(name, lists, 8, **FEW)
    assert same(own_scores(model, lists, 8)[1], scores(model, [], n_items=8)[0])


@case("a user with one training interaction")
@pytest.mark.parametrize("name", ALL)
def test_a_user_with_one_interaction(trainer: Trainer, name: str) -> None:
    lists = [[0, 1, 2, 3], [1, 2, 3], [3, 4, 5], [2, 4]]
    without = trainer.on(name, lists, 8, **FEW)
    model = trainer.on(name, [*lists, [6]], 8, **FEW)
    if name == "popularity":
        assert scores(model, [], n_items=8)[0, 6] == 1
    elif name in SUMS:
        assert not scores(model, [6], n_items=8).any()
        assert same(scores(model, [0], n_items=8), scores(without, [0], n_items=8))
    elif name == "sasrec":
        np.testing.assert_array_equal(model.item_vectors(), without.item_vectors())
    else:
        assert not same(np.asarray(model.item_vectors()), np.asarray(without.item_vectors()))
    assert np.isfinite(own_scores(model, [*lists, [6]], 8)).all()


@case("the same item again in training")
@pytest.mark.parametrize("name", ALL)
def test_repeated_interactions(trainer: Trainer, name: str) -> None:
    once = [[0, 1, 2], [1, 2, 3], [3, 4, 5], [2, 4, 0]]
    again = [[0, 1, 1, 2, 0, 2], *once[1:]]
    a, b = (trainer.on(name, lists, 8, **FEW) for lists in (once, again))
    if name == "popularity":
        assert scores(b, [], n_items=8)[0].tolist() == [3, 3, 4, 2, 2, 1, 0, 0]
    else:
        alike = same(scores(a, [0, 3], n_items=8), scores(b, [0, 3], n_items=8))
        assert alike == (name not in SEQUENCES)


@case("a training history longer than `max_length`")
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_learn_from_the_newest(trainer: Trainer, name: str) -> None:
    newest = [5, 4, 3, 2, 1, 0, 6]  # six inputs and the last target
    rest = [[0, 1, 2], [1, 2, 3]]
    options = {"pretraining": {"epochs": 0}}
    a = trainer.on(name, [[7, 7, 7, *newest], *rest], 8, **options, loss="ce", **FEW)
    b = trainer.on(name, [newest, *rest], 8, **options, loss="ce", **FEW)
    np.testing.assert_array_equal(a.item_vectors(), b.item_vectors())
    if name == "sasrec":
        everything = trainer.on(
            name, [[7, 7, 7, *newest], *rest], 8, windows="all", loss="ce", **FEW
        )
        assert not same(np.asarray(everything.item_vectors()), np.asarray(a.item_vectors()))


@case("a user who has every item")
@pytest.mark.parametrize("name", ALL)
def test_a_user_with_every_item_does_no_harm(trainer: Trainer, name: str) -> None:
    lists = [[0, 1, 2, 3, 4, 5], [0, 1], [3, 4]]
    model = trainer.on(name, lists, 6, **FEW)
    assert np.isfinite(own_scores(model, lists, 6)).all()
    if name == "bpr_mf":  # without a negative there is no triple, so no other vector is touched
        less = trainer.on(name, [[], *lists[1:]], 6, **FEW)
        assert same(np.asarray(model.item_vectors()), np.asarray(less.item_vectors()))


# Who is served, and how.


@case("an empty history")
@pytest.mark.parametrize("name", ALL)
def test_an_empty_history(trainer: Trainer, name: str) -> None:
    model, counts = trainer(name), trainer.data.train.item_counts()
    (found,) = scores(model, [])
    if name in ("popularity", "ease"):
        np.testing.assert_array_equal(found, counts)
    elif name == "item_knn":
        assert not found.any()
    elif name in FACTORS:
        trained = np.asarray(model.user_vectors(trainer.data.histories))
        (vector,) = np.asarray(model.user_vectors(Histories.of([[]], N_ITEMS)))
        np.testing.assert_allclose(vector, trained.mean(axis=0), rtol=1e-4, atol=1e-6)
    else:
        assert np.corrcoef(found, np.log1p(counts))[0, 1] > 0.7


@case("a user not trained on")
@pytest.mark.parametrize("name", ALL)
def test_a_user_not_trained_on(trainer: Trainer, name: str) -> None:
    model, histories = trainer(name), trainer.data.histories
    rows = np.arange(5)
    known = histories.take(rows)
    stranger = Histories(known.offsets, known.items, N_ITEMS)
    own, other = (np.asarray(as_recommender(model).score(asked)) for asked in (known, stranger))
    assert same(own, other) == (name not in FACTORS)
    if name in FACTORS:  # a training user keeps the trained vector, a stranger's is made of items
        later = known.append(Histories.of([[0]] * 5, N_ITEMS))
        assert same(own, np.asarray(as_recommender(model).score(later)))
        assert not same(other, scores(model, *[[*stranger[row].tolist(), 0] for row in rows]))


@case("a history longer than `max_length`")
@pytest.mark.parametrize("name", ALL)
def test_a_long_history(trainer: Trainer, name: str) -> None:
    long = [0, 3, 8, 1, 5, 2, 7, 4]
    whole, newest = scores(trainer(name), long, long[-6:])
    assert same(whole, newest) == (name in COUNTS + SEQUENCES)


@case("the same item again in a history")
@pytest.mark.parametrize("name", ALL)
def test_repeats_in_a_history(trainer: Trainer, name: str) -> None:
    again, once = scores(trainer(name), [3, 1, 1, 3], [1, 3])
    assert same(again, once) == (name not in SEQUENCES)


@case("an item without training interactions in a history")
@pytest.mark.parametrize("name", ALL)
def test_unknown_items_in_a_history(trainer: Trainer, name: str) -> None:
    cold = COLD[0]
    both, known, alone, empty = scores(trainer(name), [1, cold], [1], [cold], [])
    assert same(both, known) == (name not in SEQUENCES)
    assert same(alone, empty) == (name not in SEQUENCES)


@case("a history of all items")
@pytest.mark.parametrize("name", ALL)
def test_a_history_of_all_items_leaves_nothing(trainer: Trainer, name: str) -> None:
    histories = Histories.of([range(N_ITEMS), [0, 1]], N_ITEMS)
    ranking = recommend(trainer(name), histories, 3)
    assert (ranking.items[0] == -1).all()
    assert (ranking.items[1] >= 0).all()


@case("a catalogue of one item")
@pytest.mark.parametrize("name", ALL)
def test_a_catalogue_of_one_item(trainer: Trainer, name: str) -> None:
    lists = [[0], [0], [0]]
    if name in FACTORS:
        with pytest.raises(StageError, match="there is nothing to train on"):
            trainer.on(name, lists, 1, **FEW)
    elif name in SEQUENCES:
        with pytest.raises(StageError, match="no user has two training interactions"):
            trainer.on(name, lists, 1, **FEW)
    else:
        assert scores(trainer.on(name, lists, 1), [], [0], n_items=1).shape == (2, 1)


@case("a single user")
@pytest.mark.parametrize("name", ALL)
def test_a_single_user(trainer: Trainer, name: str) -> None:
    model = trainer.on(name, [[0, 1, 2, 3]], 6, **FEW)
    assert np.isfinite(scores(model, [], [0], [5], n_items=6)).all()


def test_every_row_of_the_page_has_a_test_and_every_model_a_column() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    heads = [row for row in cells if row[0] in ("learning from", "serving", "data")]
    for head in heads:
        assert re.findall(r"`(\w+)`", " ".join(head)) == list(ALL)
    titles = [row[0] for row in cells if row not in heads and not set(row[0]) <= set("-: ")]
    assert titles == CASES
    assert all(all(row) for row in cells)
