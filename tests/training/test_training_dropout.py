from __future__ import annotations

import pytest
import torch

from dynmm_framework.training.dropout import MaskSource


@pytest.mark.parametrize("probability", [0.5, 0.25, 0.1, 0.333, 0.9])
def test_masks_keep_the_right_share_and_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(400, 500)
    out = MaskSource(x.device).dropout(x, probability)
    assert (out == 0).float().mean().item() == pytest.approx(probability, abs=0.006)
    kept = out[out != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(1 / (1 - probability), rel=1e-3)


def test_masks_follow_the_seed_and_differ_within_a_pass() -> None:
    x = torch.ones(1000)
    torch.manual_seed(1)
    source = MaskSource(x.device)
    first, second = source.dropout(x, 0.5), source.dropout(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(MaskSource(x.device).dropout(x, 0.5), first)
    assert not torch.equal(first, second)


def test_gradients_pass_only_where_values_pass() -> None:
    x = torch.ones(3, 5, requires_grad=True)
    out = MaskSource(x.device).dropout(x, 0.5)
    out.sum().backward()
    assert torch.equal(x.grad, out)


def test_no_dropout_returns_the_input_itself() -> None:
    x = torch.ones(3)
    assert MaskSource(x.device).dropout(x, 0.0) is x
