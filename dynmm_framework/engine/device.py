"""Where to compute: turns a pipeline's ``compute`` block into a device and a thread count."""

from __future__ import annotations

import os
from pathlib import Path

from dynmm_framework.config.pipeline import ComputeBlock
from dynmm_framework.errors import ConfigError, Problem


def guess_device(setting: str) -> str:
    """Returns the device that ``setting`` will mean, without importing torch."""
    if setting != "auto":
        return setting
    return "cuda:0" if Path("/dev/nvidia0").exists() else "cpu"


def resolve_device(compute: ComputeBlock) -> str:
    """Returns a torch device that exists, and sets the process's number of threads.

    Raises:
        ConfigError: If the device asked for does not exist on this machine.
    """
    # Idle OpenMP threads that spin slow a busy machine down several times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if compute.device == "auto":
        return "cuda:0" if gpus else "cpu"
    try:
        device = torch.device(compute.device)
    except RuntimeError:
        raise ConfigError(
            [Problem(f"not a device: {compute.device!r}", path="compute.device")],
            hint="Use auto, cpu, cuda or cuda:N.",
        ) from None
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ConfigError(
            [
                Problem(
                    f"{compute.device!r} is asked for, but torch sees {gpus} GPUs here",
                    path="compute.device",
                )
            ],
            hint="Use compute.device=auto, or look at `dynmm doctor`.",
        )
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            [Problem(f"device type {device.type!r} is not supported", path="compute.device")],
            hint="Use auto, cpu, cuda or cuda:N.",
        )
    return f"cuda:{device.index or 0}" if device.type == "cuda" else "cpu"
