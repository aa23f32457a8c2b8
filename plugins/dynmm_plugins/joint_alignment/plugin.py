"""Registers the alignments."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec

_FUSIONS = (
    (
        "joint_alignment",
        "JointAlignmentConfig",
        "Masked gate over modalities, InfoNCE, recent-history similarity (DynMM, section 4.2)",
    ),
    (
        "concat",
        "ConcatConfig",
        "Joint alignment that concatenates the modalities",
    ),
    (
        "cross_attention",
        "CrossAttentionConfig",
        "Joint alignment in which the collaborative vector attends to content (LLM4Rec)",
    ),
)


@hookimpl
def dynmm_register_adapters() -> list[ComponentSpec]:
    """Offers three adapters of slot ``align``, which differ in the fusion alone."""
    return [
        ComponentSpec(
            name=name,
            target="dynmm_plugins.joint_alignment.model:JointAlignment",
            config=f"dynmm_plugins.joint_alignment.config:{config}",
            summary=summary,
            requires=("torch",),
            extra="torch",
            slot="align",
        )
        for name, config, summary in _FUSIONS
    ]
