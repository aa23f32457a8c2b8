"""``dynmm validate``: every problem of a pipeline, one a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynmm_framework.cli.arguments import json_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.guard import OK, USER_ERROR
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.errors import Problem


@click.command(
    cls=Command,
    examples=(
        "dynmm validate pipeline.yaml",
        "dynmm validate examples/*.yaml",
        "dynmm validate pipeline.yaml backbone.config.hidden_size=128",
    ),
)
@click.argument("words", nargs=-1, required=True, metavar="PIPELINE.yaml... [KEY=VALUE]...")
@json_option
@click.pass_obj
def command(invocation: Invocation, words: tuple[str, ...], as_json: bool) -> int:
    """Checks pipelines without running them.

    Prints one line for each problem, with file, line, path and suggestion, and exits with code 2
    if there is any. Nothing is imported, fetched or written.
    """
    overrides = tuple(word for word in words if "=" in word and not Path(word).exists())
    files = [word for word in words if word not in overrides]
    if not files:
        raise click.UsageError("no pipeline given, only overrides")
    findings = {file: _problems(invocation, file, overrides) for file in files}
    if as_json:
        invocation.json(
            [
                {
                    "file": file,
                    "ok": not problems,
                    "problems": [
                        {
                            "file": problem.file,
                            "line": problem.line or None,
                            "path": problem.path,
                            "message": problem.message,
                        }
                        for problem in problems
                    ],
                }
                for file, problems in findings.items()
            ]
        )
    else:
        for file, problems in findings.items():
            for problem in problems:
                invocation.line(" ".join(str(problem).split()))
            if not problems:
                invocation.line(f"{file}: ok")
    return USER_ERROR if any(findings.values()) else OK


def _problems(invocation: Invocation, file: str, overrides: tuple[str, ...]) -> tuple[Problem, ...]:
    from dynmm_framework.config.load import load_pipeline
    from dynmm_framework.errors import DynmmError, Problem, ProblemsError

    try:
        load_pipeline(file, overrides=overrides, catalogue=invocation.catalogue)
    except ProblemsError as error:
        return tuple(error.problems)
    except DynmmError as error:
        return (Problem(str(error), file=file),)
    return ()
