"""Training on several processes: each takes its share of every batch, gradients are averaged.

A component on each of n workers is configured with the n-th part of the batch size and draws the
same epoch of batches as all others. Worker r trains on batches r, n + r, 2 n + r …, and a step
takes n consecutive ones: together they see every row once an epoch, in steps of the configured
batch size. Averaged gradients are the same on every worker, and so are the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from dynmm_framework.errors import StageError
from dynmm_framework.protocols import Workers


class WorkerLostError(ConnectionError):
    """Another worker does not answer any more; what this one has trained since is void."""


@contextmanager
def _together() -> Iterator[None]:
    """Tells the loss of another worker from errors of this one."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise WorkerLostError(f"another worker is gone: {error}") from error


def share(batches: Iterable[Any], workers: Workers) -> Iterator[Any]:
    """Yields this worker's batch of each step.

    Args:
        batches: The same batches on every worker.
        workers: The workers.

    Yields:
        The worker's own one of each ``workers.size`` consecutive batches; ``None`` if the last
        step has none for it.
    """
    own, number = None, 0
    for number, batch in enumerate(batches, start=1):
        if (number - 1) % workers.size == workers.rank:
            own = batch
        if number % workers.size == 0:
            yield own
            own = None
    if number % workers.size:
        yield own


def average(
    loss: Tensor, parameters: Sequence[nn.Parameter], *, terms: float, mean: bool
) -> Tensor:
    """Replaces each worker's gradients by those of the whole batch.

    Args:
        loss: The loss of this worker's part, a scalar.
        parameters: What is learned, in the same order on every worker.
        terms: Number of terms that the loss is the mean of; 0 if this worker has no part.
        mean: Whether losses are means, which are weighted by ``terms``, or sums.

    Returns:
        The loss of the whole batch, the same on every worker.

    Raises:
        WorkerLostError: If another worker is gone.
        StageError: If a gradient is sparse.
    """
    gradients = [parameter.grad for parameter in parameters]
    if any(gradient is not None and gradient.is_sparse for gradient in gradients):
        raise StageError(
            "sparse gradients cannot be averaged over workers",
            hint="Set compute.engine to local, or use the component without sparse gradients.",
        )
    sizes = [parameter.numel() for parameter in parameters]
    wide = any(parameter.dtype == torch.float64 for parameter in parameters)
    # One message a step: many small ones would each wait for the slowest worker.
    packed = torch.zeros(
        sum(sizes) + 2 + len(parameters),
        dtype=torch.float64 if wide else torch.float32,
        device=loss.device,
    )
    *places, totals, known = torch.split(packed, [*sizes, 2, len(parameters)])
    for place, gradient in zip(places, gradients, strict=True):
        if gradient is not None:
            place.copy_(gradient.reshape(-1))
    totals.copy_(torch.stack([loss.detach(), loss.new_ones(())]))
    if mean:
        packed.mul_(terms)
    known.copy_(torch.tensor([gradient is not None for gradient in gradients]))
    with _together():
        dist.all_reduce(packed)
    if mean:
        packed[: -len(parameters)].div_(totals[1].clone())
    # A parameter without a gradient anywhere keeps none: optimisers leave it alone then.
    for parameter, place, count in zip(parameters, places, known.tolist(), strict=True):
        found = place.view_as(parameter).to(parameter.dtype)
        parameter.grad = found if count else None
    whole: Tensor = totals[0].clone()
    return whole


def terms_of(task: Any, batch: Any) -> float:
    """Returns how many terms the loss of a batch is the mean of, 1 if the task does not say."""
    if batch is None:
        return 0.0
    count: Callable[[Any], float] | None = getattr(task, "n_terms", None)
    return 1.0 if count is None else float(count(batch))


def synchronise(module: nn.Module) -> None:
    """Gives every worker the parameters of the first, and its dense buffers of floats.

    Raises:
        WorkerLostError: If another worker is gone.
    """
    with _together(), torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point() and tensor.layout == torch.strided:
                dist.broadcast(tensor.data, src=0)


def same_epoch(epoch: int, workers: Workers, stage: str) -> None:
    """Makes sure that all workers go on from the same checkpoint.

    Raises:
        StageError: If they do not.
        WorkerLostError: If another worker is gone.
    """
    epochs = [int(found[0]) for found in workers.gather(np.array([float(epoch)]))]
    if len(set(epochs)) > 1:
        raise StageError(
            f"stage {stage}: the workers found checkpoints of different epochs"
            f" ({', '.join(map(str, epochs))})",
            hint="The runs folder must be on a file system that all machines share.",
        )


def gather(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Returns the one-dimensional arrays of all workers, by rank; lengths may differ.

    Raises:
        WorkerLostError: If another worker is gone.
    """
    device = "cpu" if dist.get_backend() == "gloo" else f"cuda:{torch.cuda.current_device()}"
    with _together():
        length = torch.tensor([len(values)], device=device)
        lengths = [torch.empty_like(length) for _ in range(dist.get_world_size())]
        dist.all_gather(lengths, length)
        counts = [int(count) for count in lengths]
        padded = torch.zeros(max(counts), dtype=torch.float64, device=device)
        padded[: len(values)] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
        arrays = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(arrays, padded)
    return [array[:n].cpu().numpy() for array, n in zip(arrays, counts, strict=True)]
