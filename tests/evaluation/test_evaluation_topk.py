"""The best k of each row, with ties in the order of columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynmm_framework.evaluation.topk import largest


def naive(scores: np.ndarray, k: int) -> np.ndarray:
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(scores, columns, axis=1) == -np.inf, -1, columns)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 6),
    n=st.integers(1, 1500),
    k=st.integers(0, 25),
    levels=st.sampled_from([1, 2, 7, 40, 10**6]),
    masked=st.sampled_from([0.0, 0.3, 0.999, 1.0]),
)
def test_largest_is_a_stable_sort(
    seed: int, rows: int, n: int, k: int, levels: int, masked: float
) -> None:
    rng = np.random.default_rng(seed)
    k = min(k, n)
    scores = rng.integers(-levels, levels, (rows, n)).astype(np.float32)
    scores[rng.random((rows, n)) < masked] = -np.inf
    values, columns = largest(torch.from_numpy(scores), k)
    expected = naive(scores, k)
    np.testing.assert_array_equal(columns.numpy(), expected)
    np.testing.assert_array_equal(
        values.numpy(),
        np.where(expected < 0, -np.inf, np.take_along_axis(scores, expected.clip(0), axis=1)),
    )


@pytest.mark.parametrize("n", [3000, 6401, 6464])
@pytest.mark.parametrize("levels", [1, 3, 50, 3000])
def test_largest_of_long_rows_is_a_stable_sort(n: int, levels: int) -> None:
    rng = np.random.default_rng(n + levels)
    scores = rng.integers(0, levels, (8, n)).astype(np.float32)
    np.testing.assert_array_equal(
        largest(torch.from_numpy(scores), 20)[1].numpy(), naive(scores, 20)
    )


def test_a_tie_beyond_the_first_columns_is_found() -> None:
    scores = np.zeros((2, 5000), dtype=np.float32)
    scores[0, [4999, 4000, 3000, 1500]] = 1
    scores[1, [7, 4000, 3000, 1500]] = [2, 1, 1, 1]
    columns = largest(torch.from_numpy(scores), 3)[1]
    assert columns.tolist() == [[1500, 3000, 4000], [7, 1500, 3000]]


def test_minus_zero_ties_with_zero() -> None:
    scores = torch.tensor([[0.0, -0.0, 0.0, -1.0]])
    assert largest(scores, 2)[1].tolist() == [[0, 1]]


def test_largest_leaves_its_input_alone() -> None:
    scores = torch.zeros(3, 40)
    scores[:, 5] = -torch.inf
    before = scores.clone()
    largest(scores, 10)
    assert torch.equal(scores, before)
