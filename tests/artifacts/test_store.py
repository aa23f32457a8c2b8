"""Stages are found whole or not at all, whatever ends the process that computes them."""

# ruff: noqa: PT012  # a failure inside the block is what these tests are about

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from dynmm_framework.artifacts import store as stores
from dynmm_framework.artifacts.manifest import NewerVersionError
from dynmm_framework.artifacts.store import StageStore, StageWriter
from dynmm_framework.errors import ArtifactError

STAGE = "fit/sasrec#2/seed-7"
KEY = "0123456789abcdef" * 4


def _put(store: StageStore, stage: str = STAGE, key: str = KEY, text: str = "content") -> Path:
    with store.stage(stage, key, {"n": 1}) as writer:
        (writer.folder / "deep").mkdir()
        (writer.folder / "deep" / "a.txt").write_text(text)
        writer.meta["m"] = 2
    assert writer.result is not None
    return writer.result.folder


def _visible(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.glob("[!.]*/*"))


def test_stage_is_stored_and_found(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "store")
    assert store.find(STAGE, KEY) is None
    folder = _put(store)
    assert folder == tmp_path / "store" / "fit__sasrec#2__seed-7" / KEY[:24]
    found = StageStore(tmp_path / "store").find(STAGE, KEY)
    assert found is not None
    assert found.folder == folder
    assert (found.folder / "deep" / "a.txt").read_text() == "content"
    manifest = found.manifest
    assert (manifest.stage, manifest.key, manifest.meta) == (STAGE, KEY, {"n": 1, "m": 2})
    assert list(manifest.files) == ["deep/a.txt"]
    assert manifest.files["deep/a.txt"].bytes == 7
    assert manifest.seconds >= 0
    assert store.find(STAGE, "f" * 64) is None
    assert store.find("fit/other", KEY) is None


@pytest.mark.parametrize(
    "stage", ["evaluate/sampled:100/seed-1", "../../up", ".hidden", "a b\n", "x" * 500, "é"]
)
def test_any_stage_name_makes_a_folder_inside_the_store(tmp_path: Path, stage: str) -> None:
    store = StageStore(tmp_path / "store")
    folder = _put(store, stage)
    assert folder.parent.parent == tmp_path / "store"
    assert not folder.parent.name.startswith(".")
    assert store.find(stage, KEY) is not None
    assert [s.manifest.stage for s in store.stages()] == [stage]


def test_failure_stores_nothing_and_keeps_the_workdir(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    for error in (ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), store.stage(STAGE, KEY) as writer:
            (writer.folder / "a").write_text("half")
            (writer.workdir / "checkpoint").write_text("epoch 3")
            raise error
        assert store.find(STAGE, KEY) is None
        assert _visible(tmp_path) == []
        assert list((tmp_path / ".tmp").iterdir()) == []
    with store.stage(STAGE, KEY) as writer:
        assert (writer.workdir / "checkpoint").read_text() == "epoch 3"
    assert not writer.workdir.exists()
    assert store.find(STAGE, KEY) is not None


def test_work_folders_are_private_to_a_key(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    with store.stage(STAGE, KEY) as first, store.stage(STAGE, "e" * 64) as second:
        assert first.workdir != second.workdir
        assert first.folder != second.folder


def _damage_manifest(folder: Path) -> None:
    (folder / "stage.json").write_text("{")


def _truncate(folder: Path) -> None:
    (folder / "deep" / "a.txt").write_text("cont")


def _flip(folder: Path) -> None:
    (folder / "deep" / "a.txt").write_text("CONTENT")


def _remove(folder: Path) -> None:
    (folder / "deep" / "a.txt").unlink()


def _swap(folder: Path) -> None:
    text = (folder / "stage.json").read_text()
    (folder / "stage.json").write_text(text.replace(KEY, KEY[:24] + "0" * 40))


def _no_manifest(folder: Path) -> None:
    (folder / "stage.json").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_damage_manifest, "not valid JSON"),
        (_truncate, "has 4 bytes instead of 7"),
        (_flip, "wrong content"),
        (_remove, "deep/a.txt is missing"),
        (_swap, "it holds stage"),
        (_no_manifest, "does not exist"),
    ],
)
def test_damaged_stage_is_moved_aside_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage, reason: str
) -> None:
    store = StageStore(tmp_path)
    folder = _put(store)
    damage(folder)
    with caplog.at_level(logging.WARNING, logger="dynmm"):
        assert store.find(STAGE, KEY) is None
    (record,) = caplog.records
    assert STAGE in record.getMessage()
    assert reason in record.getMessage()
    (aside,) = (tmp_path / ".damaged").iterdir()
    assert str(aside) in record.getMessage()
    assert not folder.exists()
    _put(store)
    assert store.find(STAGE, KEY) is not None


def test_plan_compares_sizes_only(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    _flip(_put(store))
    assert store.find(STAGE, KEY, content=False) is not None
    assert store.find(STAGE, KEY) is None


def test_newer_stage_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    folder = _put(store)
    text = (folder / "stage.json").read_text()
    (folder / "stage.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(NewerVersionError, match="schema_version is 2"):
        store.find(STAGE, KEY)
    assert folder.exists()


def test_ensure_computes_once(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    calls = []

    def compute(writer: StageWriter) -> None:
        calls.append(writer)
        (writer.folder / "a").write_text("x")

    first, cached_first = store.ensure(STAGE, KEY, compute, meta={"k": 1})
    second, cached_second = store.ensure(STAGE, KEY, compute)
    assert (cached_first, cached_second, len(calls)) == (False, True, 1)
    assert first == second
    assert first.manifest.meta == {"k": 1}


def test_second_of_two_waits_and_finds_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    inside = threading.Event()

    def compute(writer: StageWriter) -> None:
        calls.append(threading.current_thread().name)
        inside.set()
        time.sleep(0.3)
        (writer.folder / "a").write_text("x")

    results = []
    worker = threading.Thread(
        target=lambda: results.append(StageStore(tmp_path).ensure(STAGE, KEY, compute))
    )
    with caplog.at_level(logging.INFO, logger="dynmm"):
        worker.start()
        assert inside.wait(5)
        results.append(StageStore(tmp_path).ensure(STAGE, KEY, compute))
        worker.join()
    assert len(calls) == 1
    assert sorted(cached for _, cached in results) == [False, True]
    assert f"waiting for another process that computes stage {STAGE}" in caplog.text
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_what_is_written_beside_an_existing_result_is_dropped(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    _put(store, text="content")
    with store.stage(STAGE, KEY) as writer:
        assert writer.existing is not None
        (writer.folder / "other").write_text("x")
    assert writer.result == writer.existing
    found = store.find(STAGE, KEY)
    assert found is not None
    assert list(found.manifest.files) == ["deep/a.txt"]


def test_full_disk_inside_the_stage(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "store")
    with pytest.raises(ArtifactError) as caught, store.stage(STAGE, KEY) as writer:
        (writer.folder / "a").write_text("half")
        raise OSError(errno.ENOSPC, "Error writing bytes to file")
    assert "the disk is full" in caught.value.message
    assert str(tmp_path / "store") in caught.value.message
    assert _visible(tmp_path / "store") == []
    assert list((tmp_path / "store" / ".tmp").iterdir()) == []


def test_full_disk_when_the_stage_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    store = StageStore(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        _put(store)
    monkeypatch.undo()
    assert store.find(STAGE, KEY) is None
    _put(store)
    assert store.find(STAGE, KEY) is not None


def test_missing_input_of_a_stage_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), StageStore(tmp_path / "s").stage(STAGE, KEY):
        (tmp_path / "input").read_bytes()


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    store = StageStore(tmp_path / "store")
    assert store.find(STAGE, KEY) is None
    with pytest.raises(ArtifactError, match="a part of the path is a file"):
        _put(store)


def test_links_and_the_stores_own_file_are_refused(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    with (
        pytest.raises(ArtifactError, match="a link or a special file"),
        store.stage(STAGE, KEY) as writer,
    ):
        (writer.folder / "link").symlink_to("/etc/hostname")
    with (
        pytest.raises(ArtifactError, match=r"wrote stage\.json"),
        store.stage(STAGE, KEY) as writer,
    ):
        (writer.folder / "stage.json").write_text("{}")
    assert store.find(STAGE, KEY) is None


KILLED = """
    import os, sys, time
    from pathlib import Path
    from dynmm_framework.artifacts.store import StageStore

    with StageStore(Path(sys.argv[1])).stage(sys.argv[2], sys.argv[3]) as writer:
        (writer.folder / "a.txt").write_text("half")
        (writer.workdir / "checkpoint").write_text("epoch 3")
        print("inside", flush=True)
        time.sleep(60)
"""


def _start(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(root), STAGE, KEY],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    return process


def test_killed_process_leaves_no_stage_and_a_usable_workdir(tmp_path: Path) -> None:
    process = _start(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(list((tmp_path / ".tmp").iterdir())) == 1
    assert _visible(tmp_path) == []

    store = StageStore(tmp_path)
    assert store.find(STAGE, KEY) is None
    with store.stage(STAGE, KEY) as writer:
        assert list((tmp_path / ".tmp").iterdir()) == [writer.folder]
        assert list(writer.folder.iterdir()) == []
        assert (writer.workdir / "checkpoint").read_text() == "epoch 3"
        (writer.folder / "a.txt").write_text("whole")
    found = StageStore(tmp_path).find(STAGE, KEY)
    assert found is not None
    assert (found.folder / "a.txt").read_text() == "whole"


def test_living_process_keeps_its_temporary_folder(tmp_path: Path) -> None:
    process = _start(tmp_path)
    try:
        assert StageStore(tmp_path).remove_stale() == ()
        _put(StageStore(tmp_path), "another", KEY)
        assert len(list((tmp_path / ".tmp").iterdir())) == 1
    finally:
        process.kill()
        process.communicate()
    assert len(StageStore(tmp_path).remove_stale()) == 1


def test_listing_skips_what_is_not_a_stage(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    assert store.stages() == ()
    _put(store, "b")
    _put(store, "a")
    _damage_manifest(_put(store, "c"))
    (tmp_path / "notes.txt").write_text("x")
    assert [s.manifest.stage for s in store.stages()] == ["a", "b"]
    assert stores.MANIFEST == "stage.json"
