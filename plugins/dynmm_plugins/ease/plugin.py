"""The door of the EASE baseline."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``ease``."""
    return [
        ComponentSpec(
            name="ease",
            target="dynmm_plugins.ease.model:EASE",
            config="dynmm_plugins.ease.config:EASEConfig",
            summary="Linear item-to-item weights in closed form (Steck, WWW 2019)",
            requires=("scipy",),
            extra="torch",
        )
    ]
