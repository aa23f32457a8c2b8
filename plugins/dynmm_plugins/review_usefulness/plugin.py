"""The door of reviews as evidence."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_evidence_extractors() -> list[ComponentSpec]:
    """Registers ``review_usefulness``."""
    return [
        ComponentSpec(
            name="review_usefulness",
            target="dynmm_plugins.review_usefulness.model:ReviewUsefulness",
            config="dynmm_plugins.review_usefulness.config:ReviewUsefulnessConfig",
            summary="Reviews by how useful a model's attention finds them (Chen et al., WWW 2018)",
            requires=("torch",),
            extra="torch",
            needs=("reviews",),
        )
    ]
