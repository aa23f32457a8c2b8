"""The door of features that exist already."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_encoders() -> list[ComponentSpec]:
    """Registers ``precomputed``."""
    return [
        ComponentSpec(
            name="precomputed",
            target="dynmm_plugins.precomputed.reader:Precomputed",
            config="dynmm_plugins.precomputed.config:PrecomputedConfig",
            modalities=("text", "vision", "audio"),
            summary="Features that exist already: .npy, .safetensors or Parquet",
        )
    ]
