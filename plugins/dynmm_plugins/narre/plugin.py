"""The door of NARRE."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``narre``."""
    return [
        ComponentSpec(
            name="narre",
            target="dynmm_plugins.narre.model:NARRE",
            config="dynmm_plugins.narre.config:NARREConfig",
            summary="Factors of users and items from their reviews (Chen et al., WWW 2018)",
            requires=("torch",),
            extra="torch",
            needs=("reviews",),
        )
    ]
