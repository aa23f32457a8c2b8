"""The door of the extractor of items that are chosen together."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_evidence_extractors() -> list[ComponentSpec]:
    """Registers ``co_neighbours``."""
    return [
        ComponentSpec(
            name="co_neighbours",
            target="dynmm_plugins.co_neighbours.model:CoNeighbours",
            config="dynmm_plugins.co_neighbours.config:CoNeighboursConfig",
            summary="Items of the history that the same people chose, recent ones first",
            requires=("scipy",),
            extra="torch",
        )
    ]
