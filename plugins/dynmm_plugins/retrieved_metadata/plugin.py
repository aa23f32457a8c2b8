"""The door of passages as evidence."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_evidence_extractors() -> list[ComponentSpec]:
    """Registers ``retrieved_metadata``."""
    return [
        ComponentSpec(
            name="retrieved_metadata",
            target="dynmm_plugins.retrieved_metadata.model:RetrievedMetadata",
            config="dynmm_plugins.retrieved_metadata.config:RetrievedMetadataConfig",
            summary="Passages of descriptions and reviews, found by BM25 (Robertson et al., 1994)",
            requires=("sklearn", "scipy"),
            extra="text",
        )
    ]
