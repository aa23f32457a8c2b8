"""Vectors by content, in shards on disk that are there whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.artifacts.arrays import load_arrays, read_metadata, save_arrays
from dynmm_framework.artifacts.atomic import storage_errors, write_json
from dynmm_framework.artifacts.locks import waiting_lock
from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import FloatArray

FORMAT: Final = "1"
"""Version of the shards and of how inputs are decoded; another one is another cache."""
KEY_BYTES: Final = 32

_logger = logging.getLogger("dynmm")


class FeatureCache:
    """Vectors of encoders, each encoder's by the digest of the content.

    Args:
        root: Folder of the cache; made when something is stored.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def memo_path(self) -> Path:
        """Where digests of unchanged files are remembered."""
        return self.root / "digests.parquet"

    def folder(self, identity: str) -> Path:
        """Returns the folder of an encoder's shards."""
        key = hashlib.sha256(f"dynmm features {FORMAT}\0{identity}".encode()).hexdigest()
        return self.root / key[:32]

    @contextmanager
    def opened(self, identity: str, *, what: str = "an encoder") -> Iterator[Shards]:
        """Opens an encoder's shards for this process alone; others wait, and say so.

        Args:
            identity: All that decides an encoder's vectors: provider, code, configuration and
                fingerprint of the weights.
            what: Names the encoder in messages.

        Raises:
            ArtifactError: If the folder cannot be read or written.
        """
        folder = self.folder(identity)
        lock = self.root / ".locks" / f"{folder.name}.lock"
        with waiting_lock(lock, f"encodes with {what}"):
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                for left in folder.glob(".*.tmp.*"):  # by a kill while writing
                    left.unlink()
                note = folder / "encoder.json"
                if not note.is_file():
                    write_json(note, {"identity": identity, "format": FORMAT})
                shards = Shards(folder)
            yield shards


class Shards:
    """An encoder's vectors, checked when opened.

    A shard that is cut short, of another format or with a flipped bit is moved aside, logged and
    treated as absent.

    Args:
        folder: Folder of the shards.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shard_of: dict[bytes, Path] = {}
        self._plans: dict[Path, str] = {}
        self._dim: int | None = None
        for path in sorted(folder.glob("shard-*.safetensors")):
            try:
                keys, vectors, plan = _read(path)
                self._check_width(vectors, path)
            except ArtifactError as error:
                if isinstance(error.__cause__, PermissionError):
                    raise
                self._move_aside(path, error.message)
                continue
            self._add(path, keys, plan, vectors.shape[1])

    def __len__(self) -> int:
        return len(self._shard_of)

    def __contains__(self, key: bytes) -> bool:
        return key in self._shard_of

    @property
    def dim(self) -> int | None:
        """Width of the vectors; ``None`` while there are none."""
        return self._dim

    def outside(self, plan: str, keys: Iterable[bytes]) -> list[bytes]:
        """Returns the keys that no shard of another plan holds, in the given order."""
        found = []
        for key in keys:
            shard = self._shard_of.get(key)
            if shard is None or self._plans[shard] == plan:
                found.append(key)
        return found

    def put(self, keys: Sequence[bytes], vectors: FloatArray, *, plan: str = "") -> None:
        """Stores a shard; when this returns it is on the disk.

        Args:
            keys: 32 bytes each, distinct and none stored before.
            vectors: Finite, ``(len(keys), dim)``.
            plan: The plan that the shard is a part of; see :meth:`outside`.

        Raises:
            ArtifactError: If it cannot be written, or has another width than the shards before.
            ValueError: If keys and vectors do not fit together, or a key is not new.
        """
        if not keys:
            return
        if vectors.ndim != 2 or len(vectors) != len(keys) or len(set(keys)) != len(keys):
            raise ValueError(f"{len(keys)} keys and vectors of shape {vectors.shape} do not fit")
        if any(key in self._shard_of for key in keys):
            raise ValueError("a key is stored already")
        joined = b"".join(keys)
        array = np.frombuffer(joined, np.uint8).reshape(len(keys), KEY_BYTES)
        vectors = np.ascontiguousarray(vectors, np.float32)
        path = self.folder / f"shard-{hashlib.sha256(joined).hexdigest()[:24]}.safetensors"
        self._check_width(vectors, path)
        metadata = {"format": FORMAT, "plan": plan, "sha256": _checksum(array, vectors)}
        save_arrays(path, {"keys": array, "vectors": vectors}, metadata=metadata)
        self._add(path, keys, plan, vectors.shape[1])

    def read(self, rows: Mapping[bytes, Sequence[int]], out: FloatArray) -> None:
        """Copies vectors into rows of a matrix.

        Args:
            rows: Rows to fill by key; keys that are not stored are left out.
            out: Matrix to fill, ``(n, dim)``.
        """
        shards = sorted({self._shard_of[key] for key in rows if key in self._shard_of})
        for path in shards:
            keys, vectors, _ = _read(path)
            for key, vector in zip(keys, vectors, strict=True):
                if self._shard_of[key] == path and key in rows:
                    out[list(rows[key])] = vector

    def _add(self, path: Path, keys: Iterable[bytes], plan: str, dim: int) -> None:
        self._plans[path] = plan
        self._dim = dim
        for key in keys:
            self._shard_of.setdefault(key, path)

    def _check_width(self, vectors: FloatArray, path: Path) -> None:
        if self._dim is not None and vectors.shape[1] != self._dim:
            raise ArtifactError(
                f"{path}: its vectors have width {vectors.shape[1]}, those of the same encoder "
                f"have {self._dim}",
                hint=f"Remove the folder {path.parent} and run again.",
            )

    def _move_aside(self, path: Path, problem: str) -> None:
        aside = self.folder / ".damaged" / f"{path.stem}@{secrets.token_hex(4)}{path.suffix}"
        with storage_errors(path, action="move aside"):
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        _logger.warning(
            "a shard of the feature cache is damaged (%s); moved to %s, and computed again",
            problem,
            aside,
        )


def _read(path: Path) -> tuple[list[bytes], FloatArray, str]:
    """Reads a shard and checks it.

    Raises:
        ArtifactError: If it is damaged.
    """
    arrays = load_arrays(path)
    metadata = read_metadata(path)
    keys, vectors = arrays.get("keys"), arrays.get("vectors")
    if (
        metadata.get("format") != FORMAT
        or keys is None
        or vectors is None
        or keys.dtype != np.uint8
        or vectors.dtype != np.float32
        or vectors.ndim != 2
        or keys.shape != (len(vectors), KEY_BYTES)
    ):
        raise ArtifactError(f"{path} is no shard of this format")
    if metadata.get("sha256") != _checksum(keys, vectors):
        raise ArtifactError(f"{path}: its content is not what was written")
    joined = keys.tobytes()
    split = [joined[start : start + KEY_BYTES] for start in range(0, len(joined), KEY_BYTES)]
    return split, vectors, metadata.get("plan", "")


def _checksum(keys: NDArray[np.uint8], vectors: FloatArray) -> str:
    digest = hashlib.sha256(keys.tobytes())
    digest.update(np.ascontiguousarray(vectors, "<f4").reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
