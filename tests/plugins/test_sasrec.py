from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import spearmanr
from sequence_cases import context, cycles, training_data

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.testing import BackboneConformance
from dynmm_plugins.sasrec.config import SASRecConfig
from dynmm_plugins.sasrec.model import SASRec

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "feed_forward_size": 32,
    "max_length": 8,
    "batch_size": 32,
    "epochs": 2,
    "dropout": 0.1,
    "attention_dropout": 0.1,
}


class TestSASRecConformance(BackboneConformance):
    component: ClassVar[str] = "sasrec"
    config: ClassVar[dict[str, Any]] = {**SMALL, "loss": "ce", "epochs": 10, "learning_rate": 0.01}
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.38, 0.6)}


def small(**settings: Any) -> SASRecConfig:
    return SASRecConfig(**{**SMALL, **settings})


@pytest.mark.parametrize(
    ("norm", "loss"), [("original", "bce"), ("pre", "sampled_softmax"), ("post", "ce")]
)
def test_it_learns_a_circle_with_every_loss_and_norm(tmp_path: Path, norm: str, loss: str) -> None:
    settings = {"epochs": 25, "learning_rate": 0.01, "dropout": 0.0, "attention_dropout": 0.0}
    model = SASRec(small(loss=loss, norm=norm, init_std=0.1, **settings))
    model.fit(cycles(), context(tmp_path))
    histories = Histories.of([[3, 4, 5], [18, 19], [7]], 20)
    scores = model.user_vectors(histories) @ model.item_vectors().T
    # A user's own items are never negatives, so the loss does not rank them.
    scores[histories.rows, histories.items] = -np.inf
    assert scores.argmax(1).tolist() == [6, 0, 8]
    assert model.training_log is not None
    assert len(model.training_log.epochs) == 25


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> SASRec:
    model = SASRec(small(epochs=15, learning_rate=0.01))
    model.fit(popular(), context(tmp_path_factory.mktemp("fit")))
    return model


def popular() -> TrainingData:
    """Item i is about twice as frequent as item i + 4; the last item has no interaction."""
    rng = np.random.default_rng(1)
    weights = 0.5 ** (np.arange(19) / 4)
    lists = [
        rng.choice(19, size=rng.integers(2, 15), p=weights / weights.sum()).tolist()
        for _ in range(300)
    ]
    return training_data(lists, 20)


def test_an_empty_history_ranks_popular_items_first(fitted: SASRec) -> None:
    scores = fitted.user_vectors(Histories.of([[]], 20))[0] @ fitted.item_vectors().T
    assert spearmanr(scores, popular().train.item_counts())[0] > 0.8
    assert scores.argmax() < 4


def test_state_restores_exactly_on_a_fresh_instance(fitted: SASRec) -> None:
    histories = Histories.of([[1, 2], [], [3]], 20)
    fresh = SASRec(fitted.config)
    assert fresh.get_state() == {}
    fresh.load_state(fitted.get_state())
    np.testing.assert_array_equal(fresh.user_vectors(histories), fitted.user_vectors(histories))
    np.testing.assert_array_equal(fresh.item_vectors(), fitted.item_vectors())
    fresh.load_state({})
    assert fresh.get_state() == {}


def test_state_of_another_configuration_is_refused(fitted: SASRec) -> None:
    with pytest.raises(ArtifactError, match=r"stored weights do not fit Network: .*blocks\.1"):
        SASRec(small(layers=1)).load_state(fitted.get_state())
    with pytest.raises(ArtifactError, match="SASRec: empty_history missing"):
        SASRec(fitted.config).load_state(
            {key: value for key, value in fitted.get_state().items() if key != "empty_history"}
        )


def test_vectors_before_training_are_a_clear_error() -> None:
    with pytest.raises(StageError, match="SASRec is not fitted"):
        SASRec(small()).item_vectors()


def test_nothing_to_learn_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no user has two training interactions"):
        SASRec(small()).fit(training_data([[1], [2], []], 5), context(tmp_path))


def test_training_is_deterministic_and_follows_the_seed(tmp_path: Path) -> None:
    states = []
    for number in range(3):
        seed = 8 if number == 2 else 7
        model = SASRec(small())
        where = context(
            tmp_path / str(number),
            seed=seed,
            rng=lambda name, seed=seed: np.random.default_rng([seed, *name.encode()]),
        )
        torch.manual_seed(number)
        model.fit(cycles(), where)
        states.append(model.get_state())
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
    assert any((states[0][name] != states[2][name]).any() for name in states[0])


def test_bf16_and_many_negatives_train(tmp_path: Path) -> None:
    model = SASRec(small(n_negatives=3, windows="all", activation="relu", initialisation="xavier"))
    model.fit(cycles(), context(tmp_path, precision="bf16"))
    assert np.isfinite(model.item_vectors()).all()


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"heads \(3\) must divide hidden_size \(16\)"):
        small(heads=3)


def test_the_door_and_the_configuration_import_nothing_heavy() -> None:
    code = (
        "import sys, dynmm_plugins.sasrec.plugin, dynmm_plugins.sasrec.config;"
        "print(sorted({'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    ).stdout
    assert output.strip() == "[]"
