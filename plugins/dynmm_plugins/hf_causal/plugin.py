"""The door of causal language models."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec

NAMED = {
    "hf_causal": ("dynmm_framework.language.config:CausalLMConfig", "Any causal language model"),
    "smollm2_135m": (
        "dynmm_plugins.hf_causal.config:SmolLM2Config",
        "SmolLM2-135M-Instruct, from a wheel where no hub is reachable (Allal et al., 2025)",
    ),
    "opt_1_3b": ("dynmm_plugins.hf_causal.config:OPTConfig", "OPT-1.3B (Zhang et al., 2022)"),
    "llama_7b": ("dynmm_plugins.hf_causal.config:Llama7BConfig", "LLaMA-7B (Touvron et al., 2023)"),
    "qwen3_0_6b": ("dynmm_plugins.hf_causal.config:Qwen3Config", "Qwen3-0.6B (Qwen Team, 2025)"),
}
"""Name to settings and summary."""


@hookimpl
def dynmm_register_language_models() -> list[ComponentSpec]:
    """Registers ``hf_causal`` and models that are known by name."""
    return [
        ComponentSpec(
            name=name,
            target="dynmm_plugins.hf_causal.model:HFCausal",
            config=config,
            summary=summary,
            requires=("torch", "transformers"),
            extra="llm",
        )
        for name, (config, summary) in NAMED.items()
    ]
