"""Files and folders that exist either whole or not at all.

Everything is written beside its destination, flushed to the disk and renamed into place, so that a
reader, a full disk, Ctrl-C and ``kill -9`` never meet half a file.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from dynmm_framework.errors import ArtifactError

_PERMISSION = (
    "permission denied",
    "Check the owner and the mode of {folder}, or choose another folder.",
)
_NOT_A_FOLDER = ("a part of the path is a file, not a folder", "Choose another path.")
_REASONS: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: (
        "the disk is full",
        "Free some space on the disk of {folder}, or choose another folder, and run again.",
    ),
    errno.EDQUOT: (
        "the disk quota is used up",
        "Free some space in {folder}, or choose another folder, and run again.",
    ),
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: ("the file system is read-only", "Choose a folder that can be written to."),
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
    errno.EISDIR: ("it is a folder, not a file", "Remove the folder, or choose another path."),
    errno.ENOTEMPTY: ("the folder is not empty", "Remove it, or choose another path."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter path."),
    errno.ENOENT: ("it does not exist", "Check the path."),
    errno.EIO: ("the disk reports an input/output error", "Check the disk of {folder}."),
    errno.EFBIG: ("the file is too large for its file system", "Choose another folder."),
    errno.EMFILE: ("too many files are open", "Raise the limit (ulimit -n) and run again."),
    errno.ENFILE: ("too many files are open", "Close other programs and run again."),
}


def storage_error(error: OSError, path: Path, action: str) -> ArtifactError | None:
    """Explains an operating system's error about a file.

    Args:
        error: The error.
        path: The file or folder as the user knows it, rather than its temporary name.
        action: What was tried: ``write``, ``read`` ...

    Returns:
        The error to raise, or ``None`` if ``error`` is not about this file system, as a broken
        network connection, or names a file elsewhere.
    """
    if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
        return None
    if error.errno not in _REASONS or not _concerns(error, path):
        return None
    reason, hint = _REASONS[error.errno]
    return ArtifactError(
        f"cannot {action} {path}: {reason}", hint=hint.format(folder=path.absolute().parent)
    )


@contextmanager
def storage_errors(path: Path | str, *, action: str = "write") -> Iterator[None]:
    """Turns operating system errors about ``path`` into one that says what to do.

    Raises:
        ArtifactError: For a full disk, a missing permission and the like.
    """
    try:
        yield
    except OSError as error:
        explained = storage_error(error, Path(path), action)
        if explained is None:
            raise
        raise explained from error


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a temporary file that takes the place of ``path`` on a clean exit.

    The file lies in the same folder, keeps the suffix of ``path`` and is empty at first. Missing
    parent folders are made. On any exception, ``KeyboardInterrupt`` included, it is removed and
    what ``path`` held before stays.

    Raises:
        ArtifactError: If the file cannot be written; names the path, the reason, the next step.
    """
    path = Path(path)
    temporary = _beside(path, suffix=path.suffix)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            _sync(temporary)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yields a temporary folder that takes the place of ``path`` on a clean exit.

    A folder that ``path`` held before is replaced as a whole; it is out of sight only between two
    renames. On any exception the temporary folder is removed and the old one stays.

    Raises:
        ArtifactError: If something in the folder cannot be written.
    """
    path = Path(path)
    temporary = _beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            yield temporary
            sync_tree(temporary)
            _replace_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Writes a file atomically.

    Raises:
        ArtifactError: If it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Writes a text file atomically, as UTF-8 with line feeds.

    Raises:
        ArtifactError: If it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Writes JSON atomically.

    Tuples, sets, paths, dates, NumPy scalars and arrays are written as their plain counterparts.
    JSON has no NaN and no infinity: they become ``null``.

    Raises:
        ArtifactError: If the file cannot be written.
        TypeError: If the value holds something else.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path | str) -> Any:
    """Reads a JSON file.

    Raises:
        ArtifactError: If it is missing, unreadable or not JSON.
    """
    path = Path(path)
    with storage_errors(path, action="read"):
        data = path.read_bytes()
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"cannot read {path}: it is not valid JSON ({error or type(error).__name__})",
            hint="The file is damaged; restore it, or remove it and run again.",
        ) from error


def sync_tree(folder: Path) -> None:
    """Flushes every file and folder under ``folder`` to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync_folder(Path(parent))


def _concerns(error: OSError, path: Path) -> bool:
    if not isinstance(error.filename, str | os.PathLike):
        return True  # a write through an open file names none
    path, culprit = path.absolute(), Path(error.filename).absolute()
    if culprit.parent == path.parent and ".tmp" in culprit.suffixes:
        return True
    return culprit == path or path in culprit.parents or culprit in path.parents


def _beside(path: Path, *, suffix: str = "") -> Path:
    stem = path.name.removesuffix(suffix) if suffix else path.name
    return path.parent / f".{stem[:180]}.{secrets.token_hex(4)}.tmp{suffix}"


def _replace_folder(new: Path, path: Path) -> None:
    """Renames ``new`` to ``path``; a folder cannot be renamed over one that holds files."""
    old = _beside(path)
    try:
        path.rename(old)
    except FileNotFoundError:
        new.rename(path)
        return
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    # Some file systems (network, FUSE) cannot flush a folder; the rename itself still holds.
    with suppress(OSError):
        _sync(path)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return [_plain(entry) for entry in sorted(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):  # NumPy, without importing it
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    plain = _plain(key)
    if isinstance(plain, str):
        return plain
    return json.dumps(plain)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
