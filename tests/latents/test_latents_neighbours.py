from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from dynmm_framework.latents import neighbours as module
from dynmm_framework.latents.neighbours import nearest


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for found in out if isinstance(out, tuple | list) else (out,):
            if isinstance(found, torch.Tensor):
                self.elements = max(self.elements, found.numel())
        return out


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 10_000), st.booleans())
@settings(max_examples=25, deadline=None)
def test_neighbours_are_those_of_the_whole_matrix(n: int, k: int, seed: int, some: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = torch.from_numpy(rng.normal(size=(n, 5)).astype(np.float32))
    present = torch.from_numpy(rng.random(n) < 0.6) if some else torch.ones(n, dtype=torch.bool)
    found, cosines = nearest(vectors, k, present=present if some else None)
    units = torch.nn.functional.normalize(vectors, dim=1)
    whole = units @ units.T
    whole[~present] = 0
    whole[:, ~present] = 0
    for item in range(n):
        row = whole[item]
        wanted = sorted((j for j in range(n) if row[j] > 0), key=lambda j: -float(row[j]))[:k]
        filled = found[item] >= 0
        assert found[item][filled].tolist() == wanted
        torch.testing.assert_close(cosines[item][filled], row[wanted], rtol=1e-5, atol=1e-6)
        assert not cosines[item][~filled].any()


def test_blocks_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(101, 7, generator=torch.Generator().manual_seed(0))
    whole = nearest(vectors, 4)
    monkeypatch.setattr(module, "CPU_BYTES", 4 * 101 * 9)
    for one, other in zip(whole, nearest(vectors, 4), strict=True):
        torch.testing.assert_close(one, other)


def test_constant_vectors_tie_with_the_first_and_zeros_with_none() -> None:
    found, cosines = nearest(torch.ones(6, 3), 2)
    assert found.tolist() == [[0, 1]] * 6
    torch.testing.assert_close(cosines, torch.ones(6, 2))
    found, cosines = nearest(torch.zeros(4, 3), 2)
    assert found.tolist() == [[-1, -1]] * 4
    assert not cosines.any()


def test_nothing_present_has_no_neighbours() -> None:
    found, _ = nearest(torch.ones(3, 2), 5, present=torch.zeros(3, dtype=torch.bool))
    assert found.tolist() == [[-1] * 5] * 3


def test_no_matrix_of_all_pairs_is_ever_made() -> None:
    n = 7_000
    with Largest() as largest:
        nearest(torch.randn(n, 8), 10)
    assert largest.elements * 4 <= module.CPU_BYTES < n * n * 4 / 10
