"""Batches by length waste little, and memory that runs out is met once, then said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.errors import StageError
from dynmm_framework.language.batches import by_length, compute_batches


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 2000))
def test_every_sequence_comes_once_and_little_is_padding(lengths, max_tokens) -> None:
    groups = by_length(lengths, max_tokens=max_tokens)
    assert sorted(int(row) for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        sizes = np.array(lengths)[group]
        padded = max(int(sizes.max()), 1) * len(group)
        assert len(group) == 1 or padded <= max_tokens
        assert len(group) == 1 or padded - sizes.sum() <= 0.1 * padded


def failing(limit: int, error: Exception):
    def compute(rows):
        if len(rows) > limit:
            raise error
        return rows.tolist()

    return compute


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("x"), RuntimeError("can't allocate memory: 8 bytes"), MemoryError()],
)
def test_batches_are_halved_once_and_it_is_said(error) -> None:
    lines: list[str] = []
    groups = [np.arange(8), np.arange(8, 16)]
    found = [
        r for _, part in compute_batches(groups, failing(4, error), log=lines.append) for r in part
    ]
    assert found == list(range(16))
    assert lines == ["out of memory with 8 sequences at once; going on with half as many"]


def test_memory_that_runs_out_again_ends_in_words() -> None:
    compute = failing(1, torch.OutOfMemoryError("x"))
    message = "fit/x: out of memory, 4 sequences at once, half of what was tried first"
    with pytest.raises(StageError, match=message):
        list(compute_batches([np.arange(8)], compute, log=lambda _: None, place="fit/x"))
    with pytest.raises(StageError, match="Lower the batch size"):
        list(compute_batches([np.arange(1)], failing(0, MemoryError()), log=lambda _: None))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        list(compute_batches([np.arange(8)], failing(0, RuntimeError("shape")), log=print))
