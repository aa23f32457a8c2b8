"""The entry point ``dynmm``: the root group, its options and its table of commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from dynmm_framework.cli.command import Entry, LazyGroup
from dynmm_framework.cli.guard import guarded
from dynmm_framework.cli.invocation import Invocation

_HERE = "dynmm_framework.cli"

COMMANDS: Mapping[str, Entry] = {
    "run": Entry(f"{_HERE}.run", "Runs a pipeline and writes its report.", "Pipelines"),
    "validate": Entry(f"{_HERE}.validate", "Checks pipelines without running them.", "Pipelines"),
    "plan": Entry(f"{_HERE}.plan", "Shows what a run would compute.", "Pipelines"),
    "schema": Entry(f"{_HERE}.schema", "Prints the JSON schema of pipelines.", "Pipelines"),
    "tune": Entry(f"{_HERE}.tune", "Searches for better settings of a pipeline.", "Pipelines"),
    "report": Entry(f"{_HERE}.report", "Writes a run's report.html again.", "Runs"),
    "compare": Entry(f"{_HERE}.compare", "Compares runs, with significance.", "Runs"),
    "recommend": Entry(f"{_HERE}.recommend", "Recommends items with a run's model.", "Runs"),
    "explain": Entry(f"{_HERE}.explain", "Explains recommendations by their evidence.", "Runs"),
    "stream": Entry(f"{_HERE}.stream", "Plays a stream to a run's online adapter.", "Runs"),
    "vectors": Entry(f"{_HERE}.vectors", "Writes a run's item and user vectors.", "Runs"),
    "compress": Entry(
        f"{_HERE}.compress", "Measures what compression of item vectors saves and costs.", "Runs"
    ),
    "data": Entry(f"{_HERE}.data", "Lists, fetches, describes and checks datasets.", "Resources"),
    "registry": Entry(f"{_HERE}.registry", "Looks into the registry's records.", "Resources"),
    "artifact": Entry(f"{_HERE}.artifact", "Converts checkpoints to safetensors.", "Resources"),
    "plugins": Entry(f"{_HERE}.plugins", "Lists and checks what is installed.", "Resources"),
    "new": Entry(f"{_HERE}.new", "Starts a plugin of your own.", "Resources"),
    "doctor": Entry(f"{_HERE}.doctor", "Checks this installation.", "Resources"),
}
"""The built-in commands, in the order of listing."""

COMPLETE_VARIABLE = "_DYNMM_COMPLETE"


class Root(LazyGroup):
    """``dynmm`` itself: turns every exception into a message and an exit code."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        extra.setdefault("obj", Invocation())
        return super().make_context(info_name, args, parent=parent, **extra)

    def main(  # type: ignore[override]  # click's overloads promise what we do anyway
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        name = prog_name or "dynmm"
        if instruction := os.environ.get(COMPLETE_VARIABLE):
            from click.shell_completion import shell_complete

            sys.exit(shell_complete(self, {}, name, COMPLETE_VARIABLE, instruction))
        arguments = list(sys.argv[1:] if args is None else args)
        invocation = Invocation()

        def work() -> Any:
            with invocation.logging(), self.make_context(name, arguments, obj=invocation) as ctx:
                return self.invoke(ctx)

        sys.exit(guarded(work, invocation))


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"dynmm {version('dynmm-framework')}")
        ctx.exit()


def build_cli() -> Root:
    """Returns a new root group; plugins may add to it, so none is shared."""
    root = Root(
        name="dynmm",
        entries=COMMANDS,
        help="Trains, evaluates and compares recommenders from one YAML file.",
        examples=(
            "dynmm run examples/quickstart.yaml",
            "dynmm validate pipeline.yaml",
            "dynmm COMMAND --help",
        ),
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_version,
                help="Show the version and exit.",
            )
        ],
    )
    for option in root.params:  # here they are listed, elsewhere only accepted
        option.hidden = False  # type: ignore[attr-defined]
    return root


def main() -> None:
    """Runs ``dynmm`` with the process's arguments; always exits."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # titles hold what an ASCII terminal cannot
    build_cli().main()
