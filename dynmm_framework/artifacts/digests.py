"""Sizes and SHA-256 digests of files: how the framework knows that a file is the right one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dynmm_framework.artifacts.atomic import storage_errors
from dynmm_framework.errors import ArtifactError


def matching(pattern: str, advice: str) -> AfterValidator:
    """Returns a check that a text matches a pattern, with advice that a person can follow."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} must be {advice}")
        return text

    return AfterValidator(check)


Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")]


def _check_name(name: str) -> str:
    parts = name.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or any(character in name for character in "\\:\0")
        or PurePosixPath(name).is_absolute()
    ):
        raise ValueError(f"{name!r} must be a relative path with forward slashes and no '..'")
    return name


FileName = Annotated[str, Field(min_length=1, max_length=240), AfterValidator(_check_name)]
"""A file's path inside a folder, which it cannot leave."""


class FileDigest(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    sha256: Sha256
    """Digest in lower-case hexadecimal."""
    bytes: Annotated[int, Field(ge=0)]
    """Size."""


def digest_file(path: Path) -> FileDigest:
    """Returns the size and digest of a file.

    Raises:
        ArtifactError: If it cannot be read.
    """
    with storage_errors(path, action="read"), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(sha256=digest, bytes=file.tell())


def digest_tree(folder: Path) -> dict[str, FileDigest]:
    """Returns the digests of all files under ``folder``, by their path inside it.

    Raises:
        ArtifactError: If a file cannot be read, or is a link or another special file, whose
            content is not stored with the folder.
    """
    found: dict[str, FileDigest] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ArtifactError(
                f"cannot store {path}: it is a link or a special file",
                hint="Store the file itself.",
            )
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = digest_file(path)
    return found


def mismatch(path: Path, expected: FileDigest, *, content: bool = True) -> str:
    """Says how a file differs from what it must be; an empty string if it does not.

    Args:
        path: The file.
        expected: Its size and digest.
        content: Whether to read the file; otherwise only its size is compared.

    Raises:
        ArtifactError: If it exists and cannot be read.
    """
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    if not path.is_file():
        return "is not a file"
    if size != expected.bytes:
        return f"has {size:,} bytes instead of {expected.bytes:,}"
    if content and digest_file(path).sha256 != expected.sha256:
        return "has the right size and the wrong content (SHA-256 differs)"
    return ""
