"""Settings of a component that loads a frozen causal language model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynmm_framework.artifacts.weights import WeightsConfig

Number = Literal["fp32", "bf16", "fp16"]


class CausalLMConfig(WeightsConfig):
    """Settings of a frozen causal language model of the transformers library."""

    model: str = "smollm2_135m"
    """The model: a model record of the registry, a folder or a GGUF file (``./llm``,
    ``./llm/model.gguf``), or ``owner/name`` on the hub, which needs a ``revision``.
    """
    dtype: Number = "fp32"
    """Type of the weights. Scores of one model differ by up to 0.7 nats a short text between fp32
    and bf16, so compare scores made with one type only.
    """
    quantise: Literal[8, 4] | None = None
    """Keep the weights in 8 or 4 bits (bitsandbytes); needs a GPU."""
    checkpointing: bool = False
    """Compute hidden states twice in training rather than keep them: less memory, a third more
    time.
    """
    context_length: Annotated[int, Field(ge=8)] | None = None
    """Most tokens of a prompt and its answer; what the model was made for if null."""
