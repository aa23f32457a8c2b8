"""The door of VBPR."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``vbpr``."""
    return [
        ComponentSpec(
            name="vbpr",
            target="dynmm_plugins.vbpr.model:VBPR",
            config="dynmm_plugins.vbpr.config:VBPRConfig",
            summary="Matrix factorisation with factors of content (He & McAuley, AAAI 2016)",
            requires=("torch",),
            extra="torch",
            needs=("features",),
        )
    ]
