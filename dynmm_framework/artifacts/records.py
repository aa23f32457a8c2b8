"""The registry: all records of the installed plugins, checked as they are read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dynmm_framework.artifacts.record_types import (
    PIPELINE_SUFFIXES,
    RECORD_KINDS,
    RECORD_TYPES,
    ComponentRecord,
    DatasetRecord,
    FilesRecord,
    ModelRecord,
    PipelineRecord,
    Record,
    RecordKind,
)
from dynmm_framework.config.yaml import Document, parse
from dynmm_framework.errors import ArtifactError, ConfigError, Problem
from dynmm_framework.specs import did_you_mean, fold

__all__ = [
    "RECORD_KINDS",
    "ComponentRecord",
    "DatasetRecord",
    "FilesRecord",
    "ModelRecord",
    "PipelineRecord",
    "Record",
    "RecordKind",
    "Registry",
]

AnyRecord = TypeVar("AnyRecord", DatasetRecord, ModelRecord, ComponentRecord, PipelineRecord)
_HINT = "Correct the record, or remove the plugin that ships it."
_logger = logging.getLogger("dynmm")


class Registry:
    """Records by kind and name. Built by :meth:`load`.

    Attributes:
        problems: What is wrong with records that were left out; empty after a strict load.
    """

    def __init__(
        self, entries: Mapping[tuple[str, str], tuple[Record, Path]], problems: Sequence[Problem]
    ) -> None:
        self._entries = dict(entries)
        self.problems = tuple(problems)

    @classmethod
    def load(cls, folders: Iterable[Path], *, strict: bool = True) -> Registry:
        """Reads every ``*.yaml`` file under the folders, in the order of their paths.

        Pipelines, ``*.pipeline.yaml``, are left to the records that name them. A folder that does
        not exist is skipped with a warning.

        Args:
            folders: Where to look, as the catalogue's ``record_folders()`` names them.
            strict: Whether a wrong record is an error; otherwise it is left out and its problems
                are kept, so that one plugin's mistake does not hide everyone's records.

        Raises:
            ConfigError: All problems of all records at once, with file and line, and every
                record that two files define.
        """
        entries: dict[tuple[str, str], tuple[Record, Path]] = {}
        problems: list[Problem] = []
        for path in _files(folders):
            record = _read(path, problems)
            if record is None:
                continue
            key = (record.kind, fold(record.name))
            if key in entries:
                other = entries[key][1]
                message = f"{record.kind} {record.name!r} is already defined in {other}"
                problems.append(Problem(message, file=str(path), path="name"))
                continue
            entries[key] = (record, path)
        if strict and problems:
            raise ConfigError(problems, hint=_HINT)
        return cls(entries, problems)

    def records(self, kind: RecordKind | None = None) -> tuple[Record, ...]:
        """Returns all records, or those of a kind, by kind and name."""
        order = {name: index for index, name in enumerate(RECORD_KINDS)}
        found = (record for record, _ in self._entries.values() if kind in (None, record.kind))
        return tuple(sorted(found, key=lambda record: (order[record.kind], record.name)))

    def get(self, kind: RecordKind, name: str) -> Record | None:
        """Returns a record, or ``None``."""
        entry = self._entries.get((kind, fold(name)))
        return entry[0] if entry else None

    def path(self, record: Record) -> Path:
        """Returns the file that a record was read from."""
        return self._entries[(record.kind, fold(record.name))][1]

    def find(self, name: str, kinds: RecordKind | Sequence[RecordKind] = RECORD_KINDS) -> Record:
        """Returns the record of a name.

        Args:
            name: The name, or ``kind/name``.
            kinds: Where to look.

        Raises:
            ArtifactError: If there is none, with the closest match and all names; or if several
                kinds have one.
        """
        wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        prefix, _, rest = name.rpartition("/")
        if prefix in wanted:
            wanted, name = tuple(kind for kind in wanted if kind == prefix), rest
        found = [record for kind in wanted if (record := self.get(kind, name)) is not None]
        if len(found) == 1:
            return found[0]
        if found:
            choices = " or ".join(f"{record.kind}/{record.name}" for record in found)
            raise ArtifactError(
                f"{name!r} is the name of {len(found)} records", hint=f"Write {choices}."
            )
        raise self._unknown(name, wanted)

    def find_files(self, name: str) -> FilesRecord:
        """Returns the record of a dataset or a model.

        Raises:
            ArtifactError: As :meth:`find`.
        """
        record = self.find(name, ("dataset", "model"))
        assert isinstance(record, DatasetRecord | ModelRecord)  # the kinds asked for
        return record

    def pipeline_file(self, name: str) -> Path:
        """Returns the YAML file of a pipeline's record.

        Raises:
            ArtifactError: As :meth:`find`.
        """
        record = self.find(name, "pipeline")
        assert isinstance(record, PipelineRecord)  # the kind asked for
        return self.path(record).parent / record.file

    def install_hint(self, name: str) -> str | None:
        """Returns the command that installs a component of that name, if a record knows it."""
        record = self.get("component", name.rpartition("/")[2])
        return record.install_command if isinstance(record, ComponentRecord) else None

    def _unknown(self, name: str, kinds: Sequence[str]) -> ArtifactError:
        names = sorted({record.name for record in self.records() if record.kind in kinds})
        what = " or ".join(kinds) if len(kinds) < len(RECORD_KINDS) else "record"
        message = f"the registry has no {what} {name!r}{did_you_mean(fold(name), names)}"
        hint = f"It has: {', '.join(names)}." if names else "No plugin provides such records."
        for problem in self.problems:
            hint += f"\n  A record was left out: {problem}"
        return ArtifactError(message, hint=hint)


def _files(folders: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            _logger.warning("the folder of registry records %s does not exist; skipped", folder)
            continue
        for path in sorted((*folder.rglob("*.yaml"), *folder.rglob("*.yml"))):
            if not path.name.endswith(PIPELINE_SUFFIXES):
                found[path] = None
    return list(found)


def _read(path: Path, problems: list[Problem]) -> Record | None:
    try:
        document = parse(path)
    except ConfigError as error:
        problems.extend(error.problems)
        return None
    data: Any = document.data
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind not in RECORD_TYPES:
        reason = f"must be one of: {', '.join(RECORD_KINDS)}"
        message = f"{reason}; it is {kind!r}" if kind is not None else f"is missing; it {reason}"
        line = document.line(("kind",)) or 1
        problems.append(Problem(message, file=str(path), line=line, path="kind"))
        return None
    model = RECORD_TYPES[kind]
    version = data.get("version")
    if isinstance(version, int) and version > 1:
        message = f"is {version}, and this installation reads 1; upgrade dynmm-framework"
        line = document.line(("version",)) or 1
        problems.append(Problem(message, file=str(path), line=line, path="version"))
        return None
    try:
        record = model.model_validate(data)
    except ValidationError as error:
        found = (_problem(document, path, model, entry) for entry in error.errors())
        problems.extend(sorted(found, key=lambda problem: problem.line))
        return None
    if isinstance(record, PipelineRecord) and not (path.parent / record.file).is_file():
        names = [file.name for file in path.parent.iterdir()]
        message = f"there is no {record.file} beside it{did_you_mean(record.file, names)}"
        line = document.line(("file",))
        problems.append(Problem(message, file=str(path), line=line, path="file"))
        return None
    return record


def _problem(document: Document, path: Path, model: type[BaseModel], entry: Any) -> Problem:
    """Places one of pydantic's findings, whose location also names the kind of a source."""
    here: Any = document.data
    place: list[str | int] = []
    for part in entry["loc"]:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            if entry["type"] != "missing" or part != entry["loc"][-1]:
                continue
        place.append(part)
    return Problem(
        _message(entry, model),
        file=str(path),
        line=document.line(tuple(place)) or 1,
        path=".".join(map(str, place)),
    )


def _message(entry: Any, model: type[BaseModel]) -> str:
    if entry["type"] == "missing":
        return "is missing"
    if entry["type"] == "extra_forbidden":
        names = list(model.model_fields) if len(entry["loc"]) == 1 else []
        return f"unknown field{did_you_mean(str(entry['loc'][-1]), names)}"
    return str(entry["msg"]).removeprefix("Value error, ")
