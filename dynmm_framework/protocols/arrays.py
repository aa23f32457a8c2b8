"""What is passed around: arrays, scores, learned state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int32]
State: TypeAlias = Mapping[str, NDArray[Any]]
"""A component's learned state: named arrays, stored as safetensors, never pickled."""

Scores: TypeAlias = "FloatArray | torch.Tensor"
"""Scores as NumPy or torch, on any device; higher is better; finite."""

Precision = Literal["fp32", "bf16"]
