"""NARRE: what reviews add, what attention weighs, and what must not be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import (
    Dataset,
    EvaluationSet,
    Histories,
    Interactions,
    TrainingData,
)
from dynmm_framework.errors import StageError
from dynmm_framework.testing import BaselineConformance
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.testing.reviews import written_reviews
from dynmm_plugins.narre.config import NARREConfig
from dynmm_plugins.narre.model import NARRE, RatingValidator
from dynmm_plugins.narre.network import NARRENetwork
from dynmm_plugins.narre.texts import read_reviews

SMALL: dict[str, Any] = {
    "dim": 8,
    "word_dim": 8,
    "filters": 8,
    "attention_dim": 8,
    "words": 20,
    "reviews": 5,
    "epochs": 2,
}


class TestNARREConformance(BaselineConformance):
    component: ClassVar[str] = "narre"
    config: ClassVar[dict[str, Any]] = {**SMALL, "dim": 16, "epochs": 12, "learning_rate": 0.01}
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.09, 0.2)}


USERS = [0, 0, 1, 1, 2]
ITEMS = [0, 1, 0, 2, 0]
TEXTS = ["Good good card.", None, "Bad card, isn't it?", "A card!", "..."]


def data(
    texts: list[str | None] | None = TEXTS, ratings: list[float] | None = None
) -> TrainingData:
    rows = Interactions(
        np.array(USERS, np.int32),
        np.array(ITEMS, np.int32),
        3,
        4,
        ratings=None if ratings is None else np.array(ratings, np.float32),
        reviews=None if texts is None else pa.array(texts, pa.large_string()),
    )
    return TrainingData(rows, pa.table({"id": list("abcd")}))


def read(config: NARREConfig) -> Any:
    train = data().train
    return read_reviews(train, train.reviews, config)


def test_reviews_are_numbered_by_who_wrote_them_and_of_what() -> None:
    found = read(NARREConfig(**SMALL, least_reviews=1))
    assert found.rows.tolist() == [-1, 0, 2, 3]  # "..." has no words
    assert found.users.tolist() == [-1, 0, 1, 1]
    assert found.items.tolist() == [-1, 0, 0, 2]
    assert found.of_user[:, :3].tolist() == [[1, 0, 0], [3, 2, 0], [0, 0, 0]]
    assert found.of_item[:, :3].tolist() == [[2, 1, 0], [0, 0, 0], [3, 0, 0], [0, 0, 0]]
    lengths = (found.words > 0).sum(axis=1).tolist()
    assert lengths == [0, 3, 4, 2]
    assert found.words[1, 0] == found.words[1, 1]  # "good" twice
    assert found.n_words == 2 + len({"good", "card", "bad", "isn't", "it", "a"})


def test_rare_words_are_one_unknown_word() -> None:
    found = read(NARREConfig(**SMALL, least_reviews=2))
    assert found.n_words == 3
    assert found.words[1, :4].tolist() == [1, 1, 2, 0]


def test_the_newest_reviews_are_read() -> None:
    train = replace(data().train, timestamps=np.array([9, 8, 7, 6, 5]))
    found = read_reviews(train, train.reviews, NARREConfig(**{**SMALL, "reviews": 1}))
    assert found.of_item[0].tolist() == [1]
    assert found.of_user[1].tolist() == [2]


def network(**config: Any) -> NARRENetwork:
    torch.manual_seed(0)
    settings = NARREConfig(**{**SMALL, "dropout": 0, "least_reviews": 1, **config})
    return NARRENetwork(read(settings), settings, mean=3.0).eval()


def test_the_score_is_what_the_paper_says() -> None:
    made = network()
    with torch.no_grad():
        for module in (made.users, made.items):
            module.bias.weight.normal_()
        texts = {1: made.of_items(made.words[[1]])[0], 2: made.of_items(made.words[[2]])[0]}
        item = made.items
        hidden = {
            n: torch.relu(item.of_text(texts[n]) + item.of_other(item.other.weight[writer]))
            for n, writer in ((1, 0), (2, 1))
        }
        logits = torch.stack([item.attention(hidden[n])[0] for n in (2, 1)])
        weights = logits.softmax(0)
        pooled = weights[0] * texts[2] + weights[1] * texts[1]
        p = item.factors.weight[0] + item.output(pooled)
        q = made.users.factors.weight[2]  # who wrote nothing
        bias = made.users.bias.weight[2, 0] + item.bias.weight[0, 0]
        expected = (q * p) @ made.join + bias + 3
        scores, _ = made(torch.tensor([2]), torch.tensor([0]))
    assert float(scores) == pytest.approx(float(expected), abs=1e-5)
    useful = made.usefulness()
    assert useful[[2, 1]].tolist() == pytest.approx(weights.tolist(), abs=1e-6)
    assert useful[3] == pytest.approx(1)  # the only one of its item


def test_the_review_that_is_asked_for_is_not_read() -> None:
    """The gradient of a pair's score does not reach the words of the pair's own review."""
    made = network()
    rows = torch.nn.Parameter(torch.randn(len(made.words), 8))
    made._texts = lambda read, chosen: rows[chosen]  # type: ignore[method-assign]
    made(torch.tensor([0]), torch.tensor([0]))[0].sum().backward()  # review 1 is its own
    assert rows.grad is not None
    assert not rows.grad[1].any()
    assert rows.grad[2].any()  # another's of the same item
    rows.grad = None
    made(torch.tensor([0]), torch.tensor([3]))[0].sum().backward()
    assert rows.grad[1].any()  # read, where another item is asked for


def test_vectors_give_the_networks_scores() -> None:
    made = network()
    histories = data().histories
    with torch.no_grad():
        users, items = torch.tensor([0, 1, 2]).repeat_interleave(4), torch.arange(4).repeat(3)
        never = torch.full_like(users, -2)
        user = made.users(users, made._texts(made.of_words, made.users.reviews[users]), never)
        item = made.items(items, made._texts(made.of_items, made.items.reviews[items]), never)
        scores = (user * item) @ made.join + 3
    found = made.vectors(histories).score(histories)
    assert found.flatten().tolist() == pytest.approx(scores.tolist(), abs=1e-4)


def test_without_reviews_there_is_the_setting(dynmm_context: ContextFactory) -> None:
    for texts in (None, [None] * 5):
        with pytest.raises(StageError, match="narre reads reviews") as caught:
            NARRE(NARREConfig(**SMALL)).fit(data(texts), dynmm_context(validate=False))
        assert "data.config.reviews: true" in caught.value.hint


def test_ratings_need_ratings(dynmm_context: ContextFactory) -> None:
    with pytest.raises(StageError, match="narre predicts ratings, and the data has none") as caught:
        NARRE(NARREConfig(**SMALL, objective="rating")).fit(data(), dynmm_context(validate=False))
    assert "objective: ranking" in caught.value.hint


def test_weights_of_reviews_are_those_of_the_rows(dynmm_context: ContextFactory) -> None:
    model = NARRE(NARREConfig(**SMALL))
    with pytest.raises(StageError, match="not fitted"):
        model.review_weights()
    model.fit(data(), dynmm_context(validate=False))
    weights = model.review_weights()
    assert weights[[1, 4]].tolist() == [0, 0]
    assert weights[0] + weights[2] == pytest.approx(1, abs=1e-6)
    assert weights[3] == pytest.approx(1)
    again = NARRE(NARREConfig(**SMALL))
    again.load_state(model.get_state())
    assert again.review_weights().tolist() == weights.tolist()


def test_ratings_are_learned_better_than_their_mean(dynmm_context: ContextFactory) -> None:
    """Half the users praise and rate 5, half complain and rate 2: known of what they wrote."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40, dtype=np.int32), 8)
    items = np.concatenate([rng.permutation(20)[:8] for _ in range(40)]).astype(np.int32)
    kind = users % 2 == 0
    texts = np.where(kind, "Wonderful, I loved it.", "Dull, I hated it.").tolist()
    ratings = np.where(kind, 5, 2).astype(np.float32)
    rows = Interactions(
        users, items, 40, 20, ratings=ratings, reviews=pa.array(texts, pa.large_string())
    )
    given = TrainingData(rows, pa.table({"id": [str(n) for n in range(20)]}))
    config = NARREConfig(**{**SMALL, "epochs": 30}, objective="rating", learning_rate=0.02)
    model = NARRE(config)
    model.fit(given, dynmm_context(validate=False))
    scores = np.asarray(model.score(given.histories))
    expected = np.where(np.arange(40) % 2 == 0, 5, 2)[:, None]
    assert np.sqrt(np.mean((scores - expected) ** 2)) < 0.75  # of their mean: 1.5


def test_early_stopping_follows_the_error_of_ratings(
    dynmm_split: Split, dynmm_dataset: Dataset, dynmm_context: ContextFactory
) -> None:
    plain = dynmm_split.training_data(dynmm_dataset.items)
    given = replace(plain, train=replace(plain.train, reviews=written_reviews(plain.train)))
    context = dynmm_context()
    NARRE(NARREConfig(**SMALL, objective="rating")).fit(given, context)
    assert [set(epoch) for epoch in context.records["training"]["epochs"]] == [
        {"epoch", "loss", "seconds", "rmse"}
    ] * 2


def test_the_error_of_ratings_is_that_of_the_targets() -> None:
    targets = replace(Histories.of([[1, 2], [0]], 3), ratings=np.array([5, 1, 3], np.float32))
    evaluation = EvaluationSet(np.arange(2, dtype=np.int32), Histories.of([[0], [1]], 3), targets)
    scores = np.array([[9, 4, 3], [1, 9, 9]], np.float64)
    found = RatingValidator(evaluation)(lambda histories: scores)
    assert found == {"rmse": pytest.approx(np.sqrt((1 + 4 + 4) / 3))}
    one = RatingValidator(evaluation).take(np.array([1]))
    assert one(lambda histories: scores[1:]) == {"rmse": pytest.approx(2)}
