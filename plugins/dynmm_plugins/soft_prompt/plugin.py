"""The door of the soft prompt."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_adapters() -> list[ComponentSpec]:
    """Offers one adapter of slot ``prompt``."""
    return [
        ComponentSpec(
            name="soft_prompt",
            target="dynmm_plugins.soft_prompt.model:SoftPrompt",
            config="dynmm_plugins.soft_prompt.config:SoftPromptConfig",
            summary="Latents as soft tokens of a frozen LLM that re-ranks (DynMM, section 4.4)",
            requires=("torch", "transformers"),
            extra="llm",
            slot="prompt",
        )
    ]
