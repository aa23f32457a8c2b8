"""The door of A-LLMRec."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``a_llmrec``."""
    return [
        ComponentSpec(
            name="a_llmrec",
            target="dynmm_plugins.a_llmrec.model:ALLMRec",
            config="dynmm_plugins.a_llmrec.config:ALLMRecConfig",
            summary="A backbone's users and items as tokens of a frozen LLM (Kim et al., KDD 2024)",
            requires=("torch", "transformers"),
            extra="llm",
        )
    ]
