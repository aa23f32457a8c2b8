"""Losses of the joint space, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import MultivariateNormal, kl_divergence

from dynmm_framework.latents.losses import (
    gaussian_shift,
    info_nce,
    pairwise_alignment,
    reconstruction,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_info_nce_of_unrelated_views_is_the_logarithm_of_the_batch() -> None:
    same = torch.ones(8, 4)
    assert info_nce(same, same, temperature=0.07).item() == pytest.approx(math.log(8), abs=1e-5)


def test_info_nce_of_perfect_views_goes_to_0() -> None:
    views = torch.eye(6)
    assert info_nce(views, views * 3, temperature=0.01).item() == pytest.approx(0, abs=1e-6)


def test_info_nce_is_symmetric_and_ignores_length() -> None:
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    forward = info_nce(a, b, temperature=0.1)
    torch.testing.assert_close(info_nce(b * 7, a * 0.1, temperature=0.1), forward)


def test_info_nce_equals_its_definition() -> None:
    a, b = F.normalize(torch.randn(4, 3), dim=1), F.normalize(torch.randn(4, 3), dim=1)
    logits = (a @ b.T / 0.2).double()
    rows = -(logits.diagonal() - logits.logsumexp(1)).mean()
    columns = -(logits.diagonal() - logits.logsumexp(0)).mean()
    found = info_nce(a, b, temperature=0.2)
    assert found.item() == pytest.approx(((rows + columns) / 2).item(), abs=1e-5)


def test_duplicates_are_no_negatives_of_each_other() -> None:
    a, b = torch.randn(6, 3), torch.randn(6, 3)
    twice_a, twice_b = torch.cat([a, a]), torch.cat([b, b])
    groups = torch.arange(6).repeat(2)
    same = groups[:, None] == groups[None]
    found = info_nce(twice_a, twice_b, temperature=0.1, same=same)
    # Each of the others now stands twice in the denominator, the own one once.
    logits = (F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.1).double()
    doubled = logits + math.log(2) * (1 - torch.eye(6))
    own = torch.arange(6)
    expected = (F.cross_entropy(doubled, own) + F.cross_entropy(doubled.T, own)) / 2
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_pairs_use_items_that_have_both() -> None:
    views = [torch.randn(6, 4) for _ in range(3)]
    present = torch.ones(6, 3, dtype=torch.bool)
    present[:3, 2] = False
    both = info_nce(views[0][3:], views[2][3:], temperature=0.1)
    torch.testing.assert_close(pairwise_alignment(views, present, [(0, 2)], temperature=0.1), both)


def test_pairs_without_items_give_0() -> None:
    present = torch.zeros(4, 2, dtype=torch.bool)
    found = pairwise_alignment([torch.randn(4, 3)] * 2, present, [(0, 1)], temperature=0.1)
    assert found.item() == 0


def test_reconstruction_counts_present_items_by_weight() -> None:
    truth = [torch.zeros(4, 3), torch.zeros(4, 2)]
    guess = [torch.ones(4, 3), torch.full((4, 2), 2.0)]
    present = torch.tensor([[True, False], [True, True], [False, False], [False, True]])
    assert reconstruction(guess, truth, present, [1.0, 0.5]).item() == pytest.approx(1 + 0.5 * 4)
    assert reconstruction(guess, truth, present & False, [1.0, 0.5]).item() == 0


def test_the_shift_is_the_kl_divergence_of_equal_gaussians() -> None:
    a, b, sigma = torch.randn(5, 3), torch.randn(5, 3), 0.7
    spread = torch.eye(3) * sigma**2
    expected = kl_divergence(MultivariateNormal(a, spread), MultivariateNormal(b, spread)).mean()
    torch.testing.assert_close(gaussian_shift(a, b, sigma=sigma), expected)
