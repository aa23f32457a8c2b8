"""The door of images by CLIP."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_encoders() -> list[ComponentSpec]:
    """Registers ``clip``."""
    return [
        ComponentSpec(
            name="clip",
            target="dynmm_plugins.clip.model:Clip",
            config="dynmm_plugins.clip.config:ClipConfig",
            modalities=("vision",),
            summary="Images, and labels in words, by CLIP (Radford et al., ICML 2021)",
            requires=("torch", "open_clip"),
            extra="vision",
        )
    ]
