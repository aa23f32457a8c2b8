"""The door of LightGCN."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_backbones() -> list[ComponentSpec]:
    """Registers ``lightgcn``."""
    return [
        ComponentSpec(
            name="lightgcn",
            target="dynmm_plugins.lightgcn.model:LightGCN",
            config="dynmm_plugins.lightgcn.config:LightGCNConfig",
            summary="Linear propagation on the user-item graph (He et al., SIGIR 2020)",
            requires=("torch",),
            extra="torch",
        )
    ]
