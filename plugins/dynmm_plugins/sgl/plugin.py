"""The door of SGL."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_backbones() -> list[ComponentSpec]:
    """Registers ``sgl``."""
    return [
        ComponentSpec(
            name="sgl",
            target="dynmm_plugins.sgl.model:SGL",
            config="dynmm_plugins.sgl.config:SGLConfig",
            summary="LightGCN with contrastive views of the graph (Wu et al., SIGIR 2021)",
            requires=("torch",),
            extra="torch",
        )
    ]
