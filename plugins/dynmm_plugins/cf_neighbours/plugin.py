"""The door of the extractor of neighbours."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_evidence_extractors() -> list[ComponentSpec]:
    """Registers ``cf_neighbours``."""
    return [
        ComponentSpec(
            name="cf_neighbours",
            target="dynmm_plugins.cf_neighbours.model:CFNeighbours",
            config="dynmm_plugins.cf_neighbours.config:CFNeighboursConfig",
            summary="Items nearest by cosine of their vectors, those of the history first",
            requires=("faiss",),
            extra="all",
        )
    ]
