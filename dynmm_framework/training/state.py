"""A module's parameters and buffers as named NumPy arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import State


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Returns a copy of a tensor as NumPy; bfloat16, which NumPy lacks, becomes float32."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return np.array(tensor.cpu().numpy(), copy=True)


def module_state(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Returns copies of a module's parameters and persistent buffers by name."""
    return {name: to_array(tensor) for name, tensor in module.state_dict().items()}


def load_module_state(module: nn.Module, state: State) -> None:
    """Writes arrays into a module's parameters and buffers, exactly and in place.

    Args:
        module: A module of the same configuration; stays on its device.
        state: What :func:`module_state` returned.

    Raises:
        ArtifactError: If names or shapes do not fit; names all of them and changes nothing.
    """
    own: Mapping[str, torch.Tensor] = module.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is not part of the model" for name in state if name not in own]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, the model {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and tuple(state[name].shape) != tuple(tensor.shape)
    ]
    if problems:
        raise ArtifactError(
            f"stored weights do not fit {type(module).__name__}: {'; '.join(problems)}",
            hint="They belong to another configuration or data set; train again.",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.array(state[name], order="C")))
