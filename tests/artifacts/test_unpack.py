"""Single members come out of archives; archives cannot choose where they write."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from dynmm_framework.artifacts.digests import FileDigest
from dynmm_framework.artifacts.download import SourceFailure
from dynmm_framework.artifacts.unpack import unpack

Form = Literal["zip", "tar"]
FORMS: list[Form] = ["zip", "tar"]
MEMBERS = {"top/in/a.txt": b"aaa", "top/in/deep/b.txt": b"bb", "top/other.txt": b"x" * 100}


def _digest(content: bytes) -> FileDigest:
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


FILES = {"a.txt": _digest(b"aaa"), "deep/b.txt": _digest(b"bb")}


def _archive(path: Path, form: Form, members: dict[str, bytes], *, prefix: str = "") -> Path:
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in members.items():
                opened.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", ["top/in", "top/in/", "/top/in"])
def test_only_the_named_members_are_written(tmp_path: Path, form: Form, folder: str) -> None:
    archive = _archive(tmp_path / "x", form, MEMBERS)
    unpack(archive, form, folder, FILES, tmp_path / "out")
    written = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*.*")
    }
    assert written == {"a.txt": b"aaa", "deep/b.txt": b"bb"}


@pytest.mark.parametrize("form", FORMS)
def test_members_at_the_top(tmp_path: Path, form: Form) -> None:
    archive = _archive(tmp_path / "x", form, {"a.txt": b"aaa"}, prefix="./")
    unpack(archive, form, "", {"a.txt": FILES["a.txt"]}, tmp_path)
    assert (tmp_path / "a.txt").read_bytes() == b"aaa"


@pytest.mark.parametrize("form", FORMS)
def test_hostile_names_are_never_used(tmp_path: Path, form: Form) -> None:
    members = {"../evil": b"x", "/tmp/evil": b"x", "top/in/../../evil": b"x", **MEMBERS}
    archive = _archive(tmp_path / "x", form, members)
    unpack(archive, form, "top/in", FILES, tmp_path / "a" / "out")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"x", "a.txt", "b.txt"}


@pytest.mark.parametrize("form", FORMS)
def test_missing_member_names_the_closest(tmp_path: Path, form: Form) -> None:
    archive = _archive(tmp_path / "x", form, MEMBERS)
    with pytest.raises(SourceFailure, match=r"no top/on/a\.txt; the closest is top/in/a\.txt"):
        unpack(archive, form, "top/on", {"a.txt": FILES["a.txt"]}, tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_member_larger_than_the_record_is_not_unpacked_further(tmp_path: Path, form: Form) -> None:
    bomb = {"a.txt": bytes(20_000_000)}
    archive = _archive(tmp_path / "x", form, bomb)
    with pytest.raises(SourceFailure, match=r"a\.txt is larger than the 3 bytes"):
        unpack(archive, form, "", {"a.txt": FILES["a.txt"]}, tmp_path)
    assert (tmp_path / "a.txt").stat().st_size <= 3


def test_link_in_a_tar_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x", "w") as packed:
        info = tarfile.TarInfo("a.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(info)
    with pytest.raises(SourceFailure, match=r"it has no a\.txt"):
        unpack(tmp_path / "x", "tar", "", {"a.txt": FILES["a.txt"]}, tmp_path / "out")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", ["nothing", "text", "truncated"])
def test_damaged_archive(tmp_path: Path, form: Form, damage: str) -> None:
    archive = _archive(tmp_path / "x", form, {"top/in/a.txt": bytes(range(256)) * 999})
    whole = archive.read_bytes()
    content = {"nothing": b"", "text": b"not an archive", "truncated": whole[: len(whole) // 2]}
    archive.write_bytes(content[damage])
    with pytest.raises(SourceFailure, match="the archive is damaged"):
        unpack(archive, form, "top/in", {"a.txt": _digest(bytes(300_000))}, tmp_path)
