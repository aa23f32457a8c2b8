"""Registers SASRec."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_backbones() -> list[ComponentSpec]:
    """Offers one backbone."""
    return [
        ComponentSpec(
            name="sasrec",
            target="dynmm_plugins.sasrec.model:SASRec",
            config="dynmm_plugins.sasrec.config:SASRecConfig",
            summary="Self-attentive sequential recommendation (Kang & McAuley, ICDM 2018)",
            requires=("torch",),
            extra="torch",
        )
    ]
