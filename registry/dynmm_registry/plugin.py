"""The door of the registry: it hands over its folder of records."""

from __future__ import annotations

from pathlib import Path

from dynmm_framework.hookspecs import hookimpl


@hookimpl
def dynmm_register_records() -> list[Path]:
    """Registers the records beside this file."""
    return [Path(__file__).parent]
