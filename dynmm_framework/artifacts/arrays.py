"""Named arrays in safetensors files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.artifacts.atomic import atomic_path, storage_errors
from dynmm_framework.errors import ArtifactError

_DTYPES: Mapping[np.dtype[Any], str] = {
    np.dtype(name): code
    for name, code in {
        "bool": "BOOL",
        "int8": "I8",
        "uint8": "U8",
        "int16": "I16",
        "uint16": "U16",
        "int32": "I32",
        "uint32": "U32",
        "int64": "I64",
        "uint64": "U64",
        "float16": "F16",
        "float32": "F32",
        "float64": "F64",
        "complex64": "C64",
    }.items()
}
_GIT_LFS_POINTER = b"version https://git-lfs"
_HINT = "The file is damaged; restore it, or remove it and run again."


def save_arrays(
    path: Path | str,
    arrays: Mapping[str, NDArray[Any]],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays to a safetensors file, atomically.

    The file is written here rather than by the library, which orders metadata at random and hides
    the operating system's errors: equal arrays and metadata give equal bytes.

    Args:
        path: Destination, by convention ``*.safetensors``.
        arrays: Arrays of numbers or booleans, of any shape.
        metadata: Texts stored in the header; see :func:`read_metadata`.

    Raises:
        ArtifactError: If an array is of another type, or the file cannot be written.
    """
    ordered = sorted(arrays, key=lambda name: (-np.asarray(arrays[name]).dtype.itemsize, name))
    contents = {name: _portable(path, name, np.asarray(arrays[name])) for name in ordered}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_header({n: (a.dtype, a.shape) for n, a in contents.items()}, metadata))
        for array in contents.values():
            file.write(array.reshape(-1).view(np.uint8).data)


def save_rows(
    path: Path | str,
    streams: Mapping[str, tuple[tuple[int, ...], Iterable[NDArray[Any]]]],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes float32 arrays that come in pieces to a safetensors file, atomically.

    One piece is held at a time. The bytes are those of :func:`save_arrays` on whole arrays.

    Args:
        path: Destination, by convention ``*.safetensors``.
        streams: Shape of each array, and its rows in order, any number of them a piece.
        metadata: As for :func:`save_arrays`.

    Raises:
        ArtifactError: If the file cannot be written.
        ValueError: If the pieces do not add up to the shape; nothing is written then.
    """
    kind = np.dtype("<f4")
    ordered = sorted(streams)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_header({name: (kind, streams[name][0]) for name in ordered}, metadata))
        for name in ordered:
            shape, pieces = streams[name]
            rows = 0
            for piece in pieces:
                if piece.shape[1:] != shape[1:]:
                    raise ValueError(f"{name}: rows of shape {piece.shape[1:]}, not {shape[1:]}")
                file.write(np.asarray(piece, dtype=kind, order="C").reshape(-1).view(np.uint8).data)
                rows += len(piece)
            if rows != shape[0]:
                raise ValueError(f"{name}: {rows} rows came, {shape[0]} were announced")


def _portable(path: Path | str, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Returns an array as its bytes go into the file."""
    code = _DTYPES.get(array.dtype.newbyteorder("="))
    if code is None or name == "__metadata__":
        what = f"type {array.dtype}" if code is None else "a reserved name"
        raise ArtifactError(
            f"cannot write {path}: array {name!r} has {what}",
            hint="Store arrays of numbers or booleans, and texts as JSON.",
        )
    array = np.asarray(array, order="C")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _header(
    arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], metadata: Mapping[str, str] | None
) -> bytes:
    """Returns what precedes the data of arrays, given by type and shape in their order."""
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    start = 0
    for name, (kind, shape) in arrays.items():
        end = start + kind.itemsize * math.prod(shape)
        code = _DTYPES[kind.newbyteorder("=")]
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # data starts aligned, so that it can be mapped
    return len(text).to_bytes(8, "little") + text


def load_arrays(path: Path | str) -> dict[str, NDArray[Any]]:
    """Reads all arrays of a safetensors file.

    Returns:
        Writable arrays by name, in the names' order.

    Raises:
        ArtifactError: If the file is missing, truncated or otherwise damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    _check_readable(path)
    try:
        arrays = load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"cannot read {path}: it is not a whole safetensors file ({error})", hint=_HINT
        ) from error
    return {name: arrays[name] for name in sorted(arrays)}


def read_metadata(path: Path | str) -> dict[str, str]:
    """Reads the texts that :func:`save_arrays` stored in the header, without reading arrays.

    Raises:
        ArtifactError: If the file is missing, truncated or otherwise damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _check_readable(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"cannot read {path}: it is not a whole safetensors file ({error})", hint=_HINT
        ) from error


def _check_readable(path: Path) -> None:
    with storage_errors(path, action="read"), path.open("rb") as file:
        start = file.read(len(_GIT_LFS_POINTER))
    if start == _GIT_LFS_POINTER:
        raise ArtifactError(
            f"cannot read {path}: it is a Git LFS pointer, not the file itself",
            hint="Fetch the real file with `git lfs pull`.",
        )
