"""The door of MMGCN."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``mmgcn``."""
    return [
        ComponentSpec(
            name="mmgcn",
            target="dynmm_plugins.mmgcn.model:MMGCN",
            config="dynmm_plugins.mmgcn.config:MMGCNConfig",
            summary="Graph convolution in each modality (Wei et al., MM 2019)",
            requires=("torch",),
            extra="torch",
            needs=("features",),
        )
    ]
