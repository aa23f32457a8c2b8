"""Contexts and checkpoints for the tests of encoders."""

from __future__ import annotations

import json
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


def save_timm_image(folder: Path) -> Path:
    """Saves a tiny image network with random weights, as one of timm's repositories on the hub."""
    import timm

    name = "test_resnet"  # timm's own network for tests
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(timm.create_model(name, num_classes=7), folder / "model.safetensors")
    settings = {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3]}
    facts = {"architecture": name, "num_classes": 7, "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps(facts))
    return folder


def save_wav2vec2(folder: Path, norm: str) -> Path:
    """Saves a tiny model with random weights; its layers have the kernels of the base model."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        conv_dim=(8,) * 7, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer",
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Wav2Vec2Model(config).save_pretrained(folder)
    return folder


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
