"""Documents carry their version; newer ones are refused, older ones migrated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dynmm_framework.artifacts import manifest as manifests
from dynmm_framework.artifacts.manifest import (
    NewerVersionError,
    PluginEntry,
    RunManifest,
    StageEntry,
    StageManifest,
    VersionedDocument,
    collect_environment,
    now,
    read_document,
    write_document,
)
from dynmm_framework.errors import ArtifactError


def _rename_title(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "name": data["title"]}


def _count(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "length": len(data["name"])}


class Third(VersionedDocument):
    VERSION: ClassVar[int] = 3
    MIGRATIONS: ClassVar = {1: _rename_title, 2: _count}

    name: str
    length: int


def _run(**fields: Any) -> RunManifest:
    return RunManifest(run="2026-01-02-quick", created=now(), **fields)


def test_run_manifest_round_trip(tmp_path: Path) -> None:
    run = _run(
        status="finished",
        pipeline={"version": 1, "split": {"ratios": (0.8, 0.1, 0.1)}},
        overrides=["seed=3"],
        components={"sasrec": "dynmm-framework==0.1.0/sasrec"},
        plugins=[PluginEntry(name="x", provider="acme==1", status="failed", reason="boom")],
        seeds=[1, 2],
        environment=collect_environment(),
        devices=["cpu"],
        stages=[StageEntry(name="split", key="ab", cached=True, seconds=0.5)],
        timings={"total": 3.5},
        peak_memory_bytes={"rss": 10},
        candidate_hashes={"sampled:100": "ff"},
    )
    write_document(tmp_path / "manifest.json", run)
    loaded = read_document(tmp_path / "manifest.json", RunManifest)
    assert json.loads((tmp_path / "manifest.json").read_text())["schema_version"] == 1
    assert loaded.model_dump(exclude={"pipeline"}) == run.model_dump(exclude={"pipeline"})
    assert loaded.pipeline["split"] == {"ratios": [0.8, 0.1, 0.1]}


def test_changed_copy_is_checked_when_written(tmp_path: Path) -> None:
    run = _run().model_copy(update={"status": "finishd"})
    with pytest.raises(ValueError, match="status"):
        write_document(tmp_path / "manifest.json", run)
    assert list(tmp_path.iterdir()) == []


def test_unknown_field_of_the_same_version_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_document(path, _run())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))
    assert read_document(path, RunManifest).run == "2026-01-02-quick"


def test_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stage.json"
    path.write_text('{"schema_version": 9}')
    with pytest.raises(NewerVersionError) as caught:
        read_document(path, StageManifest)
    assert caught.value.message == (
        f"cannot read {path}: its schema_version is 9, and this installation reads up to 1"
    )
    assert "upgrade" in caught.value.hint


def test_older_versions_are_migrated_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"schema_version": 1, "title": "four"}')
    document = read_document(path, Third)
    assert (document.schema_version, document.name, document.length) == (3, "four", 4)
    path.write_text('{"schema_version": 2, "name": "four"}')
    assert read_document(path, Third) == document


def test_version_without_migration_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Third, "MIGRATIONS", {2: _count})
    (tmp_path / "a.json").write_text('{"schema_version": 1, "title": "four"}')
    with pytest.raises(ArtifactError, match="schema_version 1 is no longer supported"):
        read_document(tmp_path / "a.json", Third)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "it has no schema_version"),
        ("{}", "it has no schema_version"),
        ('{"schema_version": true}', "it has no schema_version"),
        ('{"schema_version": 0}', "it has no schema_version"),
        ('{"schema_version": 1}', "migrating it from version 1"),
        ('{"schema_version": 3, "name": 4}', "name: .*; length: "),
        ("{", "not valid JSON"),
    ],
)
def test_damaged_document(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=reason) as caught:
        read_document(path, Third)
    assert caught.value.message.startswith(f"cannot read {path}: ")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a//b", "a\\b", ""])
def test_stage_manifest_refuses_names_outside_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "stage.json"
    write_document(path, StageManifest(stage="s", key="k", created=now(), seconds=1))
    data = json.loads(path.read_text())
    data["files"] = {name: {"bytes": 1, "sha256": "0" * 64}}
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="files"):
        read_document(path, StageManifest)


def test_environment_describes_versions_and_hardware() -> None:
    found = collect_environment(libraries=["numpy", "no-such-distribution"])
    assert found["python"] == sys.version.split()[0].rstrip("+")
    assert list(found["libraries"]) == ["numpy"]
    assert found["cpu"]["logical"] >= found["cpu"]["available"] >= 1
    assert found["cpu"]["model"]
    assert found["memory_bytes"] > 2**20


def test_environment_imports_no_library() -> None:
    code = (
        "import sys\n"
        "from dynmm_framework.artifacts.manifest import collect_environment\n"
        "found = collect_environment()\n"
        "assert found['gpus'] is None, found\n"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'scipy') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_environment_tells_commit_and_dirty_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert collect_environment()["git"] is None

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "m")
    state = collect_environment()["git"]
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (tmp_path / "a").write_text("2")
    assert collect_environment()["git"] == {"commit": state["commit"], "dirty": True}


def test_environment_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert collect_environment()["git"] is None


def test_environment_has_nothing_personal() -> None:
    import getpass
    import socket

    text = json.dumps(collect_environment())
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert f'"{getpass.getuser()}"' not in text


def test_now_is_utc() -> None:
    assert manifests.now().isoformat().endswith("+00:00")
