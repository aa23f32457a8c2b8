"""The door of the popularity baseline."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``popularity``."""
    return [
        ComponentSpec(
            name="popularity",
            target="dynmm_plugins.popularity.model:Popularity",
            config="dynmm_plugins.popularity.config:PopularityConfig",
            summary="Every user gets the items with the most training interactions",
        )
    ]
