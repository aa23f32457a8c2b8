"""Dropout whose masks cost little on the CPU.

Torch draws CPU masks one element at a time, which takes a quarter of a small transformer's
training time. Here NumPy draws random bytes, seeded by torch once for each forward pass, so that
``torch.manual_seed`` still decides everything. On a GPU torch's own dropout is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class MaskSource:
    """Draws dropout masks for one forward pass.

    Args:
        device: Device of the tensors to be masked.
    """

    def __init__(self, device: torch.device) -> None:
        self._bits: np.random.SFC64 | None = None
        if device.type == "cpu":
            self._bits = np.random.SFC64(int(torch.randint(2**62, ()).item()))

    def dropout(self, x: Tensor, probability: float) -> Tensor:
        """Zeroes elements at random and scales the others up by 1 / (1 - probability).

        Args:
            x: Any shape.
            probability: In [0, 1); on the CPU rounded to a multiple of 2⁻¹⁶.
        """
        if probability == 0:
            return x
        if self._bits is None:
            return F.dropout(x, probability)
        return x * self.mask(x.shape, probability).to(x.dtype)

    def mask(self, shape: torch.Size, probability: float) -> Tensor:
        """Returns a CPU mask of zeros and 1 / (1 - probability), float32."""
        assert self._bits is not None
        size = shape.numel()
        threshold = min(round(probability * 65536), 65535)
        # Bytes do when the probability is a multiple of 1/256, and are twice as fast.
        dtype: np.dtype[Any] = np.dtype(np.uint16)
        if threshold % 256 == 0:
            dtype, threshold = np.dtype(np.uint8), threshold // 256
        words = self._bits.random_raw(-(-size * dtype.itemsize // 8))
        kept = words.view(dtype)[:size] >= dtype.type(threshold)
        levels = 256**dtype.itemsize
        scaled = np.multiply(kept, np.float32(levels / (levels - threshold)))
        return torch.from_numpy(scaled).view(shape)
