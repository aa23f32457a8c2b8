"""Where to compute: turns a pipeline's ``compute`` block into a device and a thread count."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from dynmm_framework.config.pipeline import ComputeBlock
from dynmm_framework.errors import ConfigError, PluginError, Problem


def guess_device(setting: str) -> str:
    """Returns the device that ``setting`` will mean, without importing torch."""
    if setting != "auto":
        return setting
    return "cuda:0" if Path("/dev/nvidia0").exists() else "cpu"


def worker_device(compute: ComputeBlock) -> str:
    """Returns the kind of device of each Ray worker, ``cpu`` or ``cuda``, without torch."""
    if compute.gpus_per_worker == "auto":
        return guess_device(compute.device).partition(":")[0]
    return "cuda" if compute.gpus_per_worker else "cpu"


def require_engine(compute: ComputeBlock) -> None:
    """Makes sure that the engine is there, before anything is computed.

    Raises:
        PluginError: If Ray is asked for and not installed.
    """
    if compute.engine == "ray" and find_spec("ray") is None:
        raise PluginError(
            "compute.engine: ray needs Ray, which is not installed",
            hint="Install it: pip install 'dynmm-framework[ray]', or set compute.engine: local",
        )


def resolve_device(compute: ComputeBlock) -> str:
    """Returns a torch device that exists, and sets the process's number of threads.

    Raises:
        ConfigError: If the device asked for does not exist on this machine.
        PluginError: If torch is not installed.
    """
    # Idle OpenMP threads that spin slow a busy machine down several times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch
    except ImportError as error:
        raise PluginError(
            f"running a pipeline needs torch, which does not load: {error}",
            hint="Install it: pip install 'dynmm-framework[torch]'",
        ) from error

    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    setting = compute.device
    if setting == "auto":
        setting = "cuda" if gpus else "cpu"
    try:
        device = torch.device(setting)
    except RuntimeError:
        raise _refused("device", f"not a device: {setting!r}") from None
    if device.type == "cpu":
        return "cpu"
    if device.type != "cuda":
        raise _refused("device", f"device type {device.type!r} is not supported")
    index = device.index or 0
    if index >= gpus:
        raise _refused("device", f"{setting!r} is asked for, but torch sees {gpus} GPUs here")
    if compute.precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise _refused("precision", f"{torch.cuda.get_device_name(index)} has no bf16; use fp32")
    return f"cuda:{index}"


def _refused(field: str, reason: str) -> ConfigError:
    return ConfigError(
        [Problem(reason, path=f"compute.{field}")],
        hint="Use compute.device=auto, cpu, cuda or cuda:N, and look at `dynmm doctor`.",
    )
