"""Checks of one training step: finite losses and gradients, clipping, memory."""

from __future__ import annotations

import math

import torch

from dynmm_framework.errors import StageError
from dynmm_framework.protocols import Context

CHECK_EVERY = 50
"""Batches between checks for NaN on a GPU, where each check waits for the device."""


class Guard:
    """Watches losses and gradient norms: on the CPU each batch, on a GPU every few.

    Reading a number from a GPU waits for it, so numbers stay there until several are read at
    once; the first bad one still names its batch, as all later ones are bad too.

    Args:
        ctx: Names the stage and the device.
        epoch: The epoch, from 1.
    """

    def __init__(self, ctx: Context, epoch: int) -> None:
        self.ctx, self.epoch = ctx, epoch
        self.every = 1 if ctx.device == "cpu" else CHECK_EVERY
        self.waiting: list[torch.Tensor] = []
        self.total, self.count, self.last = 0.0, 0, math.nan

    def place(self, number: int) -> str:
        """Names a batch, from 1, for messages."""
        return f"stage {self.ctx.stage}, epoch {self.epoch}, batch {number}"

    def add(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Takes the loss and the norm of the gradient of the next batch.

        Raises:
            StageError: If one taken so far is NaN or infinite.
        """
        self.waiting.append(torch.stack([loss.float(), norm.float()]))
        if len(self.waiting) >= self.every:
            self.check()

    def check(self) -> None:
        """Reads what has not been read yet.

        Raises:
            StageError: If one is NaN or infinite; names its batch.
        """
        if not self.waiting:
            return
        for loss, norm in torch.stack(self.waiting).tolist():
            self.count += 1
            for what, value in (("loss", loss), ("norm of the gradient", norm)):
                if not math.isfinite(value):
                    raise StageError(
                        f"{self.place(self.count)}: {what} is {value}",
                        hint="Lower the learning rate, or clip the gradient (clip_norm); with "
                        "bf16, try compute.precision=fp32.",
                    )
            self.total += loss
            self.last = loss
        self.waiting.clear()

    def mean(self) -> float:
        """Checks what is left and returns the mean loss of the epoch."""
        self.check()
        if not self.count:
            raise StageError(
                f"stage {self.ctx.stage}: there is nothing to train on",
                hint="No user has enough training interactions; check filters and split.",
            )
        return self.total / self.count


def scale_to_norm(gradients: list[torch.Tensor], norm: torch.Tensor, limit: float) -> None:
    """Scales gradients down to a norm; touches no memory on the CPU if they are within it."""
    if norm.device.type == "cpu" and float(norm) <= limit:
        return
    factor = torch.clamp(limit / (norm + 1e-6), max=1.0)
    torch._foreach_mul_(gradients, factor)


_SMALLER = "Lower batch_size or the model's sizes."


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error says that memory ran out, on a GPU or not."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )


def refuse_out_of_memory(error: Exception, place: str, *, halved: bool = False) -> None:
    """Raises a clear error if ``error`` says that memory ran out; returns otherwise.

    Args:
        error: What was raised.
        place: Where.
        halved: Whether the passes in which a batch is read were halved before.
    """
    if is_out_of_memory(error):
        done = ", with passes of half the size too" if halved else ""
        hint = "Shorten the prompt, or choose a smaller model." if halved else _SMALLER
        raise StageError(f"{place}: out of memory{done}", hint=hint) from error
