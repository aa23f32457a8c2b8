"""Encoding in several processes or machines with Ray Data, shard by shard.

A row of the Ray dataset is a whole shard, which one actor encodes as a local run would: batches,
and so the vectors, are the same bit by bit. Processes and machines must see the same files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dynmm_framework.cluster import ray_cluster
from dynmm_framework.config.parts import PartRef
from dynmm_framework.errors import ArtifactError, DynmmError, StageError
from dynmm_framework.features.batches import (
    BatchEncoder,
    Vectors,
    default_workers,
    prepare_ahead,
)
from dynmm_framework.features.contents import Content
from dynmm_framework.features.media import Stamp
from dynmm_framework.protocols import Context, ModalityEncoder, Precision, Workers

_SCHEMA = pa.schema(
    [
        ("keys", pa.binary()),
        ("vectors", pa.large_binary()),
        ("dim", pa.int32()),
        ("failed", pa.binary()),
        ("reasons", pa.list_(pa.string())),
        ("error", pa.string()),
        ("hint", pa.string()),
    ]
)


@dataclass(frozen=True)
class WorkerContext:
    """What an encoder may use of its surroundings in another process.

    Attributes are those of :class:`dynmm_framework.protocols.Context`; reports go nowhere.
    """

    stage: str
    seed: int
    device: str
    precision: Precision
    workdir: Path
    validator: None = field(default=None)
    offline: bool = False
    workers: Workers = field(default_factory=Workers)
    leg: None = None

    def rng(self, name: str) -> np.random.Generator:
        # The numbers of the engine's own contexts, whose module lies above this one.
        digest = hashlib.sha256(name.encode()).digest()
        words = [int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4)]
        return np.random.default_rng(np.random.SeedSequence([self.seed, *words]))

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        return nullcontext(lambda n=1, note="": None)

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Nobody listens."""

    def record(self, name: str, value: Any) -> None:
        """Nobody listens."""

    def fetch(self, record: str) -> Path:
        from dynmm_framework.artifacts.records import Registry
        from dynmm_framework.artifacts.sources import Fetcher, default_cache
        from dynmm_framework.catalogue import load_catalogue

        catalogue = load_catalogue()
        registry = Registry.load(catalogue.record_folders(), strict=False)
        # The first worker of a machine fetches; the others wait for its lock and find the files.
        fetcher = Fetcher(
            default_cache(),
            offline=self.offline,
            fetch_hook=partial(catalogue.first, "dynmm_fetch_artifact"),
        )
        return fetcher.fetch(registry.find_files(record))

    def component(self, ref: PartRef) -> Any:
        raise StageError(
            f"stage {self.stage}: {ref.name} is asked for on a Ray worker, where an encoder has no"
            " parts",
            hint="Encode with compute: {engine: local}.",
        )

    def part(self, name: str) -> Context:
        seed = int(self.rng(name).integers(2**32))
        return replace(self, stage=f"{self.stage}/{name}", seed=seed, workdir=self.workdir / name)

    def log(self, message: str) -> None:
        """Nobody listens."""


class ShardEncoder:
    """A Ray actor: loads the encoder once and encodes shards.

    Args:
        encoder: The encoder, not loaded.
        modality: ``text``, ``image`` or ``audio``.
        name: Names the encoder in errors.
        ctx: Its surroundings.
        batch_size: Inputs of a batch.
        workers: Threads that decode.
    """

    def __init__(
        self,
        encoder: ModalityEncoder,
        modality: str,
        name: str,
        ctx: WorkerContext,
        batch_size: int,
        workers: int,
    ) -> None:
        self.modality = modality
        self.workers = workers
        self.encode = BatchEncoder(encoder, batch_size=batch_size, name=name)
        self.error: DynmmError | None = None
        try:
            encoder.load(ctx)
        except DynmmError as error:  # Ray would start the actor again and again
            self.error = error

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._row(row) for row in table.to_pylist()], _SCHEMA)

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if self.error is not None:
            return _problem(self.error)
        stream = prepare_ahead(
            self.encode.encoder,
            _unpack(row),
            modality=self.modality,
            workers=self.workers,
            ahead=2 * max(self.encode.batch_size, self.workers),
        )
        try:
            done = self.encode(stream)
        except DynmmError as error:
            return _problem(error)
        return {
            "keys": b"".join(done.keys),
            "vectors": done.vectors.tobytes(),
            "dim": done.vectors.shape[1],
            "failed": b"".join(done.failures),
            "reasons": list(done.failures.values()),
        }


def encode_with_ray(
    encoder: ModalityEncoder,
    cuts: Sequence[Sequence[Content]],
    *,
    modality: str,
    name: str,
    ctx: Context,
    batch_size: int,
    n_workers: int,
    address: str | None = None,
) -> Iterator[Vectors]:
    """Encodes shards in processes of Ray, and yields them as they are finished.

    A cluster that this process is connected to is used, or the one at ``address``; else one is
    started on this machine and stopped at the end. An actor on ``cuda`` gets a whole GPU.

    Args:
        encoder: The encoder, not loaded; it is sent to the actors.
        cuts: Contents of each shard.
        modality: ``text``, ``image`` or ``audio``.
        name: Names the encoder in errors.
        ctx: The stage's context.
        batch_size: Inputs of a batch.
        n_workers: Number of actors.
        address: A Ray cluster; that of ``RAY_ADDRESS`` if ``None``, or one of this machine's own.

    Raises:
        StageError: If the encoder fails on all inputs, or the cluster cannot be reached.
        ArtifactError: If Ray is not installed, or the encoder cannot be loaded in a worker.
    """
    on_gpu = ctx.device.startswith("cuda")
    surroundings = WorkerContext(
        ctx.stage,
        ctx.seed,
        "cuda" if on_gpu else ctx.device,
        ctx.precision,
        ctx.workdir,
        offline=ctx.offline,
    )
    with ray_cluster(address, what=f"stage {ctx.stage}", cpus=n_workers):
        import ray
        import ray.data

        resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cores = max(1, int(resources.get("CPU", 1)))
        # More actors than cores or shards would wait for ever, or for nothing.
        n_workers = max(1, min(n_workers, len(cuts), cores))
        threads = max(1, min(cores // n_workers, default_workers()))
        settings = ray.data.DataContext.get_current()
        settings.enable_progress_bars = False
        rows = [_pack(cut) for cut in cuts]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            ShardEncoder,
            fn_constructor_args=(
                encoder,
                modality,
                name,
                surroundings,
                batch_size,
                threads,
            ),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=n_workers),
            num_cpus=threads,  # also the number of threads that Ray gives to OpenMP
            num_gpus=1 if on_gpu else None,
        )
        for table in dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=1
        ):
            assert isinstance(table, pa.Table)
            for row in table.to_pylist():
                yield _vectors(row, name)


def _pack(cut: Sequence[Content]) -> dict[str, Any]:
    return {
        "keys": b"".join(content.key for content in cut),
        "values": [content.value.encode("utf-8", "surrogatepass") for content in cut],
        "sizes": [content.size for content in cut],
        "mtimes": [-1 if content.stamp is None else content.stamp.mtime_ns for content in cut],
    }


def _unpack(row: Mapping[str, Any]) -> Iterator[Content]:
    values = zip(row["values"], row["sizes"], row["mtimes"], strict=True)
    for number, (value, size, mtime) in enumerate(values):
        key = row["keys"][32 * number : 32 * number + 32]
        stamp = None if mtime < 0 else Stamp(size, mtime)
        yield Content(key, value.decode("utf-8", "surrogatepass"), size, stamp)


def _problem(error: DynmmError) -> dict[str, Any]:
    return {"error": f"{type(error).__name__}\0{error.message}", "hint": error.hint}


def _vectors(row: Mapping[str, Any], name: str) -> Vectors:
    if row["error"]:
        kind, _, message = row["error"].partition("\0")
        raised = ArtifactError if kind == "ArtifactError" else StageError
        raise raised(message, hint=row["hint"] or "")
    keys = [row["keys"][start : start + 32] for start in range(0, len(row["keys"]), 32)]
    failed = [row["failed"][start : start + 32] for start in range(0, len(row["failed"]), 32)]
    vectors = np.frombuffer(row["vectors"], np.float32).reshape(len(keys), row["dim"])
    return Vectors(keys, vectors, dict(zip(failed, row["reasons"], strict=True)))
