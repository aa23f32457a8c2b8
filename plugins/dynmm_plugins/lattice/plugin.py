"""The door of LATTICE."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``lattice``."""
    return [
        ComponentSpec(
            name="lattice",
            target="dynmm_plugins.lattice.model:LATTICE",
            config="dynmm_plugins.lattice.config:LATTICEConfig",
            summary="LightGCN with an item graph mined from content (Zhang et al., MM 2021)",
            requires=("torch",),
            extra="torch",
            needs=("features",),
        )
    ]
