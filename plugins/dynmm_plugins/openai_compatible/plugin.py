"""The door of served language models."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_language_models() -> list[ComponentSpec]:
    """Registers ``openai_compatible``."""
    return [
        ComponentSpec(
            name="openai_compatible",
            target="dynmm_plugins.openai_compatible.model:OpenAICompatible",
            config="dynmm_plugins.openai_compatible.config:OpenAICompatibleConfig",
            summary="A served model, for prompting alone: vLLM or any endpoint of its kind",
        )
    ]
