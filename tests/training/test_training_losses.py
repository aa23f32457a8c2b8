from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dynmm_framework.training import losses
from dynmm_framework.training.losses import binary_cross_entropy, cross_entropy, sampled_softmax


@pytest.mark.parametrize("rows", [1, 7, 10, 100])
def test_chunked_cross_entropy_agrees_with_torch_in_value_and_gradients(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", rows)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(10, 4, dtype=torch.float64, generator=generator).requires_grad_()
    items = (9 * torch.randn(6, 4, dtype=torch.float64, generator=generator)).requires_grad_()
    targets = torch.tensor([0, 1, 2, 3, 4, 5, 5, 5, 0, 0])
    results = []
    for function in (cross_entropy, lambda s, i, t: F.cross_entropy(s @ i.T, t)):
        loss = function(states, items, targets)
        results.append((loss, *torch.autograd.grad(3 * loss, [states, items])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_cross_entropy_survives_large_logits() -> None:
    states = torch.tensor([[1e4]], requires_grad=True)
    loss = cross_entropy(states, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert torch.isfinite(states.grad).all()


def test_cross_entropy_works_under_autocast() -> None:
    states, items = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    targets = torch.arange(5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(states.bfloat16(), items, targets)
    loss.backward()
    expected = F.cross_entropy(states @ items.T, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)
    assert items.grad is not None
    assert items.grad.dtype == torch.float32


def test_losses_agree_with_hand_computation() -> None:
    rng = np.random.default_rng(0)
    states, items = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))
    targets, negatives = np.array([0, 5, 2]), np.array([[1, 2], [3, 3], [4, 0]])
    tensors = [torch.from_numpy(a) for a in (states, items, targets)]
    logits = states @ items.T
    rows = np.arange(3)

    def log_sigmoid(x: np.ndarray) -> np.ndarray:
        return -np.log1p(np.exp(-x))

    expected = -log_sigmoid(logits[rows, targets]).mean()
    expected -= log_sigmoid(-np.take_along_axis(logits, negatives, 1)).mean()
    assert binary_cross_entropy(*tensors, torch.from_numpy(negatives)).item() == pytest.approx(
        expected
    )
    expected = (np.log(np.exp(logits).sum(1)) - logits[rows, targets]).mean()
    assert cross_entropy(*tensors).item() == pytest.approx(expected, rel=1e-5)
    shared = np.array([5, 1, 1])  # 5 is the second row's target, hence left out there
    others = np.exp(logits[:, shared]) * 6 / 3
    others[1, 0] = 0
    target = logits[rows, targets]
    expected = (np.log(np.exp(target) + others.sum(1)) - target).mean()
    assert sampled_softmax(*tensors, torch.from_numpy(shared)).item() == pytest.approx(
        expected, rel=1e-5
    )
