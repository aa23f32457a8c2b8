"""The door of the language model alone."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``llm_only``."""
    return [
        ComponentSpec(
            name="llm_only",
            target="dynmm_plugins.llm_only.model:LLMOnly",
            config="dynmm_plugins.llm_only.config:LLMOnlyConfig",
            summary="A frozen language model scores titles after the user's titles, untrained",
            requires=("torch", "transformers"),
            extra="llm",
        )
    ]
