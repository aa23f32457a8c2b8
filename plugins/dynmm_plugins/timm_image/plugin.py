"""The door of images by the networks of timm."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_encoders() -> list[ComponentSpec]:
    """Registers ``timm_image``."""
    return [
        ComponentSpec(
            name="timm_image",
            target="dynmm_plugins.timm_image.model:TimmImage",
            config="dynmm_plugins.timm_image.config:TimmImageConfig",
            modalities=("vision",),
            summary="Images by any network of timm, EfficientNet-Lite1 first",
            requires=("torch", "timm", "torchvision"),
            extra="vision",
        )
    ]
