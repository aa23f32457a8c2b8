"""From a dataset's items to vectors: located, decoded, encoded once, and reported.

What is encoded is cut into shards by a rule that a kill does not change. A shard is computed
whole or not at all, with the same batches each time; so an encoding that was killed and resumed
gives the very bits of one that was not.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from dynmm_framework.data.features import Features
from dynmm_framework.errors import ConfigError, StageError
from dynmm_framework.features.batches import (
    BatchEncoder,
    Vectors,
    default_workers,
    prepare_ahead,
)
from dynmm_framework.features.cache import FeatureCache, Shards
from dynmm_framework.features.contents import (
    Content,
    Contents,
    DigestMemo,
    digest_files,
    digest_texts,
)
from dynmm_framework.features.encoded import Encoded, report
from dynmm_framework.features.locate import Inputs, find_inputs
from dynmm_framework.protocols import Context, FeatureReader, ModalityEncoder

SHARD_SIZES: Mapping[str, int] = {"text": 2048, "image": 512, "audio": 128}
"""Inputs of a shard: what a kill may cost."""


def encode_items(
    encoder: Any,
    items: pa.Table,
    *,
    modality: str,
    cache: FeatureCache,
    ctx: Context,
    identity: str,
    name: str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    shard_size: int | None = None,
    files: Sequence[str | None] = (),
    fields: Sequence[str] = (),
    engine: Literal["local", "ray"] = "local",
    n_workers: int = 1,
    address: str | None = None,
) -> Encoded:
    """Encodes a modality of all items; what cannot be encoded is missing and has a reason.

    An encoder with ``fit`` sees all inputs first, and its vectors are not cached here. A reader
    of existing vectors just reads them. Any other encoder is loaded when there is something that
    the cache lacks.

    Args:
        encoder: A modality encoder, not yet loaded, or a feature reader.
        items: The dataset's item table.
        modality: ``text``, ``image`` or ``audio``.
        cache: Vectors of earlier runs, by content.
        ctx: The stage's context: progress, log, device.
        identity: All that decides the vectors: the encoder's provider, code, configuration and
            fingerprint of the weights.
        name: What the encoder is called in errors; its class if ``None``.
        batch_size: Inputs that are encoded at a time.
        workers: Threads that decode; the available cores if ``None``.
        shard_size: Inputs of a shard; :data:`SHARD_SIZES` if ``None``.
        files: Path of each item's file, instead of the table's column; see
            :func:`dynmm_framework.features.locate.locate_files`.
        fields: Columns that make an item's text together, instead of the first that has one.
        engine: ``ray`` encodes shards in ``n_workers`` processes, with the same result.
        n_workers: Processes of ``ray``.
        address: Cluster of ``ray``; that of ``RAY_ADDRESS``, or one of this machine's own, if
            ``None``.

    Raises:
        ConfigError: If the encoder is for another modality.
        DataError: If the items have none of this modality.
        StageError: If no item can be encoded, or the encoder returns nonsense.
        ArtifactError: If weights cannot be loaded, or the cache not be written.
    """
    name = name or type(encoder).__name__
    if getattr(encoder, "modality", modality) != modality:
        raise ConfigError(
            f"encoder {name} encodes {encoder.modality}, and {modality} is asked of it",
            hint="`dynmm plugins list` shows the encoders of each modality.",
        )
    started = time.perf_counter()
    if isinstance(encoder, FeatureReader):
        if fields or files:
            setting = "fields" if fields else "media"
            raise ConfigError(
                f"encoder {name} reads vectors that exist already, so {setting} would change"
                " nothing",
                hint=f"Leave encoders.….{setting} out, or name an encoder that makes vectors.",
            )
        features = encoder.read(items, ctx)
        reasons = ["" if has else "not among the features" for has in features.present]
        ids = items.column("id").to_pylist()
        return report(features, ids, reasons, modality, ctx, started, fresh=0)
    inputs = find_inputs(items, modality, files=files, fields=fields)
    workers = workers or default_workers()
    contents = _digest(inputs, modality, cache, ctx, workers)
    job = _Job(encoder, modality, name, ctx, batch_size, workers)
    if hasattr(encoder, "fit"):
        fitted = job.fit_and_encode(contents)
        table = dict(zip(fitted.keys, fitted.vectors, strict=True))
        vectors = np.zeros((len(inputs.ids), fitted.vectors.shape[1]), np.float32)
        for key, rows in _rows(contents).items():
            if key in table:
                vectors[rows] = table[key]
        found, failures, fresh = set(table), fitted.failures, len(contents.by_key)
    else:
        with cache.opened(identity, what=name) as shards:
            failures, fresh = job.fill(
                shards,
                contents,
                shard_size or SHARD_SIZES[modality],
                partial(job.run_on_ray, n_workers=n_workers, address=address)
                if engine == "ray"
                else job.run_here,
            )
            vectors = np.zeros((len(inputs.ids), shards.dim or 0), np.float32)
            rows_by_key = _rows(contents)
            shards.read(rows_by_key, vectors)
            found = {key for key in rows_by_key if key in shards}
    present = np.array([key is not None and key in found for key in contents.keys], bool)
    reasons = [
        given or unread or failures.get(key or b"", "")
        for given, unread, key in zip(inputs.reasons, contents.reasons, contents.keys, strict=True)
    ]
    if not present.any():
        counts = Counter(reason for reason in reasons if reason).most_common(5)
        listed = ", ".join(f"{reason} ({count:,})" for reason, count in counts)
        raise StageError(
            f"encoder {name} could encode the {modality} of none of {len(inputs.ids):,} items: "
            f"{listed}",
            hint="Check the files and the encoder's configuration.",
        )
    features = Features(vectors, present)
    return report(features, inputs.ids, reasons, modality, ctx, started, fresh=fresh)


Runner = Callable[[Sequence[Sequence[Content]], "Pace"], Iterator[Vectors]]
"""Encodes shards and tells a pace about every input."""


@dataclass(frozen=True, eq=False)
class _Job:
    """An encoder at work on one modality."""

    encoder: ModalityEncoder
    modality: str
    name: str
    ctx: Context
    batch_size: int
    workers: int

    def fill(
        self, shards: Shards, contents: Contents, shard_size: int, run: Runner
    ) -> tuple[Mapping[bytes, str], int]:
        """Encodes what the shards lack; returns reasons by key and the number of tried inputs."""
        plan, cuts = plan_shards(shards, contents.by_key, shard_size)
        pending = sum(map(len, cuts))
        failures: dict[bytes, str] = {}
        if not pending:
            return failures, 0
        cached = len(contents.by_key) - pending
        if cached:
            self.ctx.log(f"{self.modality}: {cached:,} inputs are in the cache, {pending:,} to do")
        with self.ctx.progress(f"encode {self.modality}", pending) as bar:
            pace = Pace(bar, pending)
            for vectors in run(cuts, pace):
                shards.put(vectors.keys, vectors.vectors, plan=plan)
                failures.update(vectors.failures)
        return failures, pending

    def run_on_ray(
        self, cuts: Sequence[Sequence[Content]], pace: Pace, *, n_workers: int, address: str | None
    ) -> Iterator[Vectors]:
        """Encodes shards in processes of Ray, in the order in which they are finished."""
        from dynmm_framework.features.distributed import encode_with_ray

        for vectors in encode_with_ray(
            self.encoder,
            cuts,
            modality=self.modality,
            name=self.name,
            ctx=self.ctx,
            batch_size=self.batch_size,
            n_workers=n_workers,
            address=address,
        ):
            pace(len(vectors.keys) + len(vectors.failures))
            yield vectors

    def run_here(self, cuts: Sequence[Sequence[Content]], pace: Pace) -> Iterator[Vectors]:
        """Encodes shards in this process, in order."""
        self.encoder.load(self.ctx)
        encode = BatchEncoder(
            self.encoder, batch_size=self.batch_size, name=self.name, advance=pace
        )
        # One stream over all shards: while one is finished, the next is decoded.
        stream = self._prepare(content for cut in cuts for content in cut)
        try:
            for cut in cuts:
                yield encode(islice(stream, len(cut)))
        finally:
            stream.close()

    def fit_and_encode(self, contents: Contents) -> Vectors:
        """Fits the encoder on all inputs that can be used, then encodes them."""
        self.encoder.load(self.ctx)
        order = list(contents.by_key.values())
        ready = {entry.content.key: entry for entry in self._prepare(order)}
        inputs = [
            entry.value
            for key in contents.keys
            if key is not None and not (entry := ready[key]).reason
        ]
        if inputs:
            self.encoder.fit(inputs, self.ctx)  # type: ignore[attr-defined]  # it has one
        with self.ctx.progress(f"encode {self.modality}", len(order)) as bar:
            encode = BatchEncoder(
                self.encoder,
                batch_size=self.batch_size,
                name=self.name,
                advance=Pace(bar, len(order)),
            )
            return encode(ready.values())

    def _prepare(self, contents: Iterable[Content]) -> Any:
        return prepare_ahead(
            self.encoder,
            contents,
            modality=self.modality,
            workers=self.workers,
            ahead=2 * max(self.batch_size, self.workers),
        )


def plan_shards(
    shards: Shards, by_key: Mapping[bytes, Content], shard_size: int
) -> tuple[str, list[list[Content]]]:
    """Cuts what is to be encoded into shards, the same however often this was interrupted.

    Contents that shards of other catalogues hold are left out; the others are ordered by size,
    largest first, and cut into equal parts, of which those remain that are not stored yet. What
    this very catalogue has stored before a kill takes part in the cutting, so the parts are those
    of the first time.

    Returns:
        The plan's name, and the contents of each shard to compute, in order.
    """
    plan = hashlib.sha256(b"".join(sorted(by_key))).hexdigest()[:32]
    order = sorted(by_key.values(), key=lambda content: (-content.size, content.key))
    keys = shards.outside(plan, (content.key for content in order))
    cuts = [
        [by_key[key] for key in keys[start : start + shard_size] if key not in shards]
        for start in range(0, len(keys), shard_size)
    ]
    return plan, [cut for cut in cuts if cut]


class Pace:
    """Tells a progress bar how many inputs a second are done and how long the rest will take.

    Args:
        bar: The bar's function.
        total: Number of inputs.
    """

    def __init__(self, bar: Callable[..., None], total: int) -> None:
        self._bar = bar
        self._total = total
        self._done = 0
        self._started = time.perf_counter()

    def __call__(self, n: int) -> None:
        self._done += n
        rate = self._done / max(time.perf_counter() - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        unit = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
        self._bar(n, note=f"{rate:,.3g} items/s, {unit} left")


def _digest(
    inputs: Inputs, modality: str, cache: FeatureCache, ctx: Context, workers: int
) -> Contents:
    if modality == "text":
        return digest_texts(inputs.values)
    distinct = len(set(inputs.values) - {None})
    with ctx.progress(f"check {modality} files", distinct) as advance:
        return digest_files(
            inputs.values,
            modality=modality,
            memo=DigestMemo(cache.memo_path),
            workers=workers,
            advance=advance,
        )


def _rows(contents: Contents) -> dict[bytes, list[int]]:
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(contents.keys):
        if key is not None:
            rows.setdefault(key, []).append(row)
    return rows
