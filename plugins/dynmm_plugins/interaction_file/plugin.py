"""The door of the reader of interaction files."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_datasets() -> list[ComponentSpec]:
    """Registers ``interaction_file``."""
    return [
        ComponentSpec(
            name="interaction_file",
            target="dynmm_plugins.interaction_file.reader:InteractionFile",
            config="dynmm_plugins.interaction_file.config:InteractionFileConfig",
            summary="Your own interactions, items and users as CSV, TSV, Parquet or JSON lines",
        )
    ]
