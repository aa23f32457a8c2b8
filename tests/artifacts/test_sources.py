"""Files arrive from the first source that has them, checked, whole, and once."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from web_server import Site, serve

from dynmm_framework.artifacts import sources, wheels
from dynmm_framework.artifacts.record_types import DatasetRecord
from dynmm_framework.artifacts.sources import Fetcher, default_cache
from dynmm_framework.errors import ArtifactError

FILES = {"a.csv": b"user,item\n1,2\n", "deep/b.csv": b"item\n2\n"}
OTHER = {"raw.dat": b"1::2\n"}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def _table(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }


def _zip(files: dict[str, bytes], folder: str = "") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in files.items():
            opened.writestr(folder + name, content)
    return stream.getvalue()


def _record(*sources: dict[str, Any], **fields: Any) -> DatasetRecord:
    return DatasetRecord.model_validate(
        {
            "version": 1,
            "kind": "dataset",
            "name": "tiny",
            "summary": "s",
            "files": _table(FILES),
            "sources": list(sources),
            **fields,
        }
    )


def _archive_source(site: Site, content: bytes, **fields: Any) -> dict[str, Any]:
    table = _table({"x": content})["x"]
    return {"url": f"{site.url}/x.zip", "archive": {"format": "zip", **table, **fields}}


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def _site(files: dict[str, bytes] = FILES, *, folder: str = "in/"):
    archive = _zip(files, folder)
    site = Site()
    site.files = {f"/f/{name}": content for name, content in files.items()}
    site.files["/x.zip"] = archive
    with serve(site):
        yield site, _archive_source(site, archive, folder=folder)


def test_archive_is_unpacked_once(tmp_path: Path) -> None:
    with _site() as (site, source):
        fetcher = Fetcher(tmp_path / "cache")
        folder = fetcher.fetch(_record(source))
        assert _content(folder) == FILES
        assert folder.parent == tmp_path / "cache" / "datasets" / "tiny"
        assert Fetcher(tmp_path / "cache", offline=True).fetch(_record(source)) == folder
        assert len(site.seen) == 1
    assert list((tmp_path / "cache" / ".partial").iterdir()) == []


def test_folder_of_files(tmp_path: Path) -> None:
    with _site() as (site, _):
        folder = Fetcher(tmp_path).fetch(_record({"url": f"{site.url}/f/"}))
    assert _content(folder) == FILES


def test_single_file(tmp_path: Path) -> None:
    with _site(OTHER) as (site, _):
        record = _record({"url": f"{site.url}/f/raw.dat", "files": _table(OTHER)}, files={})
        assert _content(Fetcher(tmp_path).fetch(record)) == OTHER


def test_progress_counts_bytes(tmp_path: Path) -> None:
    bars: list[tuple[str, int | None, list[int]]] = []

    @contextmanager
    def progress(description: str, total: int | None):
        bars.append((description, total, []))
        yield lambda n=1, note="": bars[-1][2].append(n)

    lines: list[str] = []
    with _site() as (_, source):
        Fetcher(tmp_path, progress=progress, log=lines.append).fetch(_record(source))
    ((description, total, steps),) = bars
    assert (description, total) == ("fetching tiny", source["archive"]["bytes"])
    assert sum(steps) == total
    assert lines == [f"fetching dataset tiny from {source['url']}"]


def test_next_source_is_tried_and_may_deliver_other_files(tmp_path: Path) -> None:
    with _site(OTHER) as (site, source):
        missing = {"url": f"{site.url}/gone/"}
        record = _record(missing, source | {"files": _table(OTHER)})
        folder = Fetcher(tmp_path).fetch(record)
        assert _content(folder) == OTHER
        assert Fetcher(tmp_path, offline=True).fetch(record) == folder


def test_all_failures_are_reported_together(tmp_path: Path) -> None:
    with _site() as (site, source):
        wrong = source["archive"] | {"sha256": "0" * 64}
        record = _record(
            {"url": f"{site.url}/gone/"},
            {**source, "archive": wrong},
            {"url": "s3://bucket/folder/"},
            homepage="https://example.org/tiny",
            manual="Ask the authors.",
        )
        with pytest.raises(ArtifactError) as caught:
            Fetcher(tmp_path).fetch(record)
    message, hint = caught.value.message, caught.value.hint
    assert message.startswith("dataset tiny could not be fetched; sources tried:\n")
    first, second, third = message.splitlines()[1:]
    assert first == f"  1. {site.url}/gone/: the server answers 404 Not Found"
    assert second.startswith(f"  2. {site.url}/x.zip: the content is another: SHA-256 ")
    assert third == "  3. s3://bucket/folder/: no plugin fetches s3:// addresses"
    assert f"put these files into {tmp_path}/datasets/tiny/" in hint
    assert "    a.csv (14 bytes)\n    deep/b.csv (7 bytes)" in hint
    assert "https://example.org/tiny" in hint
    assert "Ask the authors." in hint
    assert not (tmp_path / "datasets" / "tiny").exists() or not any(
        (tmp_path / "datasets" / "tiny").iterdir()
    )


def test_member_with_other_content_is_refused(tmp_path: Path) -> None:
    changed = {**FILES, "a.csv": b"user,item\n1,3\n"}
    reason = r"a\.csv has the right size and the wrong content"
    with _site(changed) as (_, source), pytest.raises(ArtifactError, match=reason):
        Fetcher(tmp_path).fetch(_record(source))


def test_offline_names_what_is_missing_and_where_to_put_it(tmp_path: Path) -> None:
    record = _record({"url": "https://example.org/f/"})
    with pytest.raises(ArtifactError) as caught:
        Fetcher(tmp_path, offline=True).fetch(record)
    assert caught.value.message == (
        "dataset tiny is not in the cache, and fetching it is not allowed (offline)"
    )
    folder = Path(caught.value.hint.split("put these files into ")[1].splitlines()[0].rstrip(":"))
    assert caught.value.hint.startswith("Run once without --offline, or put these files into ")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert Fetcher(tmp_path, offline=True).fetch(record) == folder


def test_files_put_by_hand_are_compared_by_digest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _site() as (_, source):
        record = _record(source)
        folder = Fetcher(tmp_path).fetch(record)
        (folder / "a.csv").write_bytes(b"user,item\n9,9\n")
        with pytest.raises(ArtifactError) as caught:
            Fetcher(tmp_path, offline=True).fetch(record)
        assert "is damaged in the cache" in caught.value.message
        assert "a.csv has the right size and the wrong content" in caught.value.message
        with caplog.at_level(logging.WARNING, logger="dynmm"):
            assert _content(Fetcher(tmp_path).fetch(record)) == FILES
        assert "is damaged in the cache" in caplog.text


def test_unchanged_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _site() as (_, source):
        record = _record(source)
        Fetcher(tmp_path).fetch(record)
    read = []
    real = sources.mismatch

    def spy(path: Path, expected: Any, *, content: bool = True) -> str:
        read.extend([path] if content else [])
        return real(path, expected, content=content)

    monkeypatch.setattr(sources, "mismatch", spy)
    folder = Fetcher(tmp_path).fetch(record)
    assert read == []
    os.utime(folder / "a.csv", (1, 1))
    Fetcher(tmp_path).fetch(record)
    assert len(read) == 2


def test_verify_reads_every_file(tmp_path: Path) -> None:
    with _site() as (_, source):
        record = _record(source)
        fetcher = Fetcher(tmp_path, offline=True)
        (absent,) = fetcher.verify(record)
        assert (absent.record, absent.status, absent.file) == ("dataset/tiny", "absent", None)
        assert fetcher.folder(record) is None
        folder = Fetcher(tmp_path).fetch(record)
    assert [finding.status for finding in fetcher.verify(record)] == ["ok", "ok"]
    assert fetcher.folder(record) == folder
    (folder / "a.csv").write_bytes(b"x" * 14)
    first, second = fetcher.verify(record)
    assert (first.status, first.file) == ("damaged", folder / "a.csv")
    assert "SHA-256 differs" in first.message
    assert second.status == "ok"
    manual = _record(files={}, manual="ask")
    assert [finding.status for finding in fetcher.verify(manual)] == ["manual"]


def test_record_without_sources_says_what_to_do_by_hand(tmp_path: Path) -> None:
    record = _record(files={}, manual="Unpack it.", homepage="https://example.org/x")
    with pytest.raises(ArtifactError) as caught:
        Fetcher(tmp_path).fetch(record)
    assert caught.value.message == "dataset tiny has to be fetched by hand"
    assert caught.value.hint == "Home page: https://example.org/x\n  Unpack it."


def test_plugin_fetches_other_schemes(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def hook(*, uri: str, dest: Path, sha256: str) -> Path | None:
        asked.append((uri, sha256))
        dest.write_bytes(FILES[uri.removeprefix("s3://bucket/")])
        return dest

    record = _record({"url": "s3://bucket/"})
    folder = Fetcher(tmp_path, fetch_hook=hook).fetch(record)
    assert _content(folder) == FILES
    assert asked[0] == ("s3://bucket/a.csv", hashlib.sha256(FILES["a.csv"]).hexdigest())


def test_plugin_that_fails_or_lies_counts_as_that_sources_failure(tmp_path: Path) -> None:
    def broken(**_: Any) -> Path | None:
        raise RuntimeError("no credentials")

    def lying(*, uri: str, dest: Path, sha256: str) -> Path | None:
        dest.write_bytes(b"something else")
        return dest

    def forgetful(*, uri: str, dest: Path, sha256: str) -> Path | None:
        return dest

    record = _record({"url": "s3://bucket/"})
    for hook, reason in (
        (broken, r"the plugin for s3:// failed: RuntimeError\('no credentials'\)"),
        (lying, "the file of the plugin for s3:// has"),
        (forgetful, "the file of the plugin for s3:// is missing"),
    ):
        with pytest.raises(ArtifactError, match=reason):
            Fetcher(tmp_path, fetch_hook=hook).fetch(record)


def test_full_disk_ends_the_fetch_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with _site() as (site, source):
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ArtifactError, match="the disk is full"):
            Fetcher(tmp_path).fetch(_record(source, {"url": f"{site.url}/f/"}))
        assert len(site.seen) == 1
        monkeypatch.undo()
        assert not list(tmp_path.glob("datasets/tiny/*"))
        assert _content(Fetcher(tmp_path).fetch(_record(source))) == FILES
        assert len(site.seen) == 1  # the archive had arrived


def test_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x")
    with pytest.raises(ArtifactError, match="a part of the path is a file"):
        Fetcher(tmp_path / "cache").fetch(_record({"url": "https://example.org/f/"}))


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    with _site() as (site, source):
        folders: list[Path] = []
        threads = [
            threading.Thread(
                target=lambda: folders.append(Fetcher(tmp_path).fetch(_record(source)))
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(folders)) == 1
        assert len(folders) == 3
        assert len(site.seen) == 1


def test_hub_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    record = _record({"hub": {"repo": "owner/tiny", "revision": "abc"}})
    with pytest.raises(ArtifactError, match="pip install huggingface-hub"):
        Fetcher(tmp_path).fetch(record)


def test_hub_files_of_one_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hf_hub_download(repo: str, path: str, *, revision: str, local_dir: Path) -> str:
        asked.append((repo, path, revision))
        found = Path(local_dir) / path
        found.parent.mkdir(parents=True, exist_ok=True)
        (Path(local_dir) / ".cache").mkdir(exist_ok=True)
        found.write_bytes(FILES[path.removeprefix("data/")])
        return str(found)

    library = SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    record = _record({"hub": {"repo": "owner/tiny", "revision": "abc", "folder": "data"}})
    assert _content(Fetcher(tmp_path).fetch(record)) == FILES
    assert asked == [("owner/tiny", "data/a.csv", "abc"), ("owner/tiny", "data/deep/b.csv", "abc")]


@pytest.fixture(scope="module")
def wheel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    info = "dynmm_tiny_data-1.0.dist-info"
    members = {f"dynmm_tiny_data/files/{name}": content for name, content in FILES.items()}
    members |= {
        "dynmm_tiny_data/__init__.py": b"raise SystemExit('never imported')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: dynmm-tiny-data\nVersion: 1.0\n"
        b"Requires-Dist: no-such-distribution\nRequires-Python: >=99\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    (folder / "dynmm_tiny_data-1.0-py3-none-any.whl").write_bytes(_zip(members))
    return folder


def _pip(links: Path, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    wheel = {"wheel": "dynmm-tiny-data==1.0", "folder": "dynmm_tiny_data/files", **fields}
    return {"pypi": wheel}, ["--no-index", f"--find-links={links}", "--isolated"]


def test_wheel_is_downloaded_and_never_installed(tmp_path: Path, wheel_folder: Path) -> None:
    source, arguments = _pip(wheel_folder)
    folder = Fetcher(tmp_path, pip_arguments=arguments).fetch(_record(source))
    assert _content(folder) == FILES
    assert list((tmp_path / ".partial").iterdir()) == []
    code = "import importlib.util; print(importlib.util.find_spec('dynmm_tiny_data'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "None\n"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"wheel": "dynmm-tiny-data==2.0"}, r"pip: .*No matching distribution found"),
        ({"folder": "dynmm_tiny_data/file"}, "the closest is dynmm_tiny_data/files/a.csv"),
        ({"sha256": "0" * 64}, "dynmm_tiny_data-1.0-py3-none-any.whl is another file"),
    ],
)
def test_wheel_that_does_not_deliver(
    tmp_path: Path, wheel_folder: Path, fields: dict[str, Any], reason: str
) -> None:
    source, arguments = _pip(wheel_folder, **fields)
    with pytest.raises(ArtifactError, match=reason):
        Fetcher(tmp_path, pip_arguments=arguments).fetch(_record(source))
    assert not list(tmp_path.glob(".partial/*/pip/*"))


def test_missing_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho '{fake}: No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    source, _ = _pip(tmp_path)
    with pytest.raises(ArtifactError, match=r"pip is not installed .*python -m ensurepip"):
        Fetcher(tmp_path / "cache").fetch(_record(source))


def test_password_of_an_index_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'ERROR: https://me:secret@index.example/x: 403'\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    source, _ = _pip(tmp_path)
    with pytest.raises(ArtifactError, match=r"index\.example") as caught:
        Fetcher(tmp_path / "cache").fetch(_record(source))
    assert "secret" not in str(caught.value)


def test_interrupted_pip_is_ended_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, note = tmp_path / "python", tmp_path / "pid"
    fake.write_text(f"#!/bin/sh\necho $$ > {note}\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))

    @contextmanager
    def progress(description: str, total: int | None):
        yield lambda n=1, note="": None

    def interrupt(_: float) -> None:
        if note.exists() and note.read_text().strip():
            raise KeyboardInterrupt

    monkeypatch.setattr(wheels, "time", SimpleNamespace(sleep=interrupt))
    source, _ = _pip(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Fetcher(tmp_path / "cache", progress=progress).fetch(_record(source))
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert not list((tmp_path / "cache").glob("datasets/tiny/*"))


def test_folders_that_pip_makes_and_removes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, shutil\n"
        "for n in range(300):\n"
        "    top = f'{os.environ[\"TMPDIR\"]}/{n}'\n"
        "    os.makedirs(top + '/in/deep')\n"
        "    shutil.rmtree(top)\n"
        "raise SystemExit('ERROR: came to its end')\n"
    )
    fake, script = tmp_path / "python", tmp_path / "churn.py"
    script.write_text(code)
    fake.write_text(f"#!/bin/sh\nexec {sys.executable} {script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    monkeypatch.setattr(wheels, "time", SimpleNamespace(sleep=lambda _: None))
    source, _ = _pip(tmp_path)
    with pytest.raises(ArtifactError, match=r"pip: came to its end"):
        Fetcher(tmp_path / "cache").fetch(_record(source))


def test_cache_folder_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNMM_CACHE", "~/somewhere")
    assert default_cache() == Path.home() / "somewhere"
    monkeypatch.delenv("DYNMM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    if sys.platform == "linux":
        assert default_cache() == Path("/xdg/dynmm")


def test_note_of_checked_files_that_is_damaged_is_ignored(tmp_path: Path) -> None:
    with _site() as (_, source):
        folder = Fetcher(tmp_path).fetch(_record(source))
    (note,) = (tmp_path / ".checked").iterdir()
    assert list(json.loads(note.read_text())) == list(FILES)
    note.write_text("{")
    assert Fetcher(tmp_path, offline=True).fetch(_record(source)) == folder
