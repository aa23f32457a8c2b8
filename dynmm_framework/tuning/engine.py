"""Chooses where trials run, and refuses what is not there before anything starts."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path

from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.config.search import SearchBlock
from dynmm_framework.engine.device import guess_device
from dynmm_framework.errors import ConfigError, PluginError, Problem, StageError

ANSWER_SECONDS = 5.0
"""How long an address may take to answer."""
HEAD_PORT = 6379


def choose_engine(block: SearchBlock) -> tuple[str, str]:
    """Returns ``local`` or ``ray``, and a line that says why where nobody asked for it.

    Raises:
        PluginError: If Ray is asked for and not installed.
    """
    there = find_spec("ray") is not None
    if (block.engine == "ray" or block.scheduler.name == "pbt") and not there:
        wanted = "engine: ray" if block.engine == "ray" else "scheduler: pbt"
        raise PluginError(
            f"search.{wanted} needs Ray Tune, which is not installed",
            hint="Install it: pip install 'dynmm-framework[tune]', or set search.engine: local",
        )
    if block.engine == "local":
        return "local", "Trials run one after another in this process (search.engine: local)."
    if not there:
        line = "Ray is not installed: trials run on Optuna alone, one after another in this process"
        if (block.concurrency or 1) > 1 or block.address is not None:
            line += ", whatever concurrency and address say"
        return "local", f"{line}."
    return "ray", ""


def address_of(loaded: LoadedPipeline, block: SearchBlock) -> str:
    """Returns the cluster that is asked for; ``local`` if none is."""
    given = block.address or loaded.pipeline.compute.address
    return given or os.environ.get("RAY_ADDRESS") or "local"


def check_resources(loaded: LoadedPipeline, block: SearchBlock, engine: str, address: str) -> None:
    """Refuses what this machine does not have, before anything is started.

    Raises:
        ConfigError: With all problems.
    """
    wanted, device = block.resources, loaded.pipeline.compute.device
    problems = []
    if engine == "ray" and wanted.gpus == 0 and device.startswith("cuda"):
        message = f"0 contradicts compute.device: {device}; give each trial a part of a GPU"
        problems.append(Problem(message, path="search.resources.gpus"))
    if wanted.gpus and device == "cpu":
        message = f"{wanted.gpus:g} contradicts compute.device: cpu"
        problems.append(Problem(message, path="search.resources.gpus"))
    if address == "local":
        gpus, cpus = gpu_count(), os.cpu_count() or 1
        if wanted.gpus > gpus:
            message = f"a trial asks for {wanted.gpus:g} GPUs, and this machine has {gpus}"
            problems.append(Problem(message, path="search.resources.gpus"))
        if wanted.cpus > cpus and engine == "ray":
            message = f"a trial asks for {wanted.cpus:g} CPUs, and this machine has {cpus}"
            problems.append(Problem(message, path="search.resources.cpus"))
    if problems:
        raise ConfigError(problems, hint="Ask for less, or name a cluster that has it: --address.")


def gpu_count() -> int:
    """Returns the number of GPUs of this machine."""
    if guess_device("auto") == "cpu":
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() and part.strip() != "-1"])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def check_address(address: str) -> None:
    """Makes sure that something answers at an address; Ray itself would try for a minute.

    Raises:
        StageError: If nothing does.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(
            [Problem(f"must be auto or host:port, not {address!r}", path="search.address")],
            hint=f"Such as auto, or 10.0.0.5:{HEAD_PORT}.",
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise unreachable(address, str(error)) from error


def unreachable(address: str, reason: str) -> StageError:
    """Returns the error for a cluster that cannot be reached."""
    return StageError(
        f"nobody answers at the Ray address {address}: {' '.join(reason.split())[:200]}",
        hint="Start a cluster with `ray start --head`, or leave the address out.",
    )
