"""The door of attributes as evidence."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_evidence_extractors() -> list[ComponentSpec]:
    """Registers ``attribute_attention``."""
    return [
        ComponentSpec(
            name="attribute_attention",
            target="dynmm_plugins.attribute_attention.model:AttributeAttention",
            config="dynmm_plugins.attribute_attention.config:AttributeAttentionConfig",
            summary="Genres, categories, key phrases and labels of pictures, by learned attention",
            requires=("torch", "sklearn"),
            extra="text",
        )
    ]
