"""Digests of contents, and the memo that saves reading files again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bad_media import write

from dynmm_framework.features import contents
from dynmm_framework.features.contents import Contents, DigestMemo, digest_files, digest_texts


def digest(paths: list[str | None], memo: Path | None = None, **settings: object) -> Contents:
    clock = settings.pop("clock", lambda: 4e9)
    return digest_files(
        paths, modality="image", memo=DigestMemo(memo, clock=clock), workers=2, **settings
    )


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Paths of the files whose bytes are read."""
    seen: list[str] = []
    original = contents._digest

    def spy(path, stamp, modality):
        seen.append(Path(path).name)
        return original(path, stamp, modality)

    monkeypatch.setattr(contents, "_digest", spy)
    return seen


def test_equal_texts_are_one_content():
    found = digest_texts(["a", None, "b", "a", "\ud800"])
    assert [key is None for key in found.keys] == [False, True, False, False, False]
    assert found.keys[0] == found.keys[3] == hashlib.sha256(b"a").digest()
    assert len(found.by_key) == 3


def test_equal_files_are_one_content_and_bad_ones_have_reasons(tmp_path: Path):
    for name, data in {"a": b"one", "b": b"two", "c": b"one", "d": b""}.items():
        write(tmp_path, name, data)
    paths = [str(tmp_path / name) for name in "abcde"]
    told: list[int] = []
    found = digest([*paths, None, paths[0]], advance=lambda n=1, note="": told.append(n))
    assert found.reasons == ["", "", "", "empty file", "no such file", "", ""]
    assert found.keys[0] == found.keys[2] == found.keys[6] == hashlib.sha256(b"one").digest()
    assert found.keys[5] is None
    assert found.by_key[found.keys[0]].value == paths[0]
    assert sum(told) == 5


def test_unchanged_files_are_not_read_again(tmp_path: Path, reads: list[str]):
    memo = tmp_path / "cache" / "digests.parquet"
    paths = [str(write(tmp_path, name, name.encode())) for name in "abc"]
    first = digest(paths, memo)
    assert sorted(reads) == ["a", "b", "c"]
    reads.clear()
    assert digest(paths, memo).keys == first.keys
    assert reads == []
    write(tmp_path, "b", b"changed")
    assert digest(paths, memo).keys[1] == hashlib.sha256(b"changed").digest()
    assert reads == ["b"]
    assert pq.read_table(memo).num_rows == 3


def test_a_file_of_the_last_seconds_is_not_remembered(tmp_path: Path, reads: list[str]):
    path = write(tmp_path, "a", b"x")
    moment = path.stat().st_mtime
    for _ in range(2):
        digest([str(path)], tmp_path / "memo.parquet", clock=lambda: moment + 1)
    assert reads == ["a", "a"]


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"nonsense" * 10])
def test_a_damaged_memo_costs_time_only(tmp_path: Path, reads: list[str], damage: bytes):
    memo = tmp_path / "memo.parquet"
    path = write(tmp_path, "a", b"x")
    digest([str(path)], memo)
    memo.write_bytes(damage)
    assert digest([str(path)], memo).keys[0] == hashlib.sha256(b"x").digest()
    assert reads == ["a", "a"]
    digest([str(path)], memo)
    assert reads == ["a", "a"]


def test_names_that_are_no_text_are_remembered(tmp_path: Path, reads: list[str]):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    write(tmp_path, os.fsdecode(b"\xff.jpg"), b"x")
    for _ in range(2):
        digest([path], tmp_path / "memo.parquet")
    assert len(reads) == 1


def test_two_memos_keep_what_either_knows(tmp_path: Path):
    memo = tmp_path / "memo.parquet"
    one, two = DigestMemo(memo, clock=lambda: 4e9), DigestMemo(memo, clock=lambda: 4e9)
    for name, object_ in (("a", one), ("b", two)):
        path = str(write(tmp_path, name, b"x"))
        digest_files([path], modality="image", memo=object_, workers=1)
    assert pq.read_table(memo).num_rows == 2


def test_a_folder_that_cannot_be_written_costs_the_memo_only(tmp_path: Path):
    path = str(write(tmp_path, "a", b"x"))
    assert digest([path], tmp_path / "a" / "memo.parquet").keys[0] is not None


def test_a_file_that_changes_while_it_is_read_has_a_reason(tmp_path: Path, monkeypatch):
    path = write(tmp_path, "a", b"x")
    original = hashlib.file_digest

    def meddle(file, name):
        result = original(file, name)
        path.write_bytes(b"other")
        return result

    monkeypatch.setattr(hashlib, "file_digest", meddle)
    assert digest([str(path)]).reasons == ["changed while it was read"]
