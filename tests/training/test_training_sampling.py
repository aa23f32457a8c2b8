from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.sampling import DeviceNegativeSampler, NegativeSampler


class OnDevice(NegativeSampler):
    """Draws by torch, with the other's signature."""

    def draw(self, users: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        sampler = DeviceNegativeSampler(self, "cpu")
        drawn = sampler.draw(torch.from_numpy(users), generator=generator)
        assert drawn.dtype == torch.int64
        return drawn.numpy().astype(np.int32)


both = pytest.mark.parametrize("kind", [NegativeSampler, OnDevice])


@both
@given(st.data())
def test_negatives_are_never_in_the_history(
    kind: type[NegativeSampler], data: st.DataObject
) -> None:
    n_items = data.draw(st.integers(1, 12))
    lists = data.draw(st.lists(st.lists(st.integers(0, n_items - 1), max_size=15), min_size=1))
    sampler = kind(Histories.of(lists, n_items))
    users = np.repeat(np.arange(len(lists)), 20)
    drawn = sampler.draw(users, rng=np.random.default_rng(0))
    assert drawn.dtype == np.int32
    assert drawn.min() >= 0
    assert drawn.max() < n_items
    for user, item in zip(users, drawn, strict=True):
        assert item not in lists[user] or len(set(lists[user])) == n_items


@both
@pytest.mark.parametrize("history", [[], [0], [9], [3, 3, 4], [0, 1, 2, 5, 9], [8, 7, 6, 5, 4, 3]])
def test_negatives_are_uniform_over_the_items_left(
    kind: type[NegativeSampler], history: list[int]
) -> None:
    sampler = kind(Histories.of([[1], history, [2, 0]], 10))
    drawn = sampler.draw(np.ones(20_000, np.int64), rng=np.random.default_rng(1))
    counts = np.bincount(drawn, minlength=10)
    free = np.setdiff1d(np.arange(10), history)
    assert counts[history].sum() == 0
    assert chisquare(counts[free]).pvalue > 1e-3


@both
def test_a_user_with_every_item_gets_any_item(kind: type[NegativeSampler]) -> None:
    sampler = kind(Histories.of([[0, 1, 2], [1]], 3))
    drawn = sampler.draw(np.zeros(9_000, np.int64), rng=np.random.default_rng(2))
    assert chisquare(np.bincount(drawn, minlength=3)).pvalue > 1e-3


@both
def test_the_shape_of_the_draw_is_that_of_the_users(kind: type[NegativeSampler]) -> None:
    sampler = kind(Histories.of([[0], [1]], 5))
    users = np.array([[0, 0, 0], [1, 1, 1]])
    drawn = sampler.draw(users, rng=np.random.default_rng(3))
    assert drawn.shape == (2, 3)
    assert not (drawn == users).any()


@both
def test_draws_depend_on_the_generator_alone(kind: type[NegativeSampler]) -> None:
    sampler = kind(Histories.of([[0], [1]], 50))
    users = np.tile([0, 1], 30)
    first = sampler.draw(users, rng=np.random.default_rng(4))
    np.testing.assert_array_equal(first, sampler.draw(users, rng=np.random.default_rng(4)))
    assert (first != sampler.draw(users, rng=np.random.default_rng(5))).any()
