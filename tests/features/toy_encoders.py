"""Small encoders without weights, and a context that remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dynmm_framework.protocols import FloatArray, Workers

DIM = 16


@dataclass(frozen=True)
class ListeningContext:
    """A stage's context that keeps log lines, records and progress."""

    stage: str = "encode"
    seed: int = 0
    device: str = "cpu"
    precision: Any = "fp32"
    workdir: Path = Path()
    validator: None = None
    offline: bool = True
    workers: Workers = field(default_factory=Workers)
    leg: None = None
    lines: list[str] = field(default_factory=list)
    records: dict[str, Any] = field(default_factory=dict)
    bars: list[tuple[str, int | None]] = field(default_factory=list)
    steps: list[tuple[int, str]] = field(default_factory=list)

    def rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng(0)

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        self.bars.append((description, total))
        yield lambda n=1, note="": self.steps.append((n, note))

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def record(self, name: str, value: Any) -> None:
        self.records[name] = value

    def fetch(self, record: str) -> Path:
        raise NotImplementedError

    def log(self, message: str) -> None:
        self.lines.append(message)


class ToyEncoder:
    """Projects raw values at random; each vector also depends a little on its batch.

    Padded models behave like that in their last bits. Here it is visible, so that a test notices
    when batches are made up differently.
    """

    dim = DIM

    def __init__(self, modality: str, *, coupling: float = 1e-3) -> None:
        self.modality = modality
        self.coupling = coupling
        self.batches: list[int] = []
        self.loads = 0
        self.weights = np.random.default_rng(5).standard_normal((64, DIM)).astype(np.float32)

    def load(self, ctx: Any) -> None:
        self.loads += 1

    def prepare(self, value: Any) -> FloatArray:
        if isinstance(value, str):
            raw = np.frombuffer(value.encode(), np.uint8).astype(np.float32)
        elif hasattr(value, "samples"):
            raw = value.samples.reshape(-1)
        else:
            raw = np.asarray(value.resize((8, 8)), np.float32).reshape(-1)
        return np.resize(raw, 64).astype(np.float32)

    def encode(self, batch: Sequence[Any]) -> FloatArray:
        self.batches.append(len(batch))
        rows = np.stack(batch)
        vectors = rows @ self.weights
        return vectors + np.float32(self.coupling) * vectors.mean(axis=0)


class PickyEncoder(ToyEncoder):
    """Fails on chosen texts, and is not finite on others."""

    def __init__(self, *, refuse: str = "refuse", infinite: str = "infinite") -> None:
        super().__init__("text", coupling=0)
        self.refuse, self.infinite = refuse, infinite

    def prepare(self, value: Any) -> Any:
        if value == "unprepared":
            raise KeyError(value)
        return value

    def encode(self, batch: Sequence[Any]) -> FloatArray:
        self.batches.append(len(batch))
        if any(text.startswith(self.refuse) for text in batch):
            raise RuntimeError("a bad input")
        vectors = np.stack([ToyEncoder.prepare(self, text)[:DIM] for text in batch])
        vectors += np.float32(1e-3 * sum(map(len, batch)))  # tells how the batch was made up
        vectors[[text == self.infinite for text in batch], 3] = np.inf
        return vectors


class CountingEncoder(ToyEncoder):
    """Must see all texts before it encodes any."""

    def __init__(self) -> None:
        super().__init__("text")
        self.vocabulary: list[str] = []
        self.fits = 0

    def prepare(self, value: Any) -> Any:
        return value

    def fit(self, inputs: Sequence[str], ctx: Any) -> None:
        self.fits += 1
        self.vocabulary = sorted({word for text in inputs for word in text.split()})

    def encode(self, batch: Sequence[str]) -> FloatArray:
        return np.array(
            [[text.split().count(word) for word in self.vocabulary] for text in batch], np.float32
        )
