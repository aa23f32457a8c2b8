"""``dynmm doctor``: is everything here that is needed, and if not, what to do."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from dynmm_framework.cli.arguments import json_option, runs_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.guard import OK, USER_ERROR
from dynmm_framework.cli.invocation import Invocation

DISTRIBUTION = "dynmm-framework"
OLDEST_PYTHON = (3, 11)
LITTLE_SPACE = 2e9
"""Free bytes below which a warning is due: a cached dataset and a run's models fit in this."""

FOR_DEVELOPERS = ("all", "test", "dev", "docs")
"""Extras whose absence is no news."""

Status = Literal["ok", "absent", "warning", "failed"]
_STYLES: Mapping[Status, str] = {
    "ok": "green",
    "absent": "dim",
    "warning": "yellow",
    "failed": "bold red",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What was looked at.
        status: ``failed`` has to be mended; ``absent`` is optional.
        detail: What was found.
        advice: What to do about it.
    """

    what: str
    status: Status
    detail: str
    advice: str = ""


@click.command(cls=Command, examples=("dynmm doctor", "dynmm doctor --json"))
@runs_option
@json_option
@click.pass_obj
def command(invocation: Invocation, runs_dir: Path, as_json: bool) -> int:
    """Checks this installation.

    Looks at Python, libraries, GPU, plugins, folders and disk space, and says what to do about
    what is amiss. Exits with code 2 if something has to be mended.
    """
    findings = list(_examine(invocation, runs_dir))
    if as_json:
        invocation.json([asdict(finding) for finding in findings])
    else:
        from rich.text import Text

        invocation.table(
            ("what", "status", "found"),
            (
                (
                    finding.what,
                    Text(finding.status, style=_STYLES[finding.status]),
                    f"{finding.detail}\n{finding.advice}".strip(),
                )
                for finding in findings
            ),
        )
    return USER_ERROR if any(finding.status == "failed" for finding in findings) else OK


def _examine(invocation: Invocation, runs_dir: Path) -> Iterator[Finding]:
    yield _python()
    yield from _libraries()
    yield _torch()
    yield _ray()
    yield from _plugins(invocation)
    yield from _records(invocation)
    from dynmm_framework.artifacts.sources import default_cache

    yield _folder("cache folder", default_cache(), "DYNMM_CACHE")
    yield _folder("runs folder", runs_dir.absolute(), "--runs")


def _python() -> Finding:
    found = f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "failed", found, "Python 3.11 or newer is needed.")
    return Finding("python", "ok", found)


def _libraries() -> Iterator[Finding]:
    """Looks at what the distribution declares, without importing any of it."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        own = version(DISTRIBUTION)
        declared = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        advice = "Install it: pip install ."
        yield Finding(DISTRIBUTION, "failed", "not installed as a distribution", advice)
        return
    yield Finding(DISTRIBUTION, "ok", own)
    extras = dict.fromkeys(extra for entry in declared for extra in _extras_of(entry))
    for extra in ("", *extras):
        wanted = [entry for entry in declared if _applies(entry, extra)]
        wanted = [entry for entry in wanted if entry.name != DISTRIBUTION]
        if not wanted or extra in FOR_DEVELOPERS:
            continue
        present, amiss, missing = [], [], []
        for entry in wanted:
            try:
                found = version(entry.name)
            except PackageNotFoundError:
                missing.append(entry.name)
                continue
            if entry.specifier.contains(found, prereleases=True):
                present.append(f"{entry.name} {found}")
            else:
                amiss.append(f"{entry.name} {found} is not {entry.specifier}")
        what = f"extra {extra}" if extra else "libraries"
        target = f"{DISTRIBUTION}[{extra}]" if extra else DISTRIBUTION
        if not amiss and not missing:
            yield Finding(what, "ok", ", ".join(present))
            continue
        status: Status = "failed" if not extra else "warning" if amiss else "absent"
        if missing:
            amiss.append(f"not installed: {', '.join(missing)}")
        yield Finding(what, status, "; ".join(amiss), f"Install: pip install '{target}'")


def _extras_of(entry: object) -> Iterator[str]:
    import re

    marker = getattr(entry, "marker", None)
    yield from re.findall(r"""extra == ['"]([\w.-]+)['"]""", str(marker or ""))


def _applies(entry: object, extra: str) -> bool:
    """Whether a requirement belongs to an extra alone, or, for ``""``, to every install."""
    marker = getattr(entry, "marker", None)
    if marker is None:
        return not extra
    needed_anyway = bool(marker.evaluate({"extra": ""}))
    return needed_anyway if not extra else not needed_anyway and marker.evaluate({"extra": extra})


def _torch() -> Finding:
    try:
        import torch
    except ModuleNotFoundError:
        advice = f"Neural components need it: pip install '{DISTRIBUTION}[torch]'"
        return Finding("torch", "warning", "not installed", advice)
    except Exception as error:  # a broken binary raises anything on import
        advice = f"Reinstall it: pip install --force-reinstall '{DISTRIBUTION}[torch]'"
        return Finding("torch", "failed", f"does not load: {error}", advice)
    threads = f"{torch.get_num_threads()} CPU threads"
    try:
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception as error:
        advice = "Update the driver, or run with --device cpu."
        return Finding("torch", "warning", f"{torch.__version__}, GPU fails: {error}", advice)
    gpus = ", ".join(names) or "no GPU"
    advice = ""
    status: Status = "ok"
    if not names and Path("/dev/nvidia0").exists():
        status, gpus = "warning", "a GPU is present, but torch does not see it"
        advice = "Install a torch build for CUDA and a matching driver."
    return Finding("torch", status, f"{torch.__version__}, {gpus}, {threads}", advice)


def _ray() -> Finding:
    """Looks at Ray without importing or starting it."""
    import os
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("ray")
    except PackageNotFoundError:
        advice = f"Training on several workers needs it: pip install '{DISTRIBUTION}[ray]'"
        return Finding("ray", "absent", "not installed", advice)
    address = os.environ.get("RAY_ADDRESS")
    where = f"the cluster at {address}" if address else "a cluster of this machine's own"
    return Finding("ray", "ok", f"{found}, compute.engine: ray uses {where}")


def _plugins(invocation: Invocation) -> Iterator[Finding]:
    catalogue = invocation.catalogue
    plugins = [plugin for plugin in catalogue.plugins if plugin.status != "filtered"]
    good = [plugin for plugin in plugins if plugin.status == "ok" and not plugin.reason]
    if good:
        n_components = len(catalogue.components())
        detail = f"{len(good)} load, with {n_components} components"
        yield Finding("plugins", "ok", detail, "See: dynmm plugins list")
    else:
        yield Finding(
            "plugins", "warning", "none", "Is DYNMM_PLUGINS set? Else: pip install dynmm-framework"
        )
    for plugin in plugins:
        if plugin not in good:
            advice = f"Update or remove it: pip install -U {plugin.provider.distribution}"
            yield Finding(
                f"plugin {plugin.name}",
                "warning",
                f"{plugin.provider}: {plugin.reason or plugin.status}",
                advice,
            )
    lacking: dict[str, list[str]] = {}
    for component in catalogue.components():
        if catalogue.missing(component):
            extra = f"[{component.spec.extra}]" if component.spec.extra else ""
            target = f"{component.provider.distribution}{extra}"
            lacking.setdefault(target, []).append(component.name)
    for target, names in lacking.items():
        detail = f"cannot run without further libraries: {', '.join(names)}"
        yield Finding("components", "warning", detail, f"Install: pip install '{target}'")


def _records(invocation: Invocation) -> Iterator[Finding]:
    from dynmm_framework.artifacts.records import Registry

    registry = Registry.load(invocation.catalogue.record_folders(), strict=False)
    yield Finding("registry", "ok", f"{len(registry.records())} records")
    for problem in registry.problems:
        yield Finding("registry record", "warning", str(problem), "It is left out.")


def _folder(what: str, folder: Path, setting: str) -> Finding:
    """Checks that a folder can be written, or made; nothing is left behind."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        advice = f"Change its permissions, or choose another with {setting}."
        return Finding(what, "failed", f"{folder}: {error.strerror}", advice)
    from dynmm_framework.reports.text import size

    detail = f"{folder}, {size(free)} free"
    if free < LITTLE_SPACE:
        return Finding(
            what, "warning", detail, f"Free some space, or choose another with {setting}."
        )
    return Finding(what, "ok", detail)
