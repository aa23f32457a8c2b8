"""Locks between processes that compute or fetch the same thing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dynmm_framework.artifacts.atomic import storage_errors

_logger = logging.getLogger("dynmm")


@contextmanager
def waiting_lock(path: Path, holder: str) -> Iterator[None]:
    """Holds a lock for the block; waits for another process, and says so once.

    Args:
        path: The lock's file. The lock goes with its process, however that ends.
        holder: What a process does that holds the lock: ``computes stage split``.

    Raises:
        ArtifactError: If the lock's file cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _logger.info("waiting for another process that %s (Ctrl-C stops waiting)", holder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Holds a lock for the block if it is free; yields whether it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
