from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.training.batches import lay_out, random_batches


def test_every_row_is_in_exactly_one_batch_and_batches_change() -> None:
    batches = random_batches(1001, 32, rng=np.random.default_rng(1))
    assert len(batches) == -(-1001 // 32)
    assert sorted(np.concatenate(batches)) == list(range(1001))
    again = random_batches(1001, 32, rng=np.random.default_rng(1))
    other = random_batches(1001, 32, rng=np.random.default_rng(2))
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))
    assert (batches[0] != other[0]).any()
    assert random_batches(0, 32, rng=np.random.default_rng(1)) == []


@given(st.lists(st.integers(1, 60), min_size=1, max_size=50), st.booleans())
def test_every_element_has_a_place_of_its_own(lengths: list[int], single: bool) -> None:
    rows = np.array(lengths)
    layout = lay_out(rows, single=single)
    assert sum(count * width for count, width in layout.blocks) == layout.size
    assert sum(count for count, _ in layout.blocks) == len(rows)
    assert len(np.unique(layout.cells)) == rows.sum()
    place = np.full(layout.size, -1)
    place[layout.cells] = layout.steps
    start, row = 0, 0
    for count, width in layout.blocks:
        block = place[start : start + count * width].reshape(count, width)
        for line in block:
            length = rows[layout.order[row]]
            assert line.tolist() == [*range(length), *([-1] * (width - length))]
            assert layout.ends[row] == start + length - 1
            start += width
            row += 1
    if single:
        assert len(layout.blocks) == 1


@pytest.mark.parametrize("mean", [3, 10, 50])
def test_padding_is_small_and_blocks_are_few(mean: int) -> None:
    lengths = np.minimum(np.random.default_rng(0).geometric(1 / mean, size=256), 50)
    layout = lay_out(lengths)
    assert layout.size < 1.3 * lengths.sum()
    assert len(layout.blocks) <= 10
