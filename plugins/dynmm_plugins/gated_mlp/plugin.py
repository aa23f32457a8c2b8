"""The door of the gated MLP."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_adapters() -> list[ComponentSpec]:
    """Registers ``gated_mlp`` for slot ``online``."""
    return [
        ComponentSpec(
            name="gated_mlp",
            target="dynmm_plugins.gated_mlp.model:GatedMLP",
            config="dynmm_plugins.gated_mlp.config:GatedMLPConfig",
            summary="Gated corrections of items and users from recent windows (DynMM, eq. 1 to 3)",
            requires=("torch",),
            extra="torch",
            slot="online",
        )
    ]
