"""The door of cohorts as evidence."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_evidence_extractors() -> list[ComponentSpec]:
    """Registers ``cohort``."""
    return [
        ComponentSpec(
            name="cohort",
            target="dynmm_plugins.cohort.model:Cohort",
            config="dynmm_plugins.cohort.config:CohortConfig",
            summary="How many people of similar taste chose an item, never fewer than five",
            requires=("sklearn", "scipy"),
            extra="text",
        )
    ]
