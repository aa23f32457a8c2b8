"""Where to compute, and what is refused before any work."""

from __future__ import annotations

import sys

import pytest

from dynmm_framework.config.pipeline import ComputeBlock
from dynmm_framework.engine.device import guess_device, resolve_device
from dynmm_framework.errors import ConfigError, PluginError


def test_a_missing_torch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PluginError, match=r"needs torch.*\n.*dynmm-framework\[torch\]"):
        resolve_device(ComputeBlock())


def test_a_gpu_without_bf16_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "an old card")
    with pytest.raises(ConfigError, match="an old card has no bf16"):
        resolve_device(ComputeBlock(precision="bf16"))
    assert resolve_device(ComputeBlock()) == "cuda:0"


def test_the_cpu_is_the_cpu():
    assert guess_device("cpu") == "cpu"
    assert resolve_device(ComputeBlock(device="cpu")) == "cpu"
