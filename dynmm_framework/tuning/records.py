"""A search's folder: plain JSON that anyone can read, and that a search goes on from.

``search.json`` says what is searched and what came of it, ``trials.jsonl`` has a line for every
trial that ended, ``running.json`` the settings of those that had not when the search was cut off.
Nothing in it is ever executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dynmm_framework.artifacts.atomic import read_json, storage_errors, write_json
from dynmm_framework.artifacts.locks import try_lock
from dynmm_framework.artifacts.manifest import VersionedDocument, read_document, write_document
from dynmm_framework.errors import ArtifactError

SEARCH_FILE: Final = "search.json"
TRIALS_FILE: Final = "trials.jsonl"
RUNNING_FILE: Final = "running.json"
BEST_FILE: Final = "best.yaml"
RAY_FOLDER: Final = ".ray"
"""What Ray Tune stores while a search runs; removed at its end and never read."""
FRONT_FOLDER: Final = "front"

State = Literal["finished", "pruned", "failed", "invalid"]


class TrialRecord(BaseModel):
    """One line of ``trials.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    number: int
    """From 1."""
    state: State
    """``finished``; ``pruned``: stopped early; ``failed``; ``invalid``: the settings contradict
    each other, so nothing was computed and the trial does not count."""
    params: dict[str, Any]
    """Value of every setting that was varied, by its dotted path."""
    metrics: dict[str, float] = {}
    """What the trial reached on validation users, the objectives first; ``latency`` in ms."""
    users: int = 0
    """Validation users, or events of a stream, that it was measured on."""
    reason: str = ""
    """Why it was pruned, failed or is invalid."""
    epochs: list[dict[str, Any]] = []
    """Every epoch that a stage of the trial reported: stage, epoch and the followed metric."""
    stages: list[dict[str, Any]] = []
    """The stages it stands on: name, key, and whether they were computed already."""
    seconds: float = 0.0
    """Wall time, waiting for stages of other trials included."""
    started: datetime | None = None
    """When it was begun, UTC."""
    worker: str = ""
    """Machine and process."""
    attempts: int = 1
    """More than one after workers were lost."""


class Objective(BaseModel):
    """What is compared."""

    name: str
    direction: Literal["max", "min"]

    @property
    def sign(self) -> int:
        return 1 if self.direction == "max" else -1


class SearchManifest(VersionedDocument):
    """``search.json``: what is searched, and what came of it."""

    search: str
    """Id, also the name of its folder."""
    created: datetime
    name: str
    """Name of the pipeline."""
    source: str = ""
    """Name of the pipeline's file, without its folder."""
    status: Literal["running", "interrupted", "finished", "failed"] = "running"
    error: str = ""
    pipeline: dict[str, Any] = {}
    """The pipeline that is varied, as written, the search left out."""
    settings: dict[str, Any] = {}
    """The search block, defaults included."""
    space: dict[str, Any] = {}
    """What varies, components' own spaces filled in."""
    objectives: list[Objective] = []
    engine: str = ""
    """``local``, or ``ray`` with the number of workers."""
    trials: dict[str, int] = {}
    """Number of trials by state."""
    best: int | None = None
    """Number of the best trial."""
    front: list[int] = []
    """Trials that no other beats in every objective."""
    importance: dict[str, float] = {}
    """Share of the metric's variation that each setting explains."""
    test: dict[str, Any] = {}
    """The run of ``best.yaml``, and its metrics on test users."""
    seconds: float = 0.0
    """Wall time, earlier sittings included; starting Ray and the last run left out."""
    startup_seconds: float = 0.0
    """Time until Ray's workers were there."""
    environment: dict[str, Any] = {}


@dataclass(frozen=True)
class SearchFolder:
    """The folder of one search.

    Attributes:
        path: ``runs/<pipeline>-search-<key>``.
    """

    path: Path

    @property
    def exists(self) -> bool:
        return (self.path / SEARCH_FILE).is_file()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from working on the same search.

        Raises:
            ArtifactError: If one does.
        """
        with try_lock(self.path / ".lock") as is_free:
            if not is_free:
                raise ArtifactError(
                    f"another process works on {self.path}, or its folder cannot be written",
                    hint="Wait for it, or search with another seed: search.seed=1.",
                )
            yield

    def manifest(self) -> SearchManifest:
        """Reads ``search.json``.

        Raises:
            ArtifactError: If it is missing or damaged.
        """
        return read_document(self.path / SEARCH_FILE, SearchManifest)

    def write(self, manifest: SearchManifest) -> None:
        """Writes ``search.json``.

        Raises:
            ArtifactError: If it cannot be written.
        """
        write_document(self.path / SEARCH_FILE, manifest)

    def trials(self) -> list[TrialRecord]:
        """Reads all trials that ended, by number.

        A last line without its end, of a process that was killed while it wrote, is left out.

        Raises:
            ArtifactError: If another line is damaged.
        """
        path = self.path / TRIALS_FILE
        if not path.exists():
            return []
        with storage_errors(path, action="read"):
            *lines, _ = path.read_bytes().split(b"\n")
        found: dict[int, TrialRecord] = {}
        for number, line in enumerate(lines, start=1):
            try:
                record = TrialRecord.model_validate_json(line)
            except ValidationError as error:
                raise ArtifactError(
                    f"cannot read {path}, line {number}: {error.errors()[0]['msg']}",
                    hint="Remove the line; its trial is then run again if its turn comes.",
                ) from error
            found[record.number] = record
        return [found[number] for number in sorted(found)]

    def add(self, record: TrialRecord) -> None:
        """Adds the line of a trial that ended.

        Raises:
            ArtifactError: If it cannot be written.
        """
        path = self.path / TRIALS_FILE
        line = json.dumps(record.model_dump(mode="json"), ensure_ascii=False, allow_nan=False)
        with storage_errors(path), path.open("ab+") as file:
            if file.tell() and not _ends_a_line(file):
                _drop_partial_line(file)
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def running(self) -> dict[int, dict[str, Any]]:
        """Returns the settings of trials that had begun and not ended, by number."""
        path = self.path / RUNNING_FILE
        found = read_json(path) if path.exists() else {}
        return {int(number): values for number, values in found.items()}

    def write_running(self, trials: Mapping[int, Mapping[str, Any]]) -> None:
        """Notes which trials run."""
        write_json(self.path / RUNNING_FILE, {str(n): values for n, values in trials.items()})

    def files(self) -> Sequence[Path]:
        """Returns what ``best.yaml`` and the front are, if they are there."""
        return sorted([*self.path.glob(BEST_FILE), *self.path.glob(f"{FRONT_FOLDER}/*.yaml")])


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _drop_partial_line(file: Any) -> None:
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
