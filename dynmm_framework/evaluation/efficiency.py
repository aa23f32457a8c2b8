"""What computing costs: time of single requests, largest memory."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import numpy as np
import psutil
import torch

from dynmm_framework.data.tables import Histories
from dynmm_framework.evaluation.ranking import recommend
from dynmm_framework.evaluation.scoring import Component, as_recommender

_WARM_UP = 3
_MOST_SECONDS = 5.0
_FEWEST = 5


def measure_latency(
    recommender: Component,
    histories: Histories,
    *,
    k: int = 10,
    users: int = 100,
) -> dict[str, float]:
    """Times requests for one user at a time: from the history to the ``k`` best items.

    Users are spread evenly over ``histories``; a few requests warm up. A slow recommender is
    timed for some seconds only. What is measured has no influence on any result.

    Args:
        recommender: A trained recommender or backbone.
        histories: Users to choose from.
        k: Items recommended in one request.
        users: Most requests to time.

    Returns:
        ``p50_ms`` and ``p95_ms`` in milliseconds, and ``requests``, their number; empty if there
        is none.
    """
    n = min(users, len(histories))
    if n == 0:
        return {}
    served = as_recommender(recommender)
    rows = np.linspace(0, len(histories) - 1, n).astype(np.int64)
    singles = [histories.take(rows[place : place + 1]) for place in range(n)]
    begun = time.perf_counter()
    for single in singles[:_WARM_UP]:
        recommend(served, single, k)
    seconds: list[float] = []
    for single in singles:
        started = time.perf_counter()
        recommend(served, single, k)  # ends with a copy to the CPU, so a GPU has finished
        seconds.append(time.perf_counter() - started)
        if len(seconds) >= _FEWEST and time.perf_counter() - begun > _MOST_SECONDS:
            break
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"p50_ms": float(p50), "p95_ms": float(p95), "requests": float(len(seconds))}


class PeakMemory:
    """Measures the largest memory of this process while its block runs.

    ::

        with PeakMemory("cuda:0") as peak:
            train()
        peak.rss_bytes, peak.gpu_bytes

    Args:
        device: The torch device that is used; GPU memory is measured on ``cuda`` devices.
        interval: Seconds between samples of the resident memory.

    Attributes:
        rss_bytes: Largest resident memory that was sampled, of the whole process.
        gpu_bytes: Largest memory that torch had allocated on the device; ``None`` on a CPU.
    """

    def __init__(self, device: str = "cpu", *, interval: float = 0.02) -> None:
        self.rss_bytes = 0
        self.gpu_bytes: int | None = None
        self._device = torch.device(device)
        self._interval = interval
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()
        if self._device.type == "cuda":
            self.gpu_bytes = torch.cuda.max_memory_allocated(self._device)

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        self.rss_bytes = max(self.rss_bytes, self._process.memory_info().rss)
