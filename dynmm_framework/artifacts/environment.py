"""Where a run took place: versions, hardware and the state of the code, nothing personal."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

LIBRARIES = (
    "dynmm-framework",
    "faiss-cpu",
    "faiss-gpu",
    "numpy",
    "open_clip_torch",
    "optuna",
    "peft",
    "pyarrow",
    "pydantic",
    "ray",
    "safetensors",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
    "torch",
    "torchaudio",
    "torchvision",
    "transformers",
)


def collect_environment(*, libraries: Iterable[str] = LIBRARIES) -> dict[str, Any]:
    """Describes the machine and the installation, without importing any library.

    No user name, host name, path or environment variable is collected.

    Args:
        libraries: Distributions whose versions are noted when installed.

    Returns:
        ``python``, ``implementation``, ``platform``, ``libraries`` (version by distribution),
        ``git`` (``commit``, ``dirty``; ``None`` outside a repository), ``cpu`` (``model``,
        ``physical``, ``logical``, ``available`` counts), ``memory_bytes`` and ``gpus`` (names;
        ``None`` while torch is not loaded).
    """
    import psutil

    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "libraries": library_versions(libraries),
        "git": _git_state(),
        "cpu": {
            "model": _cpu_model(),
            "physical": psutil.cpu_count(logical=False),
            "logical": psutil.cpu_count(),
            "available": _available_cpus(),
        },
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
    }


def library_versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Returns the versions of the distributions that are installed, without importing them."""
    found = {name: _version(name) for name in libraries}
    return {name: version for name, version in found.items() if version is not None}


@cache  # every stage asks, and reading the metadata takes a while
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(  # noqa: S603  # fixed arguments, no shell
            ("git", *arguments),  # noqa: S607  # found on PATH, as everywhere
            capture_output=True,
            text=True,
            errors="replace",
            timeout=3,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()


def _available_cpus() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _gpus() -> list[str] | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    try:
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except (AttributeError, RuntimeError):
        return []
