from __future__ import annotations

import math
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import spearmanr

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.testing import BackboneConformance
from dynmm_framework.training.batches import lay_out
from dynmm_framework.training.losses import binary_cross_entropy, cross_entropy, sampled_softmax
from dynmm_plugins.sasrec.config import SASRecConfig
from dynmm_plugins.sasrec.model import SASRec
from dynmm_plugins.sasrec.network import Network
from dynmm_plugins.sasrec.sequences import TrainingSequences, prepare

NORMS = ("original", "pre", "post")
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


def context(workdir: Path, **settings: Any) -> Any:
    return SimpleNamespace(
        **{
            "stage": "fit/sasrec",
            "seed": 7,
            "device": "cpu",
            "precision": "fp32",
            "workdir": workdir,
            "validator": None,
            "rng": lambda name: np.random.default_rng([7, *name.encode()]),
            "progress": lambda description, total=None: nullcontext(lambda n=1, note="": None),
            "epoch_finished": lambda epoch, metrics: None,
            "record": lambda name, value: None,
            "log": lambda message: None,
            **settings,
        }
    )


def training_data(lists: list[list[int]], n_items: int) -> TrainingData:
    histories = Histories.of(lists, n_items)
    users = histories.rows.astype(np.int32)
    return TrainingData(
        Interactions(users, histories.items, len(lists), n_items),
        pa.table({"id": [str(i) for i in range(n_items)]}),
    )


def cycles(n_users: int = 200, n_items: int = 20) -> TrainingData:
    """Users who walk around a circle of items: the next item is always the next number."""
    rng = np.random.default_rng(0)
    lists = [
        [int(start + step) % n_items for step in range(length)]
        for start, length in zip(
            rng.integers(0, n_items, n_users), rng.integers(2, 12, n_users), strict=True
        )
    ]
    return training_data(lists, n_items)


def network(norm: str = "post", **settings: Any) -> Network:
    torch.manual_seed(0)
    made = Network(small(norm=norm, init_std=0.3, **settings), 30).eval()
    return made


def encode(made: Network, rows: list[list[int]], *, single: bool = False) -> list[torch.Tensor]:
    """Returns the hidden states of each sequence."""
    lengths = np.array([len(row) for row in rows])
    layout = lay_out(lengths, single=single)
    items = np.concatenate([rows[index] for index in layout.order])
    inputs = prepare(layout, lengths, items, max_length=8, device="cpu")
    states = made(inputs.items, inputs.positions, inputs.blocks)[torch.from_numpy(layout.cells)]
    pieces = states.split(lengths[layout.order].tolist())
    return [pieces[place] for place in np.argsort(layout.order)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_later_items_never_influence_earlier_states(norm: str, training: bool) -> None:
    made = network(norm).train(training)
    rng = np.random.default_rng(0)
    items = rng.integers(0, 30, (4, 8))
    changed = items.copy()
    changed[:, 5:] = rng.integers(0, 30, (4, 3))
    results = []
    for rows in (items, changed):
        torch.manual_seed(1)
        results.append(torch.stack(encode(made, rows.tolist())))
    torch.testing.assert_close(results[0][:, :5], results[1][:, :5])
    assert not torch.allclose(results[0][:, 5:], results[1][:, 5:])


@pytest.mark.parametrize("norm", NORMS)
def test_training_without_dropout_computes_what_serving_computes(norm: str) -> None:
    made = network(norm, dropout=0.0, attention_dropout=1e-6)  # keeps the training path
    rows = [[1, 2, 3, 4, 5, 6, 7, 8], [4, 3], [9, 9, 9, 9, 9, 9, 9]]
    expected = encode(made, rows)
    for ours, theirs in zip(encode(made.train(), rows), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("norm", NORMS)
def test_company_and_padding_change_no_state(norm: str) -> None:
    made = network(norm)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 30, size=size).tolist() for size in (3, 8, 1, 2, 7, 5, 3, 8, 1, 6)]
    alone = [encode(made, [row])[0] for row in rows]
    for single in (False, True):
        together = encode(made, rows, single=single)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_positions_count_from_the_newest_item() -> None:
    lengths = np.array([2, 3])
    layout = lay_out(lengths, single=True)
    inputs = prepare(layout, lengths, np.arange(5), max_length=8, device="cpu")
    assert inputs.positions.tolist()[:2] == [6, 7]
    assert inputs.positions.tolist()[3:] == [5, 6, 7]
    made = network()
    moved = made(inputs.items, inputs.positions.clamp(min=1) - 1, inputs.blocks)
    assert not torch.allclose(moved, made(inputs.items, inputs.positions, inputs.blocks))


ONE_BLOCK = ((2, 4),)


def test_original_norm_adds_the_residual_to_the_normalised_query() -> None:
    block = network("original").blocks[0]
    x = torch.randn(8, 16)
    normed = block.attention_norm(x)
    middle = block.feed_forward_norm(normed + block.attention(normed, x, ONE_BLOCK, None))
    expected = middle + block.down(block.activation(block.up(middle)))
    torch.testing.assert_close(block(x, ONE_BLOCK, None), expected)


def test_pre_and_post_norm_follow_their_formulas() -> None:
    x = torch.randn(8, 16)
    block = network("pre").blocks[0]
    normed = block.attention_norm(x)
    middle = x + block.attention(normed, normed, ONE_BLOCK, None)
    inner = block.feed_forward_norm(middle)
    expected = middle + block.down(block.activation(block.up(inner)))
    torch.testing.assert_close(block(x, ONE_BLOCK, None), expected)
    block = network("post").blocks[0]
    middle = block.attention_norm(x + block.attention(x, x, ONE_BLOCK, None))
    expected = block.feed_forward_norm(middle + block.down(block.activation(block.up(middle))))
    torch.testing.assert_close(block(x, ONE_BLOCK, None), expected)


def test_attention_agrees_with_its_formula() -> None:
    attention = network(heads=2).blocks[0].attention
    x = torch.randn(3, 16)
    q, k, v = (layer(x) for layer in (attention.query, attention.key, attention.value))
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = q[:, part] @ k[:, part].T / math.sqrt(8)
        scores[torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)] = -torch.inf
        heads.append(scores.softmax(-1) @ v[:, part])
    torch.testing.assert_close(
        attention(x, x, ((1, 3),), None), attention.output(torch.cat(heads, dim=-1))
    )


def test_losses_agree_with_hand_computation() -> None:
    rng = np.random.default_rng(0)
    states, items = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))
    targets, negatives = np.array([0, 5, 2]), np.array([[1, 2], [3, 3], [4, 0]])
    tensors = [torch.from_numpy(a) for a in (states, items, targets)]
    logits = states @ items.T
    rows = np.arange(3)

    def log_sigmoid(x: np.ndarray) -> np.ndarray:
        return -np.log1p(np.exp(-x))

    expected = -log_sigmoid(logits[rows, targets]).mean()
    expected -= log_sigmoid(-np.take_along_axis(logits, negatives, 1)).mean()
    assert binary_cross_entropy(*tensors, torch.from_numpy(negatives)).item() == pytest.approx(
        expected
    )
    expected = (np.log(np.exp(logits).sum(1)) - logits[rows, targets]).mean()
    assert cross_entropy(*tensors).item() == pytest.approx(expected, rel=1e-5)
    shared = np.array([5, 1, 1])  # 5 is the second row's target, hence left out there
    others = np.exp(logits[:, shared]) * 6 / 3
    others[1, 0] = 0
    target = logits[rows, targets]
    expected = (np.log(np.exp(target) + others.sum(1)) - target).mean()
    assert sampled_softmax(*tensors, torch.from_numpy(shared)).item() == pytest.approx(
        expected, rel=1e-5
    )


def pairs(sequences: TrainingSequences) -> list[tuple[tuple[int, ...], int]]:
    """Returns every (inputs so far, target) that an epoch trains."""
    out = []
    for batch in sequences.batches(np.random.default_rng(0)):
        items = batch.inputs.items.tolist()
        starts = []
        for rows, width in batch.inputs.blocks:
            for _ in range(rows):
                starts += [len(starts)] * width
        for cell, target in zip(batch.cells.tolist(), batch.targets.tolist(), strict=True):
            out.append((tuple(items[starts[cell] : cell + 1]), target))
    return sorted(out)


def test_every_real_position_is_trained_once_and_no_other() -> None:
    histories = Histories.of([[1, 2, 3], [4], [], [5, 6], [7, 7, 7]], 10)
    sequences = TrainingSequences(histories, small(batch_size=2), device="cpu")
    assert pairs(sequences) == [((1,), 2), ((1, 2), 3), ((5,), 6), ((7,), 7), ((7, 7), 7)]
    assert (sequences.n_targets, sequences.n_batches) == (5, 2)


def test_long_histories_train_on_the_newest_or_on_all_windows() -> None:
    histories = Histories.of([list(range(8))], 10)
    last = TrainingSequences(histories, small(max_length=3), device="cpu")
    assert pairs(last) == [((4,), 5), ((4, 5), 6), ((4, 5, 6), 7)]
    every = TrainingSequences(histories, small(max_length=3, windows="all"), device="cpu")
    assert sorted(target for _, target in pairs(every)) == [1, 2, 3, 4, 5, 6, 7]
    assert ((1, 2, 3), 4) in pairs(every)
    assert ((0,), 1) in pairs(every)


def test_negatives_lie_outside_the_whole_training_history() -> None:
    lists = [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    config = small(max_length=3, n_negatives=4)
    sequences = TrainingSequences(Histories.of(lists, 10), config, device="cpu")
    for batch in sequences.batches(np.random.default_rng(0)):
        assert batch.negatives is not None
        assert batch.negatives.shape == (len(batch.targets), 4)
        for target, negatives in zip(batch.targets, batch.negatives, strict=True):
            assert set(negatives.tolist()) <= ({8, 9} if target < 8 else set(range(8)))


@pytest.mark.parametrize("loss", ["bce", "ce", "sampled_softmax"])
@pytest.mark.parametrize("norm", NORMS)
def test_it_learns_a_circle_with_every_loss_and_norm(tmp_path: Path, loss: str, norm: str) -> None:
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


def test_batching_changes_no_user_vector(fitted: SASRec, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 20, size=n).tolist() for n in (5, 0, 1, 12, 8, 3, 3, 0, 40)]
    together = fitted.user_vectors(Histories.of(lists, 20))
    alone = [fitted.user_vectors(Histories.of([items], 20))[0] for items in lists]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    monkeypatch.setattr("dynmm_plugins.sasrec.model.ENCODE_ROWS", 2)
    np.testing.assert_allclose(fitted.user_vectors(Histories.of(lists, 20)), together, atol=1e-5)


def test_only_the_newest_items_count(fitted: SASRec) -> None:
    newest = [1, 2, 3, 4, 5, 6, 7, 8]
    vectors = fitted.user_vectors(Histories.of([[9, 9, *newest], newest], 20))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


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
