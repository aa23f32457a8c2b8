"""Commands that start fast: loaded when used, and drawn with rich only on a terminal."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import rich_click

CONTEXT_SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "rich_help_config": {"max_width": 100},
}


@dataclass(frozen=True)
class Entry:
    """What the root's help says about a command without importing it.

    Attributes:
        module: Module of :mod:`dynmm_framework.cli` that defines ``command``.
        summary: First sentence of the command's help; a test keeps the two equal.
        section: Heading under which the command is listed.
    """

    module: str
    summary: str
    section: str


def _draws_panels() -> bool:
    """Whether help is worth rich's start-up time: only where a person sees its colours."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _plain_help(command: click.Command, ctx: click.Context) -> str:
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100
    formatter = click.HelpFormatter(width=width, max_width=CONTEXT_SETTINGS["max_content_width"])
    click.Command.format_usage(command, ctx, formatter)
    click.Command.format_help_text(command, ctx, formatter)
    options = [
        record
        for param in command.get_params(ctx)
        if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None
    ]
    if options:
        with formatter.section("Options"):
            formatter.write_dl(options)
    if isinstance(command, click.Group):
        for section, names in sections(command, ctx).items():
            rows = [(name, _summary(command, ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl(rows)
    if examples := getattr(command, "examples", ()):
        with formatter.section("Examples"):
            formatter.write(
                "".join(f"{'':{formatter.current_indent}}{line}\n" for line in examples)
            )
    return formatter.getvalue().rstrip("\n")


def _summary(group: click.Group, ctx: click.Context, name: str) -> str:
    command = group.get_command(ctx, name)
    return command.get_short_help_str(200) if command is not None else ""


def sections(group: click.Group, ctx: click.Context) -> dict[str, list[str]]:
    """Returns the names of a group's visible commands by heading, in the order of listing."""
    found: dict[str, list[str]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            section = getattr(command, "section", "") or (
                "Plugins" if isinstance(group, LazyGroup) else "Commands"
            )
            found.setdefault(section, []).append(name)
    return found


def _common_options() -> list[click.Option]:
    """Root options that every command accepts too, because people append them."""

    def louder(ctx: click.Context, _: click.Parameter, value: int) -> None:
        if value:
            ctx.obj.verbosity += value

    def quieter(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.obj.verbosity = -1

    def debugging(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.obj.debug = True

    def option(*names: str, callback: Any, **settings: Any) -> click.Option:
        return click.Option(names, callback=callback, expose_value=False, is_eager=True, **settings)

    return [
        option(
            "-q", "--quiet", callback=quieter, is_flag=True, help="Show results and errors only."
        ),
        option(
            "-v",
            "--verbose",
            callback=louder,
            count=True,
            metavar="",
            help="Show more; -vv even more.",
        ),
        option(
            "--debug",
            callback=debugging,
            is_flag=True,
            help="Show tracebacks. The same: DYNMM_DEBUG=1.",
        ),
    ]


class Command(rich_click.RichCommand):
    """A command with examples and the root's options.

    Args:
        examples: Command lines shown at the end of the help; required of our own commands.
    """

    section = ""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        self.examples = tuple(examples)
        kwargs["context_settings"] = {**CONTEXT_SETTINGS, **kwargs.get("context_settings", {})}
        super().__init__(*args, **kwargs)
        for option in _common_options():
            taken = {name for param in self.params for name in param.opts}
            if not taken.intersection(option.opts):
                option.hidden = True
                self.params.append(option)

    def get_help(self, ctx: click.Context) -> str:
        return super().get_help(ctx) if _draws_panels() else _plain_help(self, ctx)

    def get_usage(self, ctx: click.Context) -> str:
        formatter = click.HelpFormatter(width=CONTEXT_SETTINGS["max_content_width"])
        click.Command.format_usage(self, ctx, formatter)
        return formatter.getvalue().rstrip("\n")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Draws the examples; only rich-click comes here."""
        if self.examples:
            from rich.panel import Panel
            from rich.text import Text

            lines = Text("\n".join(self.examples))
            formatter.write(Panel(lines, title="Examples", title_align="left", border_style="dim"))


class Group(Command, rich_click.RichGroup):  # type: ignore[misc]  # as RichGroup itself
    """A group of :class:`Command`; a misspelt name is answered with the closest one."""

    command_class = Command
    group_class = type

    def get_help(self, ctx: click.Context) -> str:
        if not _draws_panels():
            return _plain_help(self, ctx)
        # Panels are made per context: a plugin's commands are not known before it.
        for section, names in sections(self, ctx).items():
            self.add_panel(rich_click.RichCommandPanel(section, commands=names))
        return super().get_help(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = str(args[0])
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and name[:1] != "-":
            from dynmm_framework.specs import did_you_mean

            names = self.list_commands(ctx)
            guess = did_you_mean(name, names)
            message = f"no such command: {name!r}{guess}"
            if not guess:
                message += f"; the commands are {', '.join(names)}"
            raise click.UsageError(message, ctx=ctx)
        return super().resolve_command(ctx, args)


class LazyCommand(Command):
    """Stands for a command whose module is imported when the command is invoked.

    Args:
        name: The command's name.
        entry: What is known without the import.
    """

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.summary)
        self.entry = entry
        self.section = entry.section

    def load(self) -> click.Command:
        """Imports the module and returns the command itself."""
        command = importlib.import_module(self.entry.module).command
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        return self.load().make_context(info_name, args, parent=parent, **extra)


class LazyGroup(Group):
    """The root: knows its own commands by a static table, and plugins' commands when it must.

    Args:
        entries: The built-in commands, in the order of listing.
    """

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plugged = False
        for name, entry in entries.items():
            self.add_command(LazyCommand(name, entry))

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._plug(ctx)
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands:
            self._plug(ctx)
        return self.commands.get(cmd_name)

    def _plug(self, ctx: click.Context) -> None:
        """Lets plugins add their commands, once; what is built in is found without them."""
        if not self._plugged:
            self._plugged = True
            ctx.find_root().obj.catalogue.add_commands(self)
