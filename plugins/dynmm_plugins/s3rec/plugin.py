"""Registers S3-Rec."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_backbones() -> list[ComponentSpec]:
    """Offers one backbone."""
    return [
        ComponentSpec(
            name="s3rec",
            target="dynmm_plugins.s3rec.model:S3Rec",
            config="dynmm_plugins.s3rec.config:S3RecConfig",
            summary="SASRec pre-trained on attributes and segments (Zhou et al., CIKM 2020)",
            requires=("torch",),
            extra="torch",
        )
    ]
