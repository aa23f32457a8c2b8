from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dynmm_framework.errors import ArtifactError
from dynmm_framework.training.state import load_module_state, module_state


def test_state_survives_the_round_trip_exactly_and_is_a_copy() -> None:
    source, target = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    source(torch.randn(5, 3))
    state = module_state(source)
    load_module_state(target, state)
    assert all((module_state(target)[name] == state[name]).all() for name in state)
    before = state["running_mean"].copy()
    source(torch.randn(5, 3) + 9)
    np.testing.assert_array_equal(state["running_mean"], before)


def test_bfloat16_survives_the_round_trip() -> None:
    source, target = nn.Linear(2, 3).bfloat16(), nn.Linear(2, 3).bfloat16()
    load_module_state(target, module_state(source))
    assert torch.equal(source.weight, target.weight)


def test_state_that_does_not_fit_is_one_error_with_everything() -> None:
    module = nn.Linear(2, 3)
    before = module_state(module)
    with pytest.raises(ArtifactError) as caught:
        load_module_state(module, {"weight": np.zeros((2, 2)), "scale": np.zeros(1)})
    text = str(caught.value)
    assert "bias is missing" in text
    assert "scale is not part of the model" in text
    assert "weight has shape (2, 2), the model (3, 2)" in text
    assert (module_state(module)["weight"] == before["weight"]).all()
