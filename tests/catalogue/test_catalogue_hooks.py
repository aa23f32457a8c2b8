from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.errors import ConfigError, PluginError
from dynmm_framework.hookspecs import hookimpl


class Observer:
    def __init__(self, seen: list[Any], error: BaseException | None = None) -> None:
        self.seen, self.error = seen, error

    @hookimpl
    def dynmm_run_started(self, run: str) -> None:
        if self.error:
            raise self.error
        self.seen.append(run)


def test_every_observer_is_told_though_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    catalogue, seen = Catalogue(), []
    catalogue.register(Observer(seen), name="one")
    catalogue.register(Observer(seen, ValueError("no")), name="two", distribution="acme")
    catalogue.register(Observer(seen), name="three")
    with caplog.at_level(logging.WARNING, logger="dynmm"):
        catalogue.notify("dynmm_run_started", run="r1", pipeline={})
    assert seen == ["r1", "r1"]
    (record,) = caplog.records
    assert record.name == "dynmm"
    assert record.message.startswith("dynmm_run_started of plugin two of acme==0: ValueError: no (")


def test_an_interruption_in_an_observer_is_not_swallowed() -> None:
    catalogue = Catalogue()
    catalogue.register(Observer([], KeyboardInterrupt()), name="one")
    with pytest.raises(KeyboardInterrupt):
        catalogue.notify("dynmm_run_started", run="r1", pipeline={})


class Fetcher:
    def __init__(self, answer: Path | Exception | None) -> None:
        self.answer = answer

    @hookimpl
    def dynmm_fetch_artifact(self, uri: str) -> Path | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_first_answer_wins_and_the_last_registered_is_asked_first() -> None:
    catalogue = Catalogue()
    arguments = {"uri": "s3://x", "dest": Path("d"), "sha256": ""}
    assert catalogue.first("dynmm_fetch_artifact", **arguments) is None
    catalogue.register(Fetcher(Path("early")), name="early")
    catalogue.register(Fetcher(Path("late")), name="late")
    catalogue.register(Fetcher(None), name="none")
    assert catalogue.first("dynmm_fetch_artifact", **arguments) == Path("late")


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (ConfigError("bad option"), ConfigError, "^bad option$"),
        (
            OSError("gone"),
            PluginError,
            "dynmm_fetch_artifact of plugin s3 of acme==0: OSError: gone",
        ),
    ],
)
def test_an_error_ends_the_question(error: Exception, expected: type[Exception], text: str) -> None:
    catalogue = Catalogue()
    catalogue.register(Fetcher(Path("x")), name="never asked")
    catalogue.register(Fetcher(error), name="s3", distribution="acme")
    with pytest.raises(expected, match=text):
        catalogue.first("dynmm_fetch_artifact", uri="", dest=Path(), sha256="")


def test_folders_of_records_are_gathered_and_missing_ones_skipped(tmp_path: Path) -> None:
    class Plugin:
        @hookimpl
        def dynmm_register_records(self) -> list[Path]:
            return [tmp_path / "gone", tmp_path]

    catalogue = Catalogue()
    status = catalogue.register(Plugin(), name="records")
    assert (status.status, status.reason) == (
        "ok",
        f"no such folder of records: {tmp_path / 'gone'}",
    )
    assert catalogue.record_folders() == (tmp_path,)


# Commands.


class LazyGroup(click.Group):
    """Like the root group of ``dynmm``, which knows commands that it has not imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["run", *super().list_commands(ctx)]


class Commands:
    def __init__(self, add: Callable[[click.Group], None]) -> None:
        self.add = add

    @hookimpl
    def dynmm_register_commands(self, cli: click.Group) -> None:
        self.add(cli)


def adds(*names: str) -> Commands:
    return Commands(lambda cli: [cli.add_command(click.Command(n)) for n in names] and None)


def fails(cli: click.Group) -> None:
    cli.add_command(click.Command("half"))
    raise RuntimeError("no")


@pytest.fixture
def cli() -> click.Group:
    return LazyGroup("dynmm", commands={"plugins": click.Command("plugins")})


def test_plugins_add_commands(cli: click.Group) -> None:
    catalogue = Catalogue()
    catalogue.register(adds("serve", "demo"), name="one")
    catalogue.add_commands(cli)
    assert sorted(cli.commands) == ["demo", "plugins", "serve"]
    assert catalogue.plugins[0].reason == ""


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (adds("extra", "plugins"), "it may not replace the command plugins"),
        (adds("extra", "run"), "it may not replace the command run"),
        (Commands(lambda cli: cli.commands.clear()), "it may not replace the command plugins"),
        (Commands(fails), "RuntimeError: no ("),
    ],
)
def test_commands_of_a_plugin_that_misbehaves_are_taken_back(
    cli: click.Group, plugin: Commands, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = cli.commands["plugins"]
    catalogue = Catalogue()
    catalogue.register(plugin, name="bad", distribution="acme")
    catalogue.register(adds("serve"), name="good")
    catalogue.add_commands(cli)
    assert sorted(cli.commands) == ["plugins", "serve"]
    assert cli.commands["plugins"] is before
    bad, good = catalogue.plugins
    assert bad.status == "ok"  # its components still stand
    assert bad.reason.startswith(f"its commands are left out: {reason}")
    assert good.reason == ""
    assert f"plugin bad of acme==0: its commands are left out: {reason}" in caplog.text


def test_two_plugins_cannot_add_one_command(cli: click.Group) -> None:
    catalogue = Catalogue()
    catalogue.register(adds("serve"), name="first")
    catalogue.register(adds("serve"), name="second")
    catalogue.add_commands(cli)
    first, second = catalogue.plugins
    assert first.reason == ""
    assert second.reason == "its commands are left out: it may not replace the command serve"


def test_strict_refuses_bad_commands(cli: click.Group) -> None:
    catalogue = Catalogue(strict=True)
    catalogue.register(adds("run"), name="bad")
    with pytest.raises(PluginError, match="plugin bad of local==0: its commands are left out"):
        catalogue.add_commands(cli)
