"""A language model as a component: settings first, weights when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dynmm_framework.errors import StageError
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.config import CausalLMConfig
from dynmm_framework.language.conversation import Completion
from dynmm_framework.language.loading import load_causal_lm
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.protocols import Context


class CausalLMComponent:
    """A causal language model of the transformers library, frozen.

    Components of the kind ``language_model`` derive from it; one that gets its weights in another
    way overrides :meth:`read`.

    Args:
        config: What to load, and how.
    """

    def __init__(self, config: CausalLMConfig) -> None:
        self.config = config
        self._loaded: CausalLM | None = None

    def read(self, ctx: Context) -> CausalLM:
        """Returns the model, loaded onto ``ctx.device``."""
        return load_causal_lm(self.config, ctx)

    def load(self, ctx: Context) -> None:
        """Loads weights and tokenizer onto ``ctx.device``."""
        self._loaded = self.read(ctx)

    @property
    def lm(self) -> CausalLM:
        """The loaded model.

        Raises:
            StageError: Before :meth:`load`.
        """
        if self._loaded is None:
            raise StageError("the language model is not loaded", hint="Call load(ctx) first.")
        return self._loaded

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.lm.name

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.lm.tokenizer

    @property
    def hidden_size(self) -> int:
        """Width of token embeddings."""
        return self.lm.hidden_size

    @property
    def context_length(self) -> int:
        """Most tokens of one sequence."""
        return self.lm.context_length

    @property
    def pad_id(self) -> int:
        """Token that fills rows up."""
        return self.lm.pad_id

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.lm.embed(token_ids)

    def embedding_norm(self) -> float:
        return self.lm.embedding_norm()

    def forward(
        self,
        embeddings: Tensor,
        *,
        mask: Tensor | None = None,
        prefix: Prefix | None = None,
        positions: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        return self.lm.forward(embeddings, mask=mask, prefix=prefix, positions=positions, at=at)

    def prefill(
        self, embeddings: Tensor, *, mask: Tensor | None = None, prefix: Prefix | None = None
    ) -> Prefix:
        return self.lm.prefill(embeddings, mask=mask, prefix=prefix)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm.logits(hidden)

    def log_likelihood(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        return self.lm.log_likelihood(hidden, token_ids)

    def generate(
        self,
        embeddings: Tensor,
        *,
        mask: Tensor | None = None,
        prefix: Prefix | None = None,
        max_new_tokens: int,
        stop: str = "sentence",
    ) -> Sequence[Completion]:
        return self.lm.generate(
            embeddings, mask=mask, prefix=prefix, max_new_tokens=max_new_tokens, stop=stop
        )

    def weights_digest(self) -> str:
        return self.lm.weights_digest()
