"""``dynmm plugins check``: the conformance kit on what is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynmm_framework.cli.arguments import json_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.guard import OK, USER_ERROR
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.specs import Component


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one component.

    Attributes:
        kind: The component's kind.
        component: Its name.
        check: What was checked: the name of the kit's test, in words.
        outcome: ``passed``, ``failed``, ``error`` (the component raised) or ``skipped``.
        reason: Why, and what to do about it.
        seconds: Time of the check.
    """

    kind: str
    component: str
    check: str
    outcome: str
    reason: str
    seconds: float


@click.command(
    cls=Command,
    examples=(
        "dynmm plugins check",
        "dynmm plugins check item_knn",
        "dynmm plugins check sasrec loss=ce epochs=10 learning_rate=0.01",
        "dynmm plugins check interaction_file path=events.csv --json",
    ),
)
@click.argument("name", required=False)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--kind", metavar="KIND", help="Only this kind, or which one NAME is of.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    settings: tuple[str, ...],
    kind: str | None,
    as_json: bool,
) -> int:
    """Runs the conformance kit on installed components.

    With NAME everything that holds for its kind, on generated data: it is trained, stored,
    restored, interrupted. KEY=VALUE are its settings. Without NAME, for all that is installed,
    registration and settings, which takes no training. Exits with code 2 if something fails.
    """
    if name is not None and "=" in name:
        raise click.UsageError(f"settings are those of a component: write NAME before {name}")
    chosen = _chosen(invocation, name, kind)
    if not chosen:
        invocation.line("there is nothing to check")
        return OK
    _require_pytest()
    whole = name is not None
    config = _config(invocation, chosen[0], settings) if whole else {}
    if whole:
        _announce(invocation, chosen[0])
    by_component = _run(invocation, chosen, config, whole=whole)
    findings = [finding for found in by_component for finding in found]
    if not as_json:
        for found in by_component:
            _show(invocation, found)
    broken = [] if whole else _broken(invocation)
    findings += broken
    if as_json:
        invocation.json([asdict(finding) for finding in findings])
    else:
        for finding in broken:
            invocation.line(f"plugin {finding.component}: {finding.reason}")
        counts = Counter(finding.outcome for finding in findings)
        invocation.line(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    bad = any(finding.outcome in ("failed", "error") for finding in findings)
    return USER_ERROR if bad else OK


def _chosen(invocation: Invocation, name: str | None, kind: str | None) -> Sequence[Component]:
    from dynmm_framework.specs import KINDS, did_you_mean

    kinds = [entry for entry in KINDS if kind in (None, entry)]
    if not kinds:
        guess = did_you_mean(str(kind), KINDS) or f"; there are {', '.join(KINDS)}"
        raise click.UsageError(f"no such kind: {kind!r}{guess}")
    if name is None:
        return [found for entry in kinds for found in invocation.catalogue.components(entry)]
    if any(spec.name == name for spec, _ in invocation.catalogue.metrics()):
        raise click.UsageError(f"{name} is a metric; there is no conformance class for metrics")
    return [invocation.catalogue.find(kinds, name)]


def _require_pytest() -> None:
    import importlib.util

    from dynmm_framework.errors import PluginError

    missing = [name for name in ("pytest", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        raise PluginError(
            f"the conformance kit needs {' and '.join(missing)}, not installed here",
            hint="pip install pytest 'dynmm-framework[torch]'",
        )


def _config(
    invocation: Invocation, component: Component, texts: Sequence[str]
) -> Mapping[str, Any]:
    """Returns the settings that were given, checked against the component's own model.

    Raises:
        ConfigError: With everything that is wrong with them.
    """
    from pydantic import ValidationError

    from dynmm_framework.config.merge import Settings, override
    from dynmm_framework.errors import ConfigError, Problem

    given = Settings({}, {})
    problems = override(given, texts)
    if not problems:
        try:
            invocation.catalogue.config_model(component).model_validate(given.data)
        except ValidationError as error:
            problems = [
                Problem(issue["msg"], path=".".join(map(str, issue["loc"])))
                for issue in error.errors(include_url=False)
            ]
    if problems:
        name = component.name
        hint = f"Give settings behind the name, as KEY=VALUE; see: dynmm plugins info {name}"
        raise ConfigError(problems, hint=hint)
    data: Mapping[str, Any] = given.data
    return data


def _announce(invocation: Invocation, component: Component) -> None:
    """Says what is checked.

    Raises:
        PluginError: If a library that the component needs is not installed.
    """
    from dynmm_framework.errors import PluginError

    if missing := invocation.catalogue.missing(component):
        extra = f"[{component.spec.extra}]" if component.spec.extra else ""
        raise PluginError(
            f"{component.kind} {component.name} needs {', '.join(missing)}, not installed here",
            hint=f"pip install '{component.provider.distribution}{extra}'",
        )
    invocation.note(f"checking {component.kind} {component.name} of {component.provider}")


def _run(
    invocation: Invocation,
    components: Sequence[Component],
    config: Mapping[str, Any],
    *,
    whole: bool,
) -> Sequence[Sequence[Finding]]:
    """Runs the components' tests in a process of their own; returns the findings of each.

    The command line does not import the kit: it needs pytest, which only authors have.

    Raises:
        PluginError: If pytest could not run them.
    """
    from dynmm_framework.errors import PluginError

    lines = ["from dynmm_framework.testing.installed import suite\n"]
    for number, component in enumerate(components):
        request = {
            "kind": component.kind,
            "component": f"{component.provider.distribution}/{component.name}",
            "slot": component.spec.slot or "",
            "reads_features": whole and component.kind == "encoder" and _reads(component),
            "config": dict(config),
            "whole": whole,
        }
        lines.append(f"Test{number} = suite(**{request!r})")
    with tempfile.TemporaryDirectory(prefix="dynmm-check-") as folder:
        findings, log = Path(folder, "findings.jsonl"), Path(folder, "output.txt")
        Path(folder, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        Path(folder, "test_installed.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "-p", "dynmm_framework.testing.installed", "--dynmm-findings", str(findings),
            "-c", str(Path(folder, "pytest.ini")), "--rootdir", folder, folder,
        ]  # fmt: skip
        environment = {key: text for key, text in os.environ.items() if key != "PYTEST_ADDOPTS"}
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run(  # noqa: S603 - our own program
                command, stdout=output, stderr=subprocess.STDOUT, check=False, env=environment
            )
        said = log.read_text(encoding="utf-8", errors="replace").strip()
        if done.returncode not in (0, 1) or not findings.exists():
            raise PluginError(
                f"pytest ended with status {done.returncode}:\n{said or 'it said nothing'}",
                hint="Does pytest run in this environment? python -m pytest --version",
            )
        if invocation.verbosity > 1:
            invocation.note(said)
        records = [json.loads(line) for line in findings.read_text("utf-8").splitlines()]
    found: list[list[Finding]] = [[] for _ in components]
    for record in records:
        number = int(record.pop("suite").removeprefix("Test"))
        record["check"] = record["check"].removeprefix("test_").replace("_", " ")
        component = components[number]
        found[number].append(Finding(component.kind, component.name, **record))
    return found


def _reads(component: Component) -> bool:
    """Whether an encoder's class reads vectors from a file, rather than encoding."""
    import importlib

    from dynmm_framework.errors import PluginError

    module, _, name = component.spec.target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a plugin's module raises what it likes
        raise PluginError(
            f"{component.kind} {component.name} cannot be imported: {error}",
            hint=f"the fault lies in {component.provider}",
        ) from error
    return hasattr(found, "read") and not hasattr(found, "encode")


def _show(invocation: Invocation, findings: Sequence[Finding]) -> None:
    """Prints a component's findings; of those that pass only the number, unless ``-v``."""
    first = findings[0]
    passed = sum(finding.outcome == "passed" for finding in findings)
    invocation.line(
        f"{first.kind} {first.component}: {passed} of {len(findings)} checks pass"
        f" ({sum(finding.seconds for finding in findings):.1f} s)"
    )
    for finding in findings:
        if finding.outcome in ("failed", "error") or invocation.verbosity > 0:
            invocation.line(f"  {finding.outcome}: {finding.check}")
            for line in finding.reason.splitlines():
                invocation.line(f"    {line}")
        elif finding.outcome == "skipped":
            invocation.note(f"  skipped: {finding.check}: {finding.reason}")


def _broken(invocation: Invocation) -> list[Finding]:
    """Returns the plugins that could not be loaded, as findings."""
    return [
        Finding("plugin", plugin.name, "loads", "error", str(plugin), 0.0)
        for plugin in invocation.catalogue.plugins
        if plugin.amiss and plugin.status != "ok"
    ]
