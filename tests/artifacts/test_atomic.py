"""Files are whole or absent, and what prevents writing them is explained."""

# ruff: noqa: PT012  # a failure inside the block is what these tests are about

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from dynmm_framework.artifacts.atomic import (
    atomic_folder,
    atomic_path,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from dynmm_framework.errors import ArtifactError

PLAUSIBLE = {
    errno.ENOSPC: ("the disk is full", "Free some space on the disk of {folder}"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space in {folder}"),
    errno.EACCES: ("permission denied", "Check the owner and the mode of {folder}"),
    errno.EROFS: ("the file system is read-only", "Choose a folder that can be written to."),
    errno.EIO: ("input/output error", "Check the disk of {folder}."),
}


def _fail(code: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_text_is_utf8_with_line_feeds(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "a.txt", "é\n∈\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "é\n∈\n".encode()


def test_mode_follows_the_umask_rather_than_being_private(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_temporary_file_keeps_folder_and_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "plot.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_old_content_stays_when_the_writer_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", PLAUSIBLE)
@pytest.mark.parametrize("where", ["open", "fsync", "replace"])
def test_failure_names_path_reason_and_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, where: str
) -> None:
    path = tmp_path / "runs" / "metrics.json"
    write_json(path, {"old": 1})
    if where == "replace":
        monkeypatch.setattr(Path, "replace", _fail(code))
    else:
        monkeypatch.setattr(os, where, _fail(code))
    with pytest.raises(ArtifactError) as caught:
        write_json(path, {"new": 1})
    monkeypatch.undo()
    reason, hint = PLAUSIBLE[code]
    assert caught.value.message.startswith(f"cannot write {path}: ")
    assert reason in caught.value.message
    assert hint.format(folder=path.parent) in caught.value.hint
    assert list(path.parent.iterdir()) == [path]
    assert read_json(path) == {"old": 1}


def test_full_disk_while_a_library_writes(tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match=r"table\.parquet: the disk is full"),
        atomic_path(tmp_path / "table.parquet") as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "Error writing bytes to file")
    assert list(tmp_path.iterdir()) == []


def test_errors_about_other_things_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "elsewhere" / "b").read_bytes()
    with pytest.raises(ConnectionResetError), atomic_path(tmp_path / "a"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    with pytest.raises(FileNotFoundError), atomic_folder("relative-and-never-made"):
        Path("another-relative/b").read_bytes()
    assert not Path("relative-and-never-made").exists()


def test_path_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ArtifactError, match="it is a folder, not a file"):
        write_text(tmp_path / "a", "x")


def test_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(ArtifactError, match="a part of the path is a file, not a folder"):
        write_text(tmp_path / "a" / "b" / "c", "x")
    with pytest.raises(ArtifactError, match="a part of the path is a file, not a folder"):
        write_text(tmp_path / "a" / "b", "x")


def test_name_too_long(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the name is too long"):
        write_text(tmp_path / ("x" * 300), "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArtifactError, match="permission denied"):
            write_text(tmp_path / "a", "x")
    finally:
        tmp_path.chmod(0o700)


def test_folder_replaces_an_older_one_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "f") as temporary:
            (temporary / "deep").mkdir()
            (temporary / "deep" / content).write_text(content)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert [p.name for p in (tmp_path / "f" / "deep").iterdir()] == ["new"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_old_folder_stays_when_the_writer_fails(tmp_path: Path, error: BaseException) -> None:
    with atomic_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(type(error)), atomic_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_text("half")
        raise error
    assert (tmp_path / "f" / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_old_folder_returns_when_the_new_one_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_text("old")
    rename, calls = Path.rename, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with (
        pytest.raises(ArtifactError, match="the disk is full"),
        atomic_folder(tmp_path / "f") as temporary,
    ):
        (temporary / "a").write_text("new")
    assert (tmp_path / "f" / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_json_of_numpy_and_not_a_number(tmp_path: Path) -> None:
    value = {
        "f": np.float32(0.5),
        "nan": float("nan"),
        "inf": [np.float64("inf")],
        "i": np.int64(3),
        "a": np.arange(3),
        "t": (1, None, True),
        "s": {"b", "a"},
        "p": Path("x"),
        "d": datetime(2026, 1, 2, tzinfo=UTC),
        7: "key",
    }
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {
        "f": 0.5,
        "nan": None,
        "inf": [None],
        "i": 3,
        "a": [0, 1, 2],
        "t": [1, None, True],
        "s": ["a", "b"],
        "p": "x",
        "d": "2026-01-02T00:00:00+00:00",
        "7": "key",
    }


def test_json_of_something_else_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        write_json(tmp_path / "a.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b'{"a": 1', b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000], ids=range(5)
)
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is not valid JSON") as caught:
        read_json(path)
    assert str(path) in caught.value.message
    assert "damaged" in caught.value.hint


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read .*a\.json: it does not exist"):
        read_json(tmp_path / "a.json")


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "ä": [\n    1\n  ]\n}\n'
    assert json.loads((tmp_path / "a.json").read_text()) == {"ä": [1]}
