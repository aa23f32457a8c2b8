"""The door of the extractor of trends."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_evidence_extractors() -> list[ComponentSpec]:
    """Registers ``trend``."""
    return [
        ComponentSpec(
            name="trend",
            target="dynmm_plugins.trend.model:Trend",
            config="dynmm_plugins.trend.config:TrendConfig",
            summary="Recent popularity and its growth (LLM4Rec's contextual explanations)",
            requires=("torch",),
            extra="torch",
        )
    ]
