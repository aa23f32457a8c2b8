"""The faithfulness term of the evidence's loss (method, equation 5): its sign and stop-gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynmm_plugins.soft_prompt.network import faithfulness


def test_faithfulness_is_lowered_by_what_raises_the_target_with_its_evidence() -> None:
    removed = torch.zeros(1, 4)
    targets = torch.tensor([2])
    for better, resolved, printed in ((0.0, 0.05, 0.0), (2.0, 0.0, None)):
        scores = torch.zeros(1, 4)
        scores[0, 2] = better
        gain = float(torch.softmax(scores, 1)[0, 2]) - 0.25
        assert float(faithfulness(scores, removed, targets, margin=0.05)) == pytest.approx(resolved)
        as_printed = faithfulness(scores, removed, targets, margin=0.05, as_printed=True)
        assert float(as_printed) == pytest.approx(gain - 0.05 if printed is None else printed)


@pytest.mark.parametrize("as_printed", [False, True])
def test_a_step_down_its_gradient_goes_the_way_of_its_sign(as_printed: bool) -> None:
    given = torch.tensor([[0.3, 0.1, 0.2]], requires_grad=True)
    removed = torch.tensor([[-1.5 if as_printed else 0.5, 0.1, 0.2]], requires_grad=True)
    target = torch.tensor([0])
    faithfulness(given, removed, target, margin=0.05, as_printed=as_printed).backward()
    assert given.grad is not None
    assert (given.grad[0, 0] < 0) != as_printed  # descending, the target rises, or as printed falls
    assert removed.grad is None  # ranking worse without evidence is no way out


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=2),
    st.integers(0, 2),
)
def test_both_signs_follow_from_the_same_gain(scores: list[list[float]], target: int) -> None:
    given_, removed = torch.tensor(scores[:1]), torch.tensor(scores[1:])
    at = torch.tensor([target])
    gain = torch.softmax(given_, 1)[0, target] - torch.softmax(removed, 1)[0, target]
    resolved = faithfulness(given_, removed, at, margin=0.05)
    printed = faithfulness(given_, removed, at, margin=0.05, as_printed=True)
    assert float(resolved) == pytest.approx(max(0.0, 0.05 - float(gain)), abs=1e-6)
    assert float(printed) == pytest.approx(max(0.0, float(gain) - 0.05), abs=1e-6)
