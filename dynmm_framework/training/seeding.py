"""Torch's random numbers, tied to a stage's seed and to a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dynmm_framework.protocols import Context


def seed_torch(ctx: Context, name: str) -> None:
    """Seeds torch on all devices from the stage's seed and ``name``."""
    torch.manual_seed(int(ctx.rng(f"torch/{name}").integers(2**63)))


@contextmanager
def seeded(ctx: Context, name: str) -> Iterator[None]:
    """Makes torch's random numbers inside the block depend on the stage's seed and ``name`` only.

    The generators of the caller are left as they were. Initialise a model inside it.
    """
    devices = [torch.device(ctx.device)] if ctx.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        seed_torch(ctx, name)
        yield
