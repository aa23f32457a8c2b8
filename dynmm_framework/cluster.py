"""The Ray cluster that a piece of work runs on: one that is there, or one of this machine's own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dynmm_framework.errors import ArtifactError, StageError

OBJECT_STORE_BYTES = 256 * 2**20
"""Shared memory of a cluster that is started here: only paths, texts and vectors pass through."""


@contextmanager
def ray_cluster(address: str | None, *, what: str, cpus: int) -> Iterator[int]:
    """Connects to a Ray cluster, or starts one here, for as long as the block runs.

    A cluster that this process is connected to already is used as it is, and left alone.

    Args:
        address: Such as ``auto`` or ``10.0.0.5:6379``; that of ``RAY_ADDRESS`` if ``None``, or else
            a cluster of this machine's own.
        what: What needs it, for errors, such as ``stage fit/sasrec/seed-7``.
        cpus: Least number of CPUs that a cluster of this machine's own says it has.

    Yields:
        Number of GPUs of the cluster.

    Raises:
        ArtifactError: If Ray is not installed.
        StageError: If nobody answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ArtifactError(
            f"{what} asks for Ray, and Ray is not installed",
            hint="Install it: pip install 'dynmm-framework[ray]'",
        ) from error

    if ray.is_initialized():
        yield _gpus()
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {
            "num_cpus": max(os.cpu_count() or 1, cpus),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            # What this process can import, workers can.
            "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
        }
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StageError(
            f"{what}: cannot reach Ray at {address}: {error}",
            hint="Start a cluster with `ray start --head`, or leave the address out.",
        ) from error
    try:
        yield _gpus()
    finally:
        ray.shutdown()


def _gpus() -> int:
    import ray

    return int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
