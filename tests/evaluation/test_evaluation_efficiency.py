"""Memory and latency are measured, and measuring changes nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ranking_cases import TableRecommender, random_case

from dynmm_framework.data.tables import Histories
from dynmm_framework.evaluation import efficiency
from dynmm_framework.evaluation.efficiency import PeakMemory, measure_latency


def test_peak_memory_sees_what_is_freed_again() -> None:
    with PeakMemory(interval=0.005) as peak:
        before = peak.rss_bytes
        block = np.ones(200 << 17)  # 200 MB
        time.sleep(0.05)
        del block
    assert peak.rss_bytes - before > 150 << 20
    assert peak.gpu_bytes is None


def test_peak_memory_is_known_after_a_failure() -> None:
    peak = PeakMemory()
    with pytest.raises(RuntimeError, match="no"), peak:
        raise RuntimeError("no")
    assert peak.rss_bytes > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_peak_memory_of_a_gpu() -> None:
    with PeakMemory("cuda:0") as peak:
        torch.ones(1 << 20, device="cuda:0")
    assert peak.gpu_bytes is not None
    assert peak.gpu_bytes >= 4 << 20


class Slow(TableRecommender):
    def score(self, histories: Histories, candidates: NDArray | None = None) -> NDArray:
        assert len(histories) == 1
        time.sleep(0.004)
        return super().score(histories, candidates)


def test_latency_is_that_of_single_users(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, evaluation = random_case(users=30)
    found = measure_latency(Slow(scores), evaluation.histories, users=8)
    assert found["requests"] == 8
    assert 4 <= found["p50_ms"] <= found["p95_ms"]
    monkeypatch.setattr(efficiency, "_MOST_SECONDS", 0.0)
    assert measure_latency(Slow(scores), evaluation.histories)["requests"] == 5
    assert measure_latency(Slow(scores), evaluation.histories, users=0) == {}
