"""A frozen language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dynmm_framework.protocols.context import Context

if TYPE_CHECKING:
    import torch

    from dynmm_framework.language.conversation import Completion
    from dynmm_framework.language.prefix import Prefix


@runtime_checkable
class LanguageModel(Protocol):
    """A frozen causal language model, reached through its embeddings.

    Nothing that is trained on it changes it; gradients flow into the embeddings that go in.
    :class:`dynmm_framework.language.causal.CausalLM` is one, and components of this kind may
    derive from :class:`dynmm_framework.language.component.CausalLMComponent`.

    Attributes:
        tokenizer: A tokenizer of the transformers library; known after :meth:`load`, as the rest.
        hidden_size: Width of token embeddings.
        context_length: Most tokens of one sequence.
        pad_id: Token that fills rows up; padding is masked.
    """

    tokenizer: Any
    hidden_size: int
    context_length: int
    pad_id: int

    def load(self, ctx: Context) -> None:
        """Loads weights and tokenizer onto ``ctx.device``.

        Raises:
            ArtifactError: If they are missing, damaged or of another architecture; names the file
                and the fix.
        """
        ...

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Looks up token embeddings: ``(…)`` to ``(…, hidden_size)``."""
        ...

    def embedding_norm(self) -> float:
        """Returns the mean norm of the token embeddings, to which soft tokens are scaled."""
        ...

    def forward(
        self,
        embeddings: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        prefix: Prefix | None = None,
        positions: torch.Tensor | None = None,
        at: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Reads embeddings after an optional prefix and returns last hidden states.

        Args:
            embeddings: ``(batch, length, hidden_size)``.
            mask: Which places hold a token, ``(batch, length)`` bool; or which place sees which,
                ``(batch, length, prefix.length + length)`` bool, with ``positions``.
            prefix: What was read before, from :meth:`prefill`; one row serves all.
            positions: Position of each place in its text; counted along the tokens by default.
            at: Places to return, ``(batch, n)``; all by default.

        Returns:
            ``(batch, n, hidden_size)``.
        """
        ...

    def prefill(
        self,
        embeddings: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        prefix: Prefix | None = None,
    ) -> Prefix:
        """Reads embeddings so that any number of texts can continue them."""
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the logits of hidden states, ``(…, vocabulary)`` float32."""
        ...

    def log_likelihood(self, hidden: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        """Returns the log-probability of the tokens that follow hidden states, ``(n,)``."""
        ...

    def generate(
        self,
        embeddings: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        prefix: Prefix | None = None,
        max_new_tokens: int,
        stop: str = "sentence",
    ) -> Sequence[Completion]:
        """Continues each row greedily, until its first sentence ends unless ``stop`` is length.

        Returns:
            The new text of each row, and whether ``max_new_tokens`` cut it off.
        """
        ...

    def weights_digest(self) -> str:
        """Returns the SHA-256 of all weights: the same before and after any training."""
        ...
