"""Opening the files of a dataset, and what is said when that fails."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from dynmm_framework.data.arrow import closest, listed
from dynmm_framework.errors import DataError, Problem

DAMAGED = (OSError, EOFError, zlib.error)
"""What reading a compressed file raises that is truncated or damaged."""

_PERMISSIONS = "Check the permissions of the file and of its folders."


def require_file(path: Path, *, setting: str = "data.config.path") -> Path:
    """Returns ``path`` if it is a file that can be read and is not empty.

    Args:
        path: The file.
        setting: The setting that names it, for messages.

    Raises:
        DataError: If it is missing, a folder, empty or cannot be opened.
    """
    problem = ""
    hint = f"Set {setting} to a file of the dataset."
    try:
        if path.is_dir():
            problem = f"is a folder; a file is needed. {folder_content(path)}"
        elif not path.exists():
            problem = f"does not exist{_nearby(path)}"
        elif path.stat().st_size == 0:
            problem, hint = "is empty", "Download or export it again."
        else:
            with path.open("rb"):
                return path
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        hint = _PERMISSIONS
    raise DataError([Problem(problem, file=str(path))], hint=hint)


def find_folder(
    path: Path,
    names: Sequence[str],
    *,
    subfolders: Sequence[str] = (),
    setting: str = "data.config.path",
) -> Path:
    """Returns the folder that holds one of the files ``names``.

    Args:
        path: A folder, or any file in it.
        names: Files of which at least one is there.
        subfolders: Where to look as well, such as the folder inside an official archive.
        setting: The setting that names the path, for messages.

    Raises:
        DataError: If there is no such folder, or none of the files in it.
    """
    hint = f"Set {setting} to the folder that holds the dataset."
    try:
        if not path.exists():
            problem = f"does not exist{_nearby(path)}"
            raise DataError([Problem(problem, file=str(path))], hint=hint)
        folder = path if path.is_dir() else path.parent
        for place in (folder, *(folder / name for name in subfolders)):
            if any((place / name).exists() for name in names):
                return place
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise DataError([Problem(problem, file=str(path))], hint=_PERMISSIONS) from error
    problem = f"there is no {' or '.join(names)} in it. {folder_content(folder)}"
    raise DataError([Problem(problem, file=str(folder))], hint=hint)


def files_in(folder: Path) -> list[Path] | None:
    """Returns the sorted entries of a folder; ``None`` if ``folder`` is none.

    Raises:
        DataError: If it may not be read.
    """
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else None
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise DataError([Problem(problem, file=str(folder))], hint=_PERMISSIONS) from error


def folder_content(folder: Path) -> str:
    """Returns a sentence that names what a folder holds, for messages."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return ""
    return f"It holds: {listed(names)}" if names else "It is empty"


def _nearby(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder} either"
    try:
        return closest(path.name, (entry.name for entry in folder.iterdir()))
    except OSError:
        return ""


def is_gzip(path: Path) -> bool:
    """Tells compressed files by their first bytes, whatever their names."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


@contextmanager
def arrow_stream(path: Path) -> Iterator[pa.NativeFile]:
    """Opens a plain or gzip file for one of Arrow's readers."""
    compression = "gzip" if is_gzip(path) else None
    with pa.input_stream(str(path), compression=compression) as stream:
        yield stream


def open_bytes(path: Path) -> IO[bytes]:
    """Opens a plain or gzip file for reading line by line in Python."""
    return gzip.open(path, "rb") if is_gzip(path) else path.open("rb")  # type: ignore[return-value]


def not_text(path: Path) -> str:
    """Returns what a file is if its first bytes tell that it is no text; else nothing."""
    try:
        with open_bytes(path) as stream:
            start = stream.read(4)
    except DAMAGED:
        return ""
    if start.startswith(b"PK\x03\x04"):
        return "is a zip archive, as Excel workbooks are; unpack it, or export it as CSV"
    if start.startswith(b"PAR1"):
        return "is a Parquet file"
    if start.startswith((b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")):
        return "is compressed by a program other than gzip; unpack it"
    return ""
