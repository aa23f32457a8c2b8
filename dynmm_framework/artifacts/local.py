"""Files that the user has already: found under a folder by name, recognised by digest."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from dynmm_framework.artifacts.atomic import storage_errors
from dynmm_framework.artifacts.digests import FileDigest, digest_file, mismatch
from dynmm_framework.artifacts.download import SourceFailure
from dynmm_framework.artifacts.record_types import Files
from dynmm_framework.errors import ArtifactError

MAX_DEPTH = 8
"""Folders below the one named that are looked into."""
MAX_ENTRIES = 200_000
"""Files and folders after which to stop, so that nobody waits for a whole disk."""


def locate(folder: Path, layouts: Sequence[Files], *, title: str) -> tuple[Files, dict[str, Path]]:
    """Finds one of several sets of files under a folder.

    Args:
        folder: Searched with its subfolders; hidden folders and links to folders are left out.
        layouts: Sets of files in the order of preference.
        title: What the files belong to, for messages: ``dataset movielens_100k``.

    Returns:
        The first set that is there as a whole, and where each of its files is.

    Raises:
        SourceFailure: If files are not there.
        ArtifactError: If a file has the right name and another content, or the folder cannot be
            searched.
    """
    if not layouts:
        raise SourceFailure("the record lists no files by which it could be recognised")
    wanted = {PurePosixPath(name).name for files in layouts for name in files}
    places = _places(folder, wanted)
    wrong: list[str] = []
    absent: list[str] = []
    for files in layouts:
        found: dict[str, Path] = {}
        for name, expected in files.items():
            candidates = places.get(PurePosixPath(name).name, [])
            with storage_errors(folder, action="read"):
                path = next((path for path in candidates if not mismatch(path, expected)), None)
            if path is not None:
                found[name] = path
            elif candidates:
                wrong.append(_difference(candidates[0], name, expected))
            else:
                absent.append(name)
        if len(found) == len(files):
            return files, found
    if wrong:
        raise ArtifactError(
            f"{'a file has' if len(wrong) == 1 else 'files have'} another content than "
            f"{title} asks for:\n" + "\n".join(dict.fromkeys(wrong)),
            hint="Get the version that the record describes (dynmm registry show NAME), or name "
            "a folder without this file.",
        )
    names = list(dict.fromkeys(absent))
    raise SourceFailure(f"it has no {' and no '.join(names)}")


def _difference(path: Path, name: str, expected: FileDigest) -> str:
    actual = digest_file(path)
    return (
        f"  {path} is not {name}:\n"
        f"    SHA-256 {actual.sha256}, {actual.bytes:,} bytes, instead of\n"
        f"    SHA-256 {expected.sha256}, {expected.bytes:,} bytes"
    )


def _places(folder: Path, wanted: Collection[str]) -> dict[str, list[Path]]:
    """Returns the files of the names wanted, those nearest to the folder first."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise ArtifactError(
            f"the folder {folder} {problem}", hint="Name the folder that holds the files."
        )
    found: dict[str, list[Path]] = {}
    for path in _walk(folder):
        if path.name in wanted and path.is_file():
            found.setdefault(path.name, []).append(path)
    for paths in found.values():
        paths.sort(key=lambda path: (len(path.parts), path))
    return found


def _walk(folder: Path) -> Iterator[Path]:
    seen = 0
    for parent, folders, files in os.walk(folder):
        deep = len(Path(parent).relative_to(folder).parts) >= MAX_DEPTH
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        seen += len(folders) + len(files)
        if seen > MAX_ENTRIES:
            raise ArtifactError(
                f"there are more than {MAX_ENTRIES:,} files under {folder}",
                hint="Name the folder that holds the files, or one close above it.",
            )
        yield from (Path(parent, name) for name in files)
