"""Takes single files out of archives; nothing else is written, and nowhere else."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Literal

from dynmm_framework.artifacts.digests import FileDigest
from dynmm_framework.artifacts.download import SourceFailure
from dynmm_framework.specs import closest

_CHUNK = 1 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)


def unpack(
    archive: Path,
    form: Literal["zip", "tar"],
    folder: str,
    files: Mapping[str, FileDigest],
    destination: Path,
) -> None:
    """Writes members of an archive into a folder, under names that the record gives.

    Members are looked up by their exact name and a link is never followed, so an archive cannot
    choose where it writes; no member may be larger than the record says.

    Args:
        archive: The archive.
        form: Its format; ``tar`` may be compressed.
        folder: Folder inside the archive that holds the files.
        files: What to take.
        destination: Where to write.

    Raises:
        SourceFailure: If the archive is damaged, or a member is missing or too large.
    """
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    members = {prefix + name: name for name in files}
    take = _from_zip if form == "zip" else _from_tar
    try:
        missing = take(archive, members, files, destination)
    except _BROKEN as error:
        raise SourceFailure(f"the archive is damaged: {error or type(error).__name__}") from error
    if missing:
        raise SourceFailure(missing)


def _from_zip(
    archive: Path, members: Mapping[str, str], files: Mapping[str, FileDigest], destination: Path
) -> str:
    with zipfile.ZipFile(archive) as opened:
        present = set(opened.namelist())
        for member, name in members.items():
            if member not in present:
                return _missing(member, present)
            with opened.open(member) as content:
                _write(content, destination / name, files[name].bytes)
    return ""


def _from_tar(
    archive: Path, members: Mapping[str, str], files: Mapping[str, FileDigest], destination: Path
) -> str:
    wanted, present = dict(members), []
    with tarfile.open(archive, "r:*") as opened:
        for entry in opened:
            member = entry.name.removeprefix("./")
            present.append(member)
            name = wanted.get(member)
            content = opened.extractfile(entry) if name is not None and entry.isreg() else None
            if content is None or name is None:
                continue
            with content:
                _write(content, destination / name, files[name].bytes)
            del wanted[member]
            if not wanted:
                return ""
    return _missing(next(iter(wanted)), present)


def _missing(member: str, present: Iterable[str]) -> str:
    nearest = closest(member, present)
    return f"it has no {member}" + (f"; the closest is {nearest}" if nearest else "")


def _write(content: IO[bytes], path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("wb") as file:
        while chunk := content.read(_CHUNK):
            written += len(chunk)
            if written > size:
                raise SourceFailure(f"{path.name} is larger than the {size:,} bytes of the record")
            file.write(chunk)
