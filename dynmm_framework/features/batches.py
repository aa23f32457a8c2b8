"""Decoding ahead in threads while a batch is encoded, and finding the input that breaks a batch.

Threads, not processes: the decoders release Python's lock, nothing has to be copied between
processes, and a process that has loaded torch must not be forked.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from dynmm_framework.errors import DynmmError, StageError
from dynmm_framework.features.contents import Content
from dynmm_framework.features.media import MediaError, check_file, load_image, load_sound
from dynmm_framework.protocols import FloatArray, ModalityEncoder

CHUNKS: Mapping[str, int] = {"text": 64, "image": 1, "audio": 1}
"""Inputs that a thread prepares at a time: preparing a text costs less than handing it over."""
HOPELESS = 64
"""So many inputs in a row that cannot be encoded, and none before that could: give up."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A content made ready, or the reason why not.

    Attributes:
        content: What it was made of.
        value: What the encoder's ``prepare`` returned; ``None`` if there is a reason.
        reason: Why the content cannot be used; empty if it can.
    """

    content: Content
    value: Any = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Vectors:
    """What became of some contents.

    Attributes:
        keys: Keys of the contents that have a vector.
        vectors: Finite, ``(len(keys), dim)``.
        failures: Reason by key of those that have none.
    """

    keys: Sequence[bytes]
    vectors: FloatArray
    failures: Mapping[bytes, str]


def default_workers() -> int:
    """Returns the number of cores that this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)


def prepare_content(encoder: ModalityEncoder, content: Content, modality: str) -> Prepared:
    """Loads and prepares one content; never raises for what is wrong with it.

    Raises:
        DynmmError: If not the content but the installation is to blame.
    """
    try:
        value: Any = content.value
        if modality != "text":
            value = load_image(value) if modality == "image" else load_sound(value)
            if check_file(content.value, modality=modality) != content.stamp:
                raise MediaError("changed while it was read", content.value)
        return Prepared(content, encoder.prepare(value))
    except MediaError as error:
        return Prepared(content, reason=error.reason)
    except DynmmError:
        raise
    except Exception as error:
        return Prepared(content, reason=f"cannot be prepared ({type(error).__name__})")


def prepare_ahead(
    encoder: ModalityEncoder,
    contents: Iterable[Content],
    *,
    modality: str,
    workers: int,
    ahead: int,
) -> Iterator[Prepared]:
    """Prepares contents in threads and yields them in their order.

    Args:
        encoder: Whose ``prepare`` is called.
        contents: What to prepare.
        modality: ``text``, ``image`` or ``audio``.
        workers: Number of threads.
        ahead: How many contents may be ready or under way: bounds the memory.
    """
    size = CHUNKS[modality]
    source = iter(contents)
    chunks = iter(lambda: list(islice(source, size)), [])

    def prepare(chunk: list[Content]) -> list[Prepared]:
        return [prepare_content(encoder, content, modality) for content in chunk]

    waiting: deque[Future[list[Prepared]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for chunk in islice(chunks, max(2, ahead // size)):
            waiting.append(pool.submit(prepare, chunk))
        while waiting:
            done = waiting.popleft().result()
            for chunk in islice(chunks, 1):
                waiting.append(pool.submit(prepare, chunk))
            yield from done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class BatchEncoder:
    """Encodes prepared contents batch by batch; an input that breaks its batch is found.

    Args:
        encoder: A loaded encoder.
        batch_size: Inputs of a batch.
        name: Names the encoder in errors.
        advance: Told about every input that is done.
    """

    def __init__(
        self,
        encoder: ModalityEncoder,
        *,
        batch_size: int,
        name: str,
        advance: Callable[[int], None] = lambda n: None,
    ) -> None:
        self.encoder = encoder
        self.batch_size = batch_size
        self.name = name
        self.advance = advance
        self._has_succeeded = False
        self._failed = 0

    def __call__(self, prepared: Iterable[Prepared]) -> Vectors:
        """Encodes contents in their order; the batches depend on nothing else.

        Raises:
            StageError: If the encoder fails on all inputs, or returns something else than one
                vector for each.
        """
        keys: list[bytes] = []
        rows: list[FloatArray] = []
        failures: dict[bytes, str] = {}

        def flush(batch: Sequence[Prepared]) -> None:
            for entry, vector in zip(batch, self._encode(batch), strict=True):
                if isinstance(vector, str):
                    failures[entry.content.key] = vector
                elif not np.isfinite(vector).all():
                    failures[entry.content.key] = "vector not finite"
                else:
                    keys.append(entry.content.key)
                    rows.append(vector)
            self.advance(len(batch))

        batch: list[Prepared] = []
        for entry in prepared:
            if entry.reason:
                failures[entry.content.key] = entry.reason
                self.advance(1)
                continue
            batch.append(entry)
            if len(batch) == self.batch_size:
                flush(batch)
                batch = []
        if batch:
            flush(batch)
        vectors = np.stack(rows) if rows else np.empty((0, 0), np.float32)
        return Vectors(keys, vectors, failures)

    def _encode(self, batch: Sequence[Prepared]) -> Sequence[FloatArray | str]:
        """Encodes a batch, one by one if it fails as a whole: a vector or a reason for each."""
        try:
            found = list(self._call([entry.value for entry in batch]))
        except DynmmError:
            raise
        except Exception as error:
            last = error
        else:
            self._has_succeeded = True
            return found
        results: list[FloatArray | str] = []
        for entry in batch:
            try:
                results.append(self._call([entry.value])[0])
                self._has_succeeded = True
            except DynmmError:
                raise
            except Exception as error:
                last = error
                results.append(f"cannot be encoded ({type(error).__name__})")
                self._failed += 1
        if not self._has_succeeded and self._failed >= HOPELESS:
            raise self._hopeless(last) from last
        return results

    def _hopeless(self, error: Exception) -> StageError:
        """Returns the error that says that nothing can be encoded."""
        return StageError(
            f"encoder {self.name} fails on every input; the last failure: "
            f"{type(error).__name__}: {error}",
            hint="Check its configuration, its weights and the device's memory.",
        )

    def _call(self, values: list[Any]) -> FloatArray:
        vectors = np.asarray(self.encoder.encode(values), np.float32)
        if vectors.ndim != 2 or len(vectors) != len(values) or not vectors.shape[1]:
            raise StageError(
                f"encoder {self.name} returns an array of shape {vectors.shape} for "
                f"{len(values)} inputs",
                hint="encode() returns one row for each input; this is a bug of the encoder.",
            )
        return vectors
