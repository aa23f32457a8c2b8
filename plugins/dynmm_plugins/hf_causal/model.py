"""Any causal language model of the transformers library, frozen."""

from __future__ import annotations

from dynmm_framework.language.component import CausalLMComponent


class HFCausal(CausalLMComponent):
    """A causal language model from the hub, a folder, a model record or a GGUF file.

    All it does is in :mod:`dynmm_framework.language`, as other kinds of component use it too.
    """
