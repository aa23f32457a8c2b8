"""Versioned JSON documents: what a stage stored and how a run came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.artifacts.digests import FileDigest, FileName
from dynmm_framework.artifacts.environment import collect_environment
from dynmm_framework.errors import ArtifactError

__all__ = [
    "Migration",
    "NewerVersionError",
    "PluginEntry",
    "RunManifest",
    "StageEntry",
    "StageManifest",
    "StoredFile",
    "VersionedDocument",
    "collect_environment",
    "now",
    "read_document",
    "write_document",
]

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the data of one ``schema_version`` into that of the next."""


class NewerVersionError(ArtifactError):
    """A file was written by a newer version of the framework; it is whole, and is left alone."""


class _Stored(BaseModel):
    # Unknown fields are dropped: an optional field may be added without a new schema_version.
    model_config = ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, protected_namespaces=()
    )


class VersionedDocument(_Stored):
    """Base of documents that carry a ``schema_version``.

    A subclass declares the version that it writes, and one migration for every older one.
    """

    VERSION: ClassVar[int] = 1
    MIGRATIONS: ClassVar[Mapping[int, Migration]] = {}

    schema_version: int = 0
    """Version of this format; set when written."""

    def model_post_init(self, context: Any, /) -> None:
        """Stamps the version."""
        object.__setattr__(self, "schema_version", type(self).VERSION)


Document = TypeVar("Document", bound=VersionedDocument)


class StoredFile(FileDigest):
    """Size and digest of a file in a stage's folder."""

    model_config = ConfigDict(extra="ignore")


class StageManifest(VersionedDocument):
    """``stage.json``: what a finished stage stored. A stage without it is not finished."""

    stage: str
    """Name, such as ``fit/sasrec/seed-7``."""
    key: str
    """Content key: a digest of everything that the stage's result depends on."""
    created: datetime
    """When it was finished, UTC."""
    seconds: float
    """Wall time of the computation."""
    files: dict[FileName, StoredFile] = {}
    """Every file of the folder but this one."""
    meta: dict[str, Any] = {}
    """Notes of the stage itself, such as counts and its training log."""


class StageEntry(_Stored):
    """A stage of a run, in order of completion."""

    name: str
    key: str
    cached: bool
    """Whether it was found finished and skipped."""
    seconds: float
    """Wall time; of the original computation if cached."""
    libraries: dict[str, str] = {}
    """Versions it was computed with, which need not be today's if it was cached."""


class PluginEntry(_Stored):
    """A plugin that was present, working or not."""

    name: str
    provider: str
    """``distribution==version``."""
    status: str = "ok"
    reason: str = ""
    """Why it is not ``ok``."""


class RunManifest(VersionedDocument):
    """``manifest.json``: how a run came about, complete enough to repeat it."""

    run: str
    """Id, also the name of its folder."""
    created: datetime
    """When it was started, UTC."""
    status: Literal["running", "finished", "failed"] = "running"
    error: str = ""
    """Why it failed."""
    pipeline: dict[str, Any] = {}
    """Resolved configuration, defaults included."""
    overrides: list[str] = []
    """Dotted overrides, as given."""
    source: str = ""
    """Name of the pipeline's file, without its folder."""
    components: dict[str, str] = {}
    """By label: ``distribution==version/name``."""
    plugins: list[PluginEntry] = []
    seeds: list[int] = []
    environment: dict[str, Any] = {}
    """See :func:`collect_environment`."""
    devices: list[str] = []
    """Devices used, as torch names them."""
    stages: list[StageEntry] = []
    timings: dict[str, float] = {}
    """Seconds by what they were spent on; ``total`` is the wall time of the run."""
    peak_memory_bytes: dict[str, Annotated[int, Field(ge=0)]] = {}
    """``rss`` of the process and, with a GPU, its ``gpu``."""
    split_hash: str = ""
    candidate_hashes: dict[str, str] = {}
    """Of what is ranked, by protocol, such as ``sampled:100`` or ``cold:1``."""
    data_fingerprint: str = ""
    files: dict[FileName, StoredFile] = {}
    """What the run wrote, this document and the report excepted."""


def now() -> datetime:
    """Returns the present time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def write_document(path: Path | str, document: VersionedDocument) -> None:
    """Writes a document atomically.

    Raises:
        ArtifactError: If it cannot be written.
    """
    # Validating again checks model_copy(update=...), which pydantic takes on trust.
    checked = type(document).model_validate(document.model_dump())
    write_json(path, checked.model_dump())


def read_document(path: Path | str, model: type[Document]) -> Document:
    """Reads a document, migrating it from an older version if need be.

    Args:
        path: The file.
        model: What it holds.

    Raises:
        NewerVersionError: If a newer version of the framework wrote it.
        ArtifactError: If it is missing, damaged, or of a version too old to be migrated.
    """
    path = Path(path)
    data = read_json(path)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _damaged(path, "it has no schema_version")
    if version > model.VERSION:
        raise NewerVersionError(
            f"cannot read {path}: its schema_version is {version}, and this installation reads "
            f"up to {model.VERSION}",
            hint="A newer version of dynmm-framework wrote it; upgrade, or use another folder.",
        )
    while version < model.VERSION:
        if version not in model.MIGRATIONS:
            raise ArtifactError(
                f"cannot read {path}: its schema_version {version} is no longer supported",
                hint="Run again to write it anew.",
            )
        try:
            data = model.MIGRATIONS[version](data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, f"migrating it from version {version}: {error!r}") from error
        version += 1
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()
        )
        raise _damaged(path, details) from error


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"cannot read {path}: {reason}",
        hint="The file is damaged; restore it, or remove it and run again.",
    )
