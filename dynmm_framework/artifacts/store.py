"""Finished stages by content key: what makes resume, caching and cheap search one mechanism."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.atomic import storage_errors, sync_tree
from dynmm_framework.artifacts.digests import digest_tree, mismatch
from dynmm_framework.artifacts.locks import try_lock, waiting_lock
from dynmm_framework.artifacts.manifest import (
    NewerVersionError,
    StageManifest,
    StoredFile,
    now,
    read_document,
    write_document,
)
from dynmm_framework.errors import ArtifactError

MANIFEST = "stage.json"
_logger = logging.getLogger("dynmm")


@dataclass(frozen=True, slots=True)
class StoredStage:
    """A finished stage.

    Attributes:
        folder: Its files, not to be changed.
        manifest: What is known about it.
    """

    folder: Path
    manifest: StageManifest


@dataclass(slots=True)
class StageWriter:
    """A stage while it is computed.

    Attributes:
        folder: Temporary folder; what it holds at the end is stored.
        workdir: Scratch folder for checkpoints. It survives failures and kills, is the same for
            the same stage and key, and is removed when the stage is finished.
        meta: Notes for the manifest; may be added to.
        existing: Set when another process finished this very stage while this one waited for
            its turn: there is nothing to compute, and what is written is dropped.
        result: The stored stage, after a clean exit.
    """

    folder: Path
    workdir: Path
    meta: dict[str, Any] = field(default_factory=dict)
    existing: StoredStage | None = None
    result: StoredStage | None = None


class StageStore:
    """Stores stages under ``root/<stage>/<key>/``.

    A stage is there whole or not at all: it is written to a temporary folder that is renamed when
    it is finished. Every file's size and digest is checked when it is found again.

    Args:
        root: Folder of the store; made when the first stage is stored.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._is_clean = False

    def find(self, stage: str, key: str, *, content: bool = True) -> StoredStage | None:
        """Returns a finished stage, or ``None`` if it has to be computed.

        A damaged one is moved aside into ``root/.damaged``, logged, and treated as absent.

        Args:
            stage: Name of the stage.
            key: Its content key.
            content: Whether to check the files' digests; otherwise only their sizes, which
                is enough to print a plan.

        Raises:
            NewerVersionError: If a newer version of the framework stored it.
            ArtifactError: If a file cannot be read, or a damaged stage not be moved.
        """
        folder = self._folder(stage, key)
        try:
            if not os.path.lexists(folder):
                return None
            manifest = read_document(folder / MANIFEST, StageManifest)
            problem = _check(folder, manifest, stage, key, content=content)
        except NewerVersionError:
            raise
        except ArtifactError as error:
            if isinstance(error.__cause__, PermissionError):
                raise
            problem = error.message
        if not problem:
            return StoredStage(folder, manifest)
        self._move_aside(folder, stage, problem)
        return None

    @contextmanager
    def stage(
        self, stage: str, key: str, meta: Mapping[str, Any] | None = None, *, apart: str = ""
    ) -> Iterator[StageWriter]:
        """Computes a stage: whatever the block writes is stored on a clean exit.

        A second process that asks for the same stage and key waits, saying so, and then finds
        ``existing`` set. An exception in the block removes the temporary folder and keeps the
        work folder.

        Args:
            stage: Name of the stage.
            key: Its content key.
            meta: First notes for the manifest.
            apart: Whoever gives a name here neither waits for others that compute the stage nor
                shares their work folder; the first result stays.

        Raises:
            ArtifactError: If the disk is full or a folder cannot be written.
        """
        if not self._is_clean:
            self.remove_stale()
            self._is_clean = True
        slug = _slug(stage, key) + apart
        target = self._folder(stage, key)
        temporary = self.root / ".tmp" / f"{slug}@{secrets.token_hex(4)}"
        workdir = self.workdir(stage, key, apart=apart)
        with waiting_lock(self._lock(slug), f"computes stage {stage}"), storage_errors(self.root):
            try:
                temporary.mkdir(parents=True)
                workdir.mkdir(parents=True, exist_ok=True)
                existing = self.find(stage, key)
                writer = StageWriter(temporary, workdir, dict(meta or {}), existing)
                started = time.perf_counter()
                yield writer
                if existing is None and apart:
                    existing = self.find(stage, key)  # another may have been faster
                if existing is None:
                    seconds = time.perf_counter() - started
                    manifest = _finish(temporary, stage, key, seconds, writer.meta)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary.rename(target)
                    existing = StoredStage(target, manifest)
                writer.result = existing
                shutil.rmtree(workdir, ignore_errors=True)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def workdir(self, stage: str, key: str, *, apart: str = "") -> Path:
        """Returns the scratch folder of a stage, which is there while the stage is not finished."""
        return self.root / ".work" / (_slug(stage, key) + apart)

    def ensure(
        self,
        stage: str,
        key: str,
        compute: Callable[[StageWriter], None],
        *,
        meta: Mapping[str, Any] | None = None,
        apart: str = "",
    ) -> tuple[StoredStage, bool]:
        """Finds a stage or computes it.

        Returns:
            The stored stage, and whether it was found rather than computed.

        Raises:
            ArtifactError: As :meth:`find` and :meth:`stage`.
        """
        found = self.find(stage, key)
        if found is not None:
            return found, True
        with self.stage(stage, key, meta, apart=apart) as writer:
            if writer.existing is None:
                compute(writer)
        assert writer.result is not None  # a clean exit sets it
        return writer.result, writer.existing is not None

    def stages(self) -> tuple[StoredStage, ...]:
        """Lists finished stages by name and key, without checking their files."""
        found = []
        for path in sorted(self.root.glob(f"[!.]*/[!.]*/{MANIFEST}")):
            with suppress(ArtifactError):
                found.append(StoredStage(path.parent, read_document(path, StageManifest)))
        return tuple(found)

    def remove_stale(self) -> tuple[Path, ...]:
        """Removes temporary folders that killed processes left; work folders stay.

        A folder whose stage is being computed by a living process is left alone. Called by the
        first :meth:`stage` of this object.

        Returns:
            The folders removed.
        """
        removed = []
        for path in sorted((self.root / ".tmp").glob("*@*")):
            with try_lock(self._lock(path.name.rpartition("@")[0])) as locked:
                if locked:
                    shutil.rmtree(path, ignore_errors=True)
                    removed.append(path)
        return tuple(removed)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / _safe(stage) / _safe(key[:24])

    def _lock(self, slug: str) -> Path:
        return self.root / ".locks" / f"{slug}.lock"

    def _move_aside(self, folder: Path, stage: str, problem: str) -> None:
        name = f"{folder.parent.name}__{folder.name}@{secrets.token_hex(4)}"
        aside = self.root / ".damaged" / name
        with storage_errors(folder, action="move aside"):
            aside.parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.rename(aside)
            except FileNotFoundError:  # another process was faster
                return
        _logger.warning(
            "the stored result of stage %s is damaged (%s); moved to %s, and computed again",
            stage,
            problem,
            aside,
        )


def _finish(
    folder: Path, stage: str, key: str, seconds: float, meta: Mapping[str, Any]
) -> StageManifest:
    if (folder / MANIFEST).exists():
        raise ArtifactError(
            f"stage {stage} wrote {MANIFEST}, which is the store's own file",
            hint="Choose another name.",
        )
    files = {
        name: StoredFile.model_validate(digest.model_dump())
        for name, digest in digest_tree(folder).items()
    }
    manifest = StageManifest(
        stage=stage, key=key, created=now(), seconds=round(seconds, 3), files=files, meta={**meta}
    )
    write_document(folder / MANIFEST, manifest)
    sync_tree(folder)
    return manifest


def _check(folder: Path, manifest: StageManifest, stage: str, key: str, *, content: bool) -> str:
    if (manifest.stage, manifest.key) != (stage, key):
        return f"it holds stage {manifest.stage} with key {manifest.key}"
    for name, expected in manifest.files.items():
        problem = mismatch(folder / name, expected, content=content)
        if problem:
            return f"{name} {problem}"
    return ""


def _slug(stage: str, key: str) -> str:
    return f"{_safe(stage)}__{_safe(key[:24])}"


def _safe(name: str) -> str:
    """Makes a folder's name from a stage's: ``fit/sasrec#2/seed-7`` → ``fit__sasrec#2__seed-7``."""
    safe = re.sub(r"[^A-Za-z0-9._#+=-]", "-", name.replace("/", "__"))
    if safe[:1] in ("", "."):
        safe = f"_{safe}"
    if len(safe) > 100:
        safe = f"{safe[:83]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return safe
