"""Answers that were given once, kept on disk by what was asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.errors import ArtifactError
from dynmm_framework.language.conversation import Completion

SCHEMA_VERSION = 2


class Answers:
    """A folder of answers, one file each, named by the SHA-256 of the question.

    Files are written atomically, so that several processes may share the folder; one that is
    damaged counts as missing. Keys are no part of a question, and never in a file.

    Args:
        folder: Where they lie; nothing is kept if ``None``.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def find(self, question: Mapping[str, Any]) -> Completion | None:
        """Returns the answer to a question, if it is known."""
        if self.folder is None:
            return None
        path = self._path(question)
        if not path.is_file():
            return None
        try:
            found = read_json(path)
            if found["schema_version"] != SCHEMA_VERSION or found["question"] != dict(question):
                return None
            pairs = found["logprobs"]
            told = None if pairs is None else tuple((str(t), float(value)) for t, value in pairs)
            return Completion(str(found["text"]), told, cut=bool(found["cut"]))
        except (ArtifactError, LookupError, TypeError, ValueError):
            return None

    def keep(self, question: Mapping[str, Any], completion: Completion) -> None:
        """Keeps an answer.

        Raises:
            ArtifactError: If it cannot be written.
        """
        if self.folder is None:
            return
        path = self._path(question)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "schema_version": SCHEMA_VERSION,
            "question": dict(question),
            "text": completion.text,
            "logprobs": completion.logprobs,
            "cut": completion.cut,
        }
        write_json(path, document)

    def _path(self, question: Mapping[str, Any]) -> Path:
        assert self.folder is not None  # asked only where answers are kept
        text = json.dumps(question, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.json"
