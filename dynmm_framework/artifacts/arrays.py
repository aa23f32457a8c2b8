"""Named arrays in safetensors files."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    contents: list[NDArray[Any]] = []
    start = 0
    for name in ordered:
        array = np.asarray(arrays[name], order="C")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        code = _DTYPES.get(array.dtype.newbyteorder("="))
        if code is None or name == "__metadata__":
            what = f"type {array.dtype}" if code is None else "a reserved name"
            raise ArtifactError(
                f"cannot write {path}: array {name!r} has {what}",
                hint="Store arrays of numbers or booleans, and texts as JSON.",
            )
        end = start + array.nbytes
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
        contents.append(array)
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # data starts aligned, so that it can be mapped
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in contents:
            file.write(array.reshape(-1).view(np.uint8).data)


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
