"""The door of RecLLM's ranker."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``recllm``."""
    return [
        ComponentSpec(
            name="recllm",
            target="dynmm_plugins.recllm.model:RecLLM",
            config="dynmm_plugins.recllm.config:RecLLMConfig",
            summary="A language model grades items by a profile in words (RecLLM's ranker alone)",
            requires=("torch", "transformers"),
            extra="llm",
        )
    ]
