"""The door of BPR-MF."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_backbones() -> list[ComponentSpec]:
    """Registers ``bpr_mf``."""
    return [
        ComponentSpec(
            name="bpr_mf",
            target="dynmm_plugins.bpr_mf.model:BPRMF",
            config="dynmm_plugins.bpr_mf.config:BPRMFConfig",
            summary="Matrix factorisation with a pairwise ranking loss (Rendle et al., UAI 2009)",
            requires=("torch",),
            extra="torch",
        )
    ]
