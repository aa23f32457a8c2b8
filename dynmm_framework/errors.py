"""Errors that a user can act on.

Every message names the thing, the place, the reason and the next step. The command line prints
it in one block, without a traceback, and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class DynmmError(Exception):
    """Base of every error that the framework raises on purpose.

    Args:
        message: What is wrong, where and why, in one sentence.
        hint: What the reader can do next; shown on a line of its own.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a user's file, precise enough to jump to.

    Attributes:
        message: What is wrong, including the suggestion if there is one.
        file: The file as the user named it; empty if there is none.
        line: Line number from 1; 0 if unknown.
        path: Dotted path inside the file, such as ``backbone.config.hidden_size``.
    """

    message: str
    file: str = ""
    line: int = 0
    path: str = ""

    def __str__(self) -> str:
        place = ":".join(part for part in (self.file, str(self.line or "")) if part)
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ProblemsError(DynmmError):
    """An error made of several problems, all reported at once.

    Args:
        problems: At least one problem, in the order in which to print them.
        hint: What the reader can do next.
    """

    def __init__(self, problems: Iterable[Problem] | str, *, hint: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem(problems)]
        self.problems: Sequence[Problem] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class ConfigError(ProblemsError):
    """A pipeline, an override or a component's configuration is wrong."""


class DataError(ProblemsError):
    """A dataset is missing, malformed or too small for what was asked of it."""


class PluginError(DynmmError):
    """A plugin or a component cannot be found, loaded or told apart from another."""


class ArtifactError(DynmmError):
    """A stored file is missing, corrupt, of a newer version, or cannot be written or fetched."""


class StageError(DynmmError):
    """A stage of a run failed for a reason found in its computation, such as a NaN loss."""


class StoppedError(DynmmError):
    """A stage was ended early on purpose: a search stops a trial that is behind, or out of time."""


class LegFinishedError(StoppedError):
    """A leg of a training is done, and its checkpoint kept: the next leg goes on from it."""
