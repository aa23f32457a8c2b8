"""Settings of causal language models: any one, and those that are known by name."""

from __future__ import annotations

from dynmm_framework.language.config import CausalLMConfig, Number


class SmolLM2Config(CausalLMConfig):
    """SmolLM2-135M-Instruct, whose weights come in a wheel of the Python package index."""


class OPTConfig(CausalLMConfig):
    """OPT-1.3B, the model of A-LLMRec."""

    model: str = "facebook/opt-1.3b"
    """The model. Its repository on the hub holds pickles, which are never loaded from there: name
    a revision with safetensors, or convert it (``dynmm artifact convert``) and name the folder.
    """
    dtype: Number = "bf16"
    """Type of the weights; 2.6 GB in bf16."""


class Llama7BConfig(CausalLMConfig):
    """LLaMA-7B, the model of TALLRec."""

    model: str = "huggyllama/llama-7b"
    """The model; its licence is Meta's, for research."""
    revision: str | None = "4782ad278652c7c71b72204d462d6d01eaaf7549"
    """Commit of the hub repository; null for a folder of your own."""
    dtype: Number = "bf16"
    """Type of the weights; 13.5 GB in bf16."""


class Qwen3Config(CausalLMConfig):
    """Qwen3-0.6B, a small model that is newer than those of the papers."""

    model: str = "Qwen/Qwen3-0.6B"
    """The model."""
    revision: str | None = "c1899de289a04d12100db370d81485cdf75e47ca"
    """Commit of the hub repository; null for a folder of your own."""
    dtype: Number = "bf16"
    """Type of the weights; 1.5 GB in bf16."""
