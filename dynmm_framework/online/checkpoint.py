"""Checkpoints of a stream: one file that is there whole or not at all.

The state holds the number of events that it has taken in (the offset, of skipped ones too), and is
written in one rename. Whoever feeds the stream again after a kill leaves out as many: then nothing
is lost and nothing counted twice, and as everything that is drawn depends on the seed and on
numbers within the state, the stream goes on exactly as it would have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dynmm_framework.artifacts.arrays import load_arrays, read_metadata, save_arrays
from dynmm_framework.errors import ArtifactError
from dynmm_framework.online.memory import below
from dynmm_framework.online.reports import WindowReport
from dynmm_framework.online.session import Session

SCHEMA_VERSION = 4
_SESSION, _MORE = "session", "more"


def save_session(
    path: Path | str,
    session: Session,
    *,
    identity: str = "",
    more: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Writes a session's state atomically.

    Args:
        path: Destination, ``*.safetensors``.
        session: The session.
        identity: What else must be the same when it is restored, such as the run's id.
        more: Further arrays to store, which :func:`load_session` returns.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    reports = json.dumps([asdict(report) for report in session.reports])
    save_arrays(
        path,
        {
            **{f"{_SESSION}.{name}": array for name, array in session.get_state().items()},
            **{f"{_MORE}.{name}": array for name, array in (more or {}).items()},
        },
        metadata={
            "schema_version": str(SCHEMA_VERSION),
            "identity": _identity(session, identity),
            "offset": str(session.offset),
            "reports": reports,
        },
    )


def load_session(
    path: Path | str, session: Session, *, identity: str = ""
) -> dict[str, NDArray[Any]]:
    """Restores a session that was made alike.

    Args:
        path: A file of :func:`save_session`.
        session: A session with the same base, settings and strategies; it need not have begun.
        identity: As it was when saved.

    Returns:
        The further arrays that were stored. ``session.offset`` tells how many events of the
        stream it has taken in already.

    Raises:
        ArtifactError: If the file is missing or damaged, of a newer version, or belongs to another
            base, other settings or other strategies.
    """
    metadata = read_metadata(path)
    version = metadata.get("schema_version", "")
    if version != str(SCHEMA_VERSION):
        raise ArtifactError(
            f"{path} is a checkpoint of version {version or 'unknown'}, this is version"
            f" {SCHEMA_VERSION}",
            hint="Go on with the version of dynmm that wrote it, or begin the stream again.",
        )
    if metadata.get("identity") != _identity(session, identity):
        raise ArtifactError(
            f"{path} belongs to another stream: its base, its settings or what it is compared"
            " with are different",
            hint="Give the same run and the same settings, or another folder for the checkpoint.",
        )
    arrays = load_arrays(path)
    session.load_state(below(arrays, _SESSION))
    session.reports.clear()
    session.reports.extend(_reports(json.loads(metadata["reports"])))
    return below(arrays, _MORE)


def _identity(session: Session, more: str) -> str:
    parts = {
        "base": session.base.digest(),
        "config": session.config.model_dump(mode="json"),
        "strategies": list(session.strategies),
        "more": more,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _reports(records: Iterable[dict[str, Any]]) -> Iterable[WindowReport]:
    return (WindowReport(**record) for record in records)
