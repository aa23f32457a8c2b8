"""Contexts and checkpoints for the tests of encoders."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def context(**settings: Any) -> Any:
    """Returns as much of a context as an encoder uses; ``lines`` keeps its log."""
    lines: list[str] = []
    return SimpleNamespace(
        **{
            "stage": "encode",
            "device": "cpu",
            "offline": False,
            "lines": lines,
            "log": lines.append,
            "rng": lambda name: np.random.default_rng([1, *name.encode()]),
            **settings,
        }
    )


def save_weights(module: torch.nn.Module, path: Path) -> Path:
    """Saves a module's weights as safetensors."""
    save_file({k: v.clone().contiguous() for k, v in module.state_dict().items()}, path)
    return path


def spoil(path: Path, how: str) -> None:
    """Damages a safetensors file: ``pointer``, ``cut``, ``renamed`` or ``reshaped``."""
    from safetensors.torch import load_file

    if how == "pointer":
        path.write_bytes(LFS_POINTER)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        weights = load_file(path)
        name = max(weights, key=lambda key: weights[key].numel())
        tensor = weights.pop(name)
        weights[f"other.{name}" if how == "renamed" else name] = (
            tensor if how == "renamed" else tensor[:-1].contiguous()
        )
        save_file(weights, path, metadata={"format": "pt"})


DAMAGE = {
    "pointer": "it is a Git LFS pointer",
    "cut": "it is not a whole safetensors file",
    "renamed": "is a checkpoint of another architecture than",
    "reshaped": "is a checkpoint of another architecture than",
}
"""What is said about each kind of damage."""
