"""The door of GRU4Rec: what it is called and where it is. It imports nothing heavy."""

from __future__ import annotations

from dynmm_framework import ComponentSpec, hookimpl


@hookimpl
def dynmm_register_backbones() -> list[ComponentSpec]:
    """Registers ``gru4rec``."""
    return [
        ComponentSpec(
            name="gru4rec",
            target="dynmm_gru4rec.model:GRU4Rec",
            config="dynmm_gru4rec.config:GRU4RecConfig",
            summary="Recurrent network over histories (Hidasi et al., ICLR 2016)",
            requires=("torch",),
        )
    ]
