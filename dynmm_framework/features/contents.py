"""What inputs contain, as digests: equal contents are encoded once, unchanged files not read."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dynmm_framework.artifacts.atomic import atomic_path
from dynmm_framework.artifacts.locks import try_lock
from dynmm_framework.errors import ArtifactError
from dynmm_framework.features.media import MediaError, Stamp, check_file

SAVE_EVERY = 30.0
"""Seconds of digesting that a kill may cost."""
SETTLED = 2.0
"""A file changed within so many seconds may change again without a trace; it is not remembered."""


@dataclass(frozen=True, slots=True)
class Content:
    """One distinct input.

    Attributes:
        key: SHA-256 of the text or of the file's bytes.
        value: The text, or the path of a file that holds these bytes.
        size: Characters or bytes: inputs of alike size are encoded together.
        stamp: The file's, when it was digested; ``None`` for texts.
    """

    key: bytes
    value: str
    size: int
    stamp: Stamp | None = None


@dataclass(frozen=True, eq=False)
class Contents:
    """The distinct inputs of a catalogue.

    Attributes:
        by_key: Each content once.
        keys: The key of each input, in order; ``None`` where it cannot be used.
        reasons: Why an input cannot be used; empty where it can.
    """

    by_key: Mapping[bytes, Content]
    keys: Sequence[bytes | None]
    reasons: Sequence[str]


def digest_texts(values: Sequence[str | None]) -> Contents:
    """Digests texts; the same text twice is one content."""
    by_key: dict[bytes, Content] = {}
    keys: list[bytes | None] = []
    for value in values:
        key = None
        if value is not None:
            key = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
            if key not in by_key:
                by_key[key] = Content(key, value, len(value))
        keys.append(key)
    return Contents(by_key, keys, [""] * len(keys))


def digest_files(
    paths: Sequence[str | None],
    *,
    modality: str,
    memo: DigestMemo,
    workers: int,
    advance: Callable[..., None] = lambda n=1, note="": None,
) -> Contents:
    """Digests files, in threads; those that the memo knows unchanged are not read.

    Args:
        paths: A file for each input, ``None`` where it has none.
        modality: ``image`` or ``audio``, which bounds the size.
        memo: Remembers digests from one run to the next.
        workers: Number of threads.
        advance: Told about every file that is done.
    """

    def digest(path: str) -> Content | str:
        try:
            stamp = check_file(path, modality=modality)
            key = memo.get(path, stamp)
            if key is None:
                key = _digest(path, stamp, modality)
                memo.put(path, stamp, key)
        except MediaError as error:
            return error.reason
        return Content(key, path, stamp.size, stamp)

    by_key: dict[bytes, Content] = {}
    results: dict[str, Content | str] = {}
    distinct = list(dict.fromkeys(path for path in paths if path is not None))
    with ThreadPoolExecutor(workers, thread_name_prefix="digest") as pool:
        try:
            # Not all at once: a million futures weigh more than what they return.
            for start in range(0, len(distinct), 4096):
                part = distinct[start : start + 4096]
                for path, result in zip(part, pool.map(digest, part, chunksize=16), strict=True):
                    results[path] = result
                    if isinstance(result, Content):
                        by_key.setdefault(result.key, result)
                    advance()
                memo.save_now_and_then()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            memo.save()
    keys: list[bytes | None] = []
    reasons: list[str] = []
    for name in paths:
        found = results[name] if name is not None else ""
        keys.append(found.key if isinstance(found, Content) else None)
        reasons.append("" if isinstance(found, Content) else found)
    return Contents(by_key, keys, reasons)


def _digest(path: str, stamp: Stamp, modality: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError:
        raise MediaError("unreadable file", path) from None
    if check_file(path, modality=modality) != stamp:
        raise MediaError("changed while it was read", path)
    return digest


class DigestMemo:
    """Digests of files by path, size and time of change, kept in one Parquet file.

    It only saves time: without it, or with a damaged one, files are digested again.

    Args:
        path: The memo's file; ``None`` remembers nothing.
        clock: Gives the present unix time, in seconds.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._known = _read(path) if path is not None else {}
        self._fresh: dict[str, tuple[Stamp, bytes]] = {}
        self._saved = time.monotonic()

    def get(self, path: str, stamp: Stamp) -> bytes | None:
        """Returns the digest of a file that has not changed since; ``None`` if it must be read."""
        known = self._fresh.get(_name(path)) or self._known.get(_name(path))
        return known[1] if known is not None and known[0] == stamp else None

    def put(self, path: str, stamp: Stamp, digest: bytes) -> None:
        """Remembers a digest; safe to call from several threads."""
        if self._path is not None and self._clock() - stamp.mtime_ns / 1e9 >= SETTLED:
            self._fresh[_name(path)] = (stamp, digest)

    def save_now_and_then(self) -> None:
        """Saves what is new if the last time is :data:`SAVE_EVERY` seconds ago."""
        if time.monotonic() - self._saved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Saves what is new, beside what other processes saved meanwhile.

        While another process saves, nothing is done: the next time will do. A folder that cannot
        be written to costs the memo, not the run.
        """
        self._saved = time.monotonic()
        if self._path is None or not self._fresh:
            return
        with try_lock(self._path.with_suffix(".lock")) as locked:
            if not locked:
                return
            merged = {**_read(self._path), **self._fresh}
            try:
                with atomic_path(self._path) as temporary:
                    pq.write_table(_table(merged), temporary, compression="zstd")
            except ArtifactError:
                return
        self._known, self._fresh = merged, {}


def _name(path: str) -> str:
    return str(Path(path).absolute())


def _table(entries: Mapping[str, tuple[Stamp, bytes]]) -> pa.Table:
    stamps: Iterable[Stamp] = [stamp for stamp, _ in entries.values()]
    return pa.table(
        {
            "path": pa.array([name.encode("utf-8", "surrogateescape") for name in entries]),
            "size": pa.array([stamp.size for stamp in stamps], pa.int64()),
            "mtime_ns": pa.array([stamp.mtime_ns for stamp in stamps], pa.int64()),
            "sha256": pa.array([digest for _, digest in entries.values()], pa.binary(32)),
        }
    )


def _read(path: Path) -> dict[str, tuple[Stamp, bytes]]:
    try:
        columns = pq.read_table(path).to_pydict()
        rows = zip(
            columns["path"], columns["size"], columns["mtime_ns"], columns["sha256"], strict=True
        )
        return {
            name.decode("utf-8", "surrogateescape"): (Stamp(size, mtime), digest)
            for name, size, mtime, digest in rows
        }
    except (OSError, pa.ArrowException, KeyError, ValueError, AttributeError):
        return {}
