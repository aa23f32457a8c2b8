"""The door of the KuaiRec reader."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_datasets() -> list[ComponentSpec]:
    """Registers ``kuairec``."""
    return [
        ComponentSpec(
            name="kuairec",
            target="dynmm_plugins.kuairec.reader:KuaiRec",
            config="dynmm_plugins.kuairec.config:KuaiRecConfig",
            summary="KuaiRec: short videos with watch ratios (Gao et al., CIKM 2022)",
        )
    ]
