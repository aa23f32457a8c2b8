from __future__ import annotations

import numpy as np
import pytest

from dynmm_framework.training.batches import length_batches


def lengths() -> np.ndarray:
    return np.random.default_rng(0).geometric(0.1, size=1001)


@pytest.mark.parametrize("window", [0, 1, 4])
def test_every_row_is_in_exactly_one_batch(window: int) -> None:
    batches = length_batches(lengths(), 32, rng=np.random.default_rng(1), window=window)
    assert len(batches) == -(-1001 // 32)
    assert sorted(np.concatenate(batches)) == list(range(1001))


def padding(window: int) -> float:
    rows = lengths()
    batches = length_batches(rows, 32, rng=np.random.default_rng(1), window=window)
    return sum(len(batch) * rows[batch].max() for batch in batches) / rows.sum() - 1


def test_padding_is_small_when_sorted() -> None:
    assert padding(0) < 0.1
    assert padding(0) < padding(4) < padding(1)


def test_batches_change_with_the_generator_and_their_order_is_mixed() -> None:
    rows = lengths()
    first = length_batches(rows, 32, rng=np.random.default_rng(1))
    again = length_batches(rows, 32, rng=np.random.default_rng(1))
    other = length_batches(rows, 32, rng=np.random.default_rng(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert {frozenset(a.tolist()) for a in first} != {frozenset(b.tolist()) for b in other}
    means = [rows[batch].mean() for batch in first]
    assert means != sorted(means)


def test_no_rows_make_no_batches() -> None:
    assert length_batches(np.empty(0), 32, rng=np.random.default_rng(1)) == []
