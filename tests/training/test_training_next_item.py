from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_model import MAX_LENGTH, Settings, cycles, network
from training_task import StubContext

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import StageError
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.histories import HistoryEncoder
from dynmm_framework.training.loop import train
from dynmm_framework.training.next_item import NextItemBatch, NextItemSequences, NextItemTask

LISTS = [[1, 2, 3], [4], [], [5, 6], [7, 7, 7], list(range(12)), [9, 8]]
resident = pytest.mark.parametrize("resident", [False, True])


def sequences(lists: list[list[int]] = LISTS, n_items: int = 20, **options: Any) -> Any:
    settings = {"max_length": 3, "batch_size": 2, "loss": "ce", **options}
    return NextItemSequences(Histories.of(lists, n_items), **settings)


def pairs(batch: NextItemBatch) -> list[tuple[tuple[int, ...], int]]:
    """Returns every (inputs so far, target) that a batch trains."""
    items, starts = batch.inputs.items.tolist(), []
    for rows, width in batch.inputs.blocks:
        for _ in range(rows):
            starts += [len(starts)] * width
    found = zip(batch.cells.tolist(), batch.targets.tolist(), strict=True)
    return sorted((tuple(items[starts[cell] : cell + 1]), target) for cell, target in found)


def epoch(made: NextItemSequences, seed: int = 0) -> list[NextItemBatch]:
    return list(made.batches(np.random.default_rng(seed)))


@resident
def test_every_real_position_is_trained_once_and_no_other(resident: bool) -> None:
    made = sequences(LISTS[:5], resident=resident)
    found = sorted(pair for batch in epoch(made) for pair in pairs(batch))
    assert found == [((1,), 2), ((1, 2), 3), ((5,), 6), ((7,), 7), ((7, 7), 7)]
    assert (made.n_targets, made.n_batches) == (5, 2)


@resident
def test_long_histories_train_on_the_newest_or_on_all_windows(resident: bool) -> None:
    def trained(**options: Any) -> list[tuple[tuple[int, ...], int]]:
        made = sequences([list(range(8))], 10, resident=resident, **options)
        return sorted(pair for batch in epoch(made) for pair in pairs(batch))

    assert trained() == [((4,), 5), ((4, 5), 6), ((4, 5, 6), 7)]
    every = trained(windows="all")
    assert sorted(target for _, target in every) == [1, 2, 3, 4, 5, 6, 7]
    assert ((1, 2, 3), 4) in every
    assert ((0,), 1) in every


@pytest.mark.parametrize("windows", ["last", "all"])
def test_batches_made_on_the_device_hold_the_same_sequences(windows: str) -> None:
    rng = np.random.default_rng(1)
    lists = [rng.integers(0, 40, rng.integers(0, 15)).tolist() for _ in range(50)]
    both = [
        epoch(sequences(lists, 40, batch_size=8, windows=windows, resident=where), 3)
        for where in (False, True)
    ]
    assert len(both[0]) == len(both[1])
    for ours, theirs in zip(*both, strict=True):
        assert pairs(ours) == pairs(theirs)
        for batch in (ours, theirs):
            inputs = batch.inputs
            assert inputs.positions[inputs.ends].unique().tolist() == [2]
            assert inputs.positions[batch.cells].min() == 3 - inputs.lengths.max()
            assert inputs.lengths.sum() == len(batch.cells)
        assert len(theirs.inputs.blocks) == 1
        lengths = [sorted(batch.inputs.lengths.tolist()) for batch in (ours, theirs)]
        assert lengths[0] == lengths[1]


@resident
def test_negatives_lie_outside_the_whole_training_history(resident: bool) -> None:
    lists = [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    made = sequences(lists, 10, loss="bce", n_negatives=4, resident=resident)
    for batch in epoch(made):
        assert batch.negatives is not None
        assert batch.negatives.shape == (len(batch.targets), 4)
        for target, negatives in zip(batch.targets, batch.negatives, strict=True):
            assert set(negatives.tolist()) <= ({8, 9} if target < 8 else set(range(8)))


@resident
def test_each_loss_gets_its_negatives(resident: bool) -> None:
    def shape(loss: str, n_negatives: int | None = None) -> tuple[int, ...] | None:
        made = sequences(loss=loss, n_negatives=n_negatives, batch_size=99, resident=resident)
        (batch,) = epoch(made)
        assert len(batch.targets) == made.n_targets
        return None if batch.negatives is None else tuple(batch.negatives.shape)

    assert shape("ce") is None
    assert shape("bce") == (sequences().n_targets, 1)
    assert shape("bce", 3) == (sequences().n_targets, 3)
    assert shape("sampled_softmax") == (512,)
    assert shape("sampled_softmax", 7) == (7,)


@resident
def test_epochs_follow_the_generator_and_negatives_are_fresh(resident: bool) -> None:
    made = sequences(loss="bce", n_negatives=5, batch_size=99, resident=resident)
    first, again, other = (epoch(made, seed)[0].negatives for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_device_but_the_cpu_makes_its_own_batches() -> None:
    assert sequences().resident is None
    assert sequences(device="meta").resident is not None


def test_nothing_to_learn_is_a_clear_error() -> None:
    made = sequences([[1], [2], []], 5, resident=True)
    assert epoch(made) == []
    with pytest.raises(StageError, match="stage s: no user has two training interactions"):
        made.refuse_nothing("s")
    sequences().refuse_nothing("s")


@pytest.mark.parametrize("loss", ["bce", "ce", "sampled_softmax"])
@resident
def test_both_ways_to_batches_train_to_the_same_accuracy(
    tmp_path: Path, loss: str, resident: bool
) -> None:
    sizes = Settings(dropout=0.0, attention_dropout=0.0, init_std=0.1)
    made = network(20, sizes=sizes)
    options: dict[str, Any] = {"max_length": MAX_LENGTH, "batch_size": 32, "loss": loss}
    served = NextItemSequences(cycles(), resident=resident, **options)
    encoder = HistoryEncoder(made)
    task = NextItemTask(made, served, encoder.score)
    log = train(task, LoopConfig(epochs=25, learning_rate=0.01), StubContext(tmp_path))
    assert log.epochs[-1]["loss"] < 0.2 * log.epochs[0]["loss"]
    asked = Histories.of([[3, 4, 5], [18, 19], [7]], 20)
    scores = encoder.user_vectors(asked) @ encoder.item_vectors().T
    # A user's own items are never negatives, so the loss does not rank them.
    scores[asked.rows, asked.items] = -np.inf
    assert scores.argmax(1).tolist() == [6, 0, 8]


def test_the_loss_is_the_mean_over_its_terms() -> None:
    made = network(20, sizes=Settings(dropout=0.0, attention_dropout=0.0))
    served = sequences(max_length=8, batch_size=99)
    task = NextItemTask(made, served, HistoryEncoder(made).score)
    (batch,) = epoch(served)
    assert task.n_terms(batch) == served.n_targets
    logits = made(batch.inputs)[batch.cells] @ made.vectors.T
    expected = torch.nn.functional.cross_entropy(logits, batch.targets)
    torch.testing.assert_close(task.loss(batch), expected)


def test_batches_are_drawn_at_random() -> None:
    made = sequences([[i, i + 1] for i in range(10)], batch_size=5)
    seen = Counter(tuple(sorted(epoch(made, seed)[0].targets.tolist())) for seed in range(20))
    assert len(seen) > 15
