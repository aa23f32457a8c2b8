"""Distributions written to a folder, so that broken plugins are broken as they are in life."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from textwrap import dedent

import pytest

from dynmm_framework.hookspecs import ENTRY_POINT_GROUP

GOOD = """
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec

@hookimpl
def dynmm_register_backbones():
    return [ComponentSpec(name="Good-Model", target="x.y:Z", config="x.z:C", summary="A model")]
"""

_number = itertools.count()


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(str(folder))

    def install(
        self, name: str, plugins: Mapping[str, str], *, version: str = "1.0"
    ) -> dict[str, str]:
        """Writes a distribution with one module for each plugin; returns the modules' names."""
        modules = {}
        for plugin, source in plugins.items():
            module = f"{plugin.replace('-', '_')}_{next(_number)}"
            (self.folder / f"{module}.py").write_text(dedent(source), encoding="utf-8")
            modules[plugin] = module
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{plugin} = {module}" for plugin, module in modules.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINT_GROUP}]", *lines]))
        return modules

    @property
    def entry_points(self) -> list[metadata.EntryPoint]:
        found = metadata.distributions(path=[str(self.folder)])
        return [e for dist in found for e in dist.entry_points if e.group == ENTRY_POINT_GROUP]
