"""Fusion under missing modalities."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.latents.fusion import (
    ConcatFusion,
    CrossAttentionFusion,
    GatedFusion,
    SharedProjector,
    drop_modalities,
)

FUSIONS = (GatedFusion, ConcatFusion, CrossAttentionFusion)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def views(items: int, modalities: int, dim: int) -> list[torch.Tensor]:
    return [torch.randn(items, dim) for _ in range(modalities)]


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_missing_modality_does_not_matter(kind: type[torch.nn.Module]) -> None:
    module, given_views = kind(3, 8), views(5, 3, 8)
    present = torch.rand(5, 3) < 0.6
    before = module(given_views, present)
    changed = [
        torch.where(present[:, n, None], rows, torch.randn_like(rows) * 100)
        for n, rows in enumerate(given_views)
    ]
    torch.testing.assert_close(module(changed, present), before)


@pytest.mark.parametrize("kind", FUSIONS)
def test_an_item_without_any_modality_has_a_finite_vector(kind: type[torch.nn.Module]) -> None:
    out = kind(2, 8)(views(4, 2, 8), torch.zeros(4, 2, dtype=torch.bool))
    assert out.isfinite().all()
    torch.testing.assert_close(out, out[:1].expand_as(out))


@pytest.mark.parametrize("kind", FUSIONS)
def test_items_do_not_see_each_other(kind: type[torch.nn.Module]) -> None:
    module, given_views = kind(3, 8).eval(), views(6, 3, 8)
    present = torch.rand(6, 3) < 0.7
    whole = module(given_views, present)
    part = module([rows[2:4] for rows in given_views], present[2:4])
    torch.testing.assert_close(whole[2:4], part)


def test_the_gate_of_one_present_modality_is_that_modality() -> None:
    given_views = views(3, 2, 4)
    present = torch.tensor([[True, False]] * 3)
    torch.testing.assert_close(GatedFusion(2, 4)(given_views, present), given_views[0])


def test_the_projector_takes_any_widths() -> None:
    projected = SharedProjector([3, 7], hidden=5, dim=4)([torch.randn(2, 3), torch.randn(2, 7)])
    assert [tuple(rows.shape) for rows in projected] == [(2, 4), (2, 4)]


@given(rate=st.floats(0, 0.99), seed=st.integers(0, 2**16))
def test_dropping_never_takes_all_and_never_gives(rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    present = torch.rand(20, 3) < 0.5
    kept = drop_modalities(present, rate)
    assert not (kept & ~present).any()
    assert (kept.any(dim=1) == present.any(dim=1)).all()


def test_dropping_has_its_rate() -> None:
    kept = drop_modalities(torch.ones(20_000, 4, dtype=torch.bool), 0.3)
    # All four go with probability .3^4; then one of them stays.
    expected = 0.7 + 0.3**4 / 4
    assert kept.float().mean().item() == pytest.approx(expected, abs=0.01)


def test_nothing_is_dropped_at_rate_0() -> None:
    present = torch.rand(50, 3) < 0.5
    assert torch.equal(drop_modalities(present, 0.0), present)
