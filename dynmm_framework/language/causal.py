"""A frozen causal language model, reached through its embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.language.conversation import Completion
from dynmm_framework.language.prefix import Prefix, empty_cache, last_places, read_layers
from dynmm_framework.language.tokens import sentence_end

HEAD_ROWS = 512
"""Hidden states whose logits are computed at once; with 50,000 tokens in float32 100 MB."""


class CausalLM:
    """A causal language model of the transformers library whose weights never change.

    No parameter takes a gradient, nothing is ever dropped, and what flows back flows into the
    embeddings that went in. Rows may be padded anywhere: padding is masked, and places are counted
    along the tokens.

    Args:
        network: A causal language model of the transformers library.
        tokenizer: Its tokenizer.
        name: What to call it in messages.
        context_length: Most tokens of one sequence; that of the network's settings if ``None``.
        checkpointing: Compute hidden states again for the gradient rather than keep them: less
            memory, a third more time.

    Attributes:
        tokenizer: The tokenizer.
        hidden_size: Width of token embeddings.
        context_length: Most tokens of one sequence.
        pad_id: Token that fills rows up; it is always masked.

    Raises:
        ArtifactError: If its architecture does more after the last hidden state than one linear
            map, so that scores would not be the model's own.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        name: str = "the language model",
        context_length: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.checkpointing = checkpointing
        self._embedding: Any = network.get_input_embeddings()
        self._head: Any = network.get_output_embeddings()
        self.hidden_size = int(self._embedding.weight.shape[1])
        own = getattr(network.config, "max_position_embeddings", None)
        if context_length is not None and own is not None and context_length > own:
            raise StageError(
                f"context_length {context_length} is more than the {own} tokens that {name} takes",
                hint=f"Set context_length to {own} or less, or leave it out.",
            )
        self.context_length = int(context_length or own or 2048)
        self.pad_id = _pad_id(tokenizer)
        _without_dropout(network)
        if checkpointing:
            _checkpoint_layers(network)
        self._refuse_other_heads()

    @property
    def device(self) -> torch.device:
        """Where embeddings, masks and positions belong."""
        device: torch.device = self._embedding.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The type of embeddings and hidden states."""
        dtype: torch.dtype = self._embedding.weight.dtype
        return dtype

    def embed(self, token_ids: Tensor) -> Tensor:
        """Looks up token embeddings: ``(…)`` to ``(…, hidden_size)``."""
        found: Tensor = self._embedding(token_ids.to(self.device))
        return found

    def embedding_norm(self) -> float:
        """Returns the mean norm of the token embeddings, to which soft tokens are scaled."""
        return float(self._embedding.weight.float().norm(dim=1).mean())

    def forward(
        self,
        embeddings: Tensor,
        *,
        mask: Tensor | None = None,
        prefix: Prefix | None = None,
        positions: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Reads embeddings after an optional prefix and returns last hidden states.

        Args:
            embeddings: ``(batch, length, hidden_size)``.
            mask: Which places hold a token, ``(batch, length)`` bool; or which place sees which,
                ``(batch, length, prefix.length + length)`` bool, which then needs ``positions``.
                All hold a token, each seeing those before it, if ``None``.
            prefix: What was read before, of as many rows or of one for all.
            positions: Position of each place in its text, ``(batch, length)``; counted along the
                tokens if ``None``.
            at: Places to return, ``(batch, n)``; all of them if ``None``.

        Returns:
            Hidden states ``(batch, n, hidden_size)``, of which :meth:`logits` makes logits.
        """
        again = self.checkpointing and torch.is_grad_enabled() and embeddings.requires_grad
        if prefix is not None and again:
            return self._forward_joined(embeddings, mask, prefix, positions, at)
        hidden, _ = self._read(embeddings, mask, prefix, positions, keep=False)
        return hidden if at is None else _pick(hidden, at)

    def prefill(
        self, embeddings: Tensor, *, mask: Tensor | None = None, prefix: Prefix | None = None
    ) -> Prefix:
        """Reads embeddings so that they can be continued; arguments as in :meth:`forward`.

        Returns:
            A prefix of ``prefix`` and the embeddings.
        """
        hidden, cache = self._read(embeddings, mask, prefix, None, keep=True)
        batch, length, _ = embeddings.shape
        own = _ones(batch, length, self.device) if mask is None else mask.to(self.device)
        last = _pick(hidden, last_places(own)[:, None])[:, 0]
        if prefix is not None:
            before = prefix.expanded(batch)
            last = torch.where(own.any(dim=1, keepdim=True), last, before.last)
            own = torch.cat([before.mask, own], dim=1)
            embeddings = torch.cat([before.embeddings, embeddings.to(before.embeddings)], dim=1)
        return Prefix(read_layers(cache), own, last, embeddings)

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns the logits of hidden states, ``(…, vocabulary)`` float32."""
        found: Tensor = self._head(hidden)
        return found.float()

    def log_likelihood(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        """Returns the log-probability of the tokens that follow hidden states, ``(n,)`` float32.

        Args:
            hidden: Hidden states before the tokens, ``(n, hidden_size)``.
            token_ids: The tokens, ``(n,)``.
        """
        parts = torch.split(hidden, HEAD_ROWS), torch.split(token_ids.to(hidden.device), HEAD_ROWS)
        return torch.cat(
            [
                -torch.nn.functional.cross_entropy(self.logits(states), ids, reduction="none")
                for states, ids in zip(*parts, strict=True)
            ]
        )

    @torch.no_grad()
    def generate(
        self,
        embeddings: Tensor,
        *,
        mask: Tensor | None = None,
        prefix: Prefix | None = None,
        max_new_tokens: int,
        stop: str = "sentence",
    ) -> Sequence[Completion]:
        """Continues each row greedily.

        Args:
            embeddings: As in :meth:`forward`, with at least one token in each row.
            mask: As in :meth:`forward`, ``(batch, length)``.
            prefix: As in :meth:`forward`.
            max_new_tokens: Most tokens to add.
            stop: ``sentence`` ends a text with its first sentence, ``length`` does not.

        Returns:
            The new text of each row, without special tokens and white space around it; ``cut``
            where it had not come to its end by ``max_new_tokens``.
        """
        if stop not in ("sentence", "length"):
            raise ValueError(f"stop must be sentence or length, not {stop!r}")
        start = self.prefill(embeddings, mask=mask, prefix=prefix)
        cache, seen, hidden = start.cache(), start.mask, start.last
        position, batch = start.lengths, len(start)
        new: list[list[int]] = [[] for _ in range(batch)]
        texts = [""] * batch
        running = [True] * batch
        ends = _end_ids(self.tokenizer, self.network)
        for step in range(max_new_tokens):
            chosen = self.logits(hidden).argmax(dim=-1)  # (batch,)
            for row, token in enumerate(chosen.tolist()):
                if not running[row]:
                    continue
                if token in ends:
                    running[row] = False
                    continue
                new[row].append(token)
                texts[row] = self.tokenizer.decode(new[row], skip_special_tokens=True)
                end = sentence_end(texts[row]) if stop == "sentence" else None
                if end is not None:
                    texts[row], running[row] = texts[row][:end], False
            if not any(running) or step == max_new_tokens - 1:
                break
            seen = torch.cat([seen, _ones(batch, 1, self.device)], dim=1)
            out = self.network.base_model(
                inputs_embeds=self.embed(chosen[:, None]),
                attention_mask=seen.long(),
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            hidden, position = out.last_hidden_state[:, -1], position + 1
        return [
            Completion(text.strip(), cut=unfinished)
            for text, unfinished in zip(texts, running, strict=True)
        ]

    def weights_digest(self) -> str:
        """Returns the SHA-256 of all weights: equal before and after whatever is trained on it."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            if not isinstance(tensor, Tensor):
                continue
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().contiguous().view(-1).cpu()
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        return digest.hexdigest()

    def _read(
        self,
        embeddings: Tensor,
        mask: Tensor | None,
        prefix: Prefix | None,
        positions: Tensor | None,
        *,
        keep: bool,
    ) -> tuple[Tensor, Any]:
        batch, length, _ = embeddings.shape
        before = None if prefix is None else prefix.expanded(batch)
        seen, positions = self._seen(batch, length, mask, before, positions)
        cache = empty_cache() if before is None else before.cache()
        keeps = keep or before is not None
        out = self.network.base_model(
            inputs_embeds=embeddings.to(device=self.device, dtype=self.dtype),
            attention_mask=seen,
            position_ids=positions,
            past_key_values=cache if keeps else None,
            use_cache=keeps,
        )
        return out.last_hidden_state, cache

    def _seen(
        self,
        batch: int,
        length: int,
        mask: Tensor | None,
        before: Prefix | None,
        positions: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Returns the attention mask, ``None`` where nothing is padded, and positions."""
        mask = None if mask is None else mask.to(self.device)
        if mask is not None and mask.dim() == 3:
            if positions is None:
                raise ValueError("a mask of which place sees which needs positions")
            least = torch.finfo(self.dtype).min
            seen = torch.zeros(mask.shape, dtype=self.dtype, device=self.device)
            return seen.masked_fill_(~mask, least)[:, None], positions.to(self.device)
        own = _ones(batch, length, self.device) if mask is None else mask
        whole = own if before is None else torch.cat([before.mask, own], dim=1)
        if positions is None:
            positions = (whole.cumsum(dim=1) - 1).clamp_(min=0)[:, -length:]
        padded = mask is not None or before is not None
        if padded and not bool(whole.all()):
            return whole.long(), positions.to(self.device)
        return None, positions.to(self.device)

    def _forward_joined(
        self,
        embeddings: Tensor,
        mask: Tensor | None,
        prefix: Prefix,
        positions: Tensor | None,
        at: Tensor | None,
    ) -> Tensor:
        """Reads the prefix again, as layers that compute twice cannot continue a cache."""
        batch, length, _ = embeddings.shape
        before = prefix.expanded(batch)
        if mask is not None and mask.dim() == 3:
            causal = torch.ones(prefix.length, prefix.length, dtype=torch.bool).tril()
            above = before.mask[:, None, :] & causal.to(self.device)
            above = torch.cat([above, above.new_zeros(batch, prefix.length, length)], dim=2)
            joined_mask = torch.cat([above, mask.to(self.device)], dim=1)
        else:
            own = _ones(batch, length, self.device) if mask is None else mask.to(self.device)
            joined_mask = torch.cat([before.mask, own], dim=1)
        if positions is not None:
            earlier = (before.mask.cumsum(dim=1) - 1).clamp(min=0)
            positions = torch.cat([earlier, positions.to(self.device)], dim=1)
        joined = torch.cat([before.embeddings.to(embeddings), embeddings], dim=1)
        hidden, _ = self._read(joined, joined_mask, None, positions, keep=False)
        hidden = hidden[:, prefix.length :]
        return hidden if at is None else _pick(hidden, at)

    @torch.no_grad()
    def _refuse_other_heads(self) -> None:
        ids = torch.arange(4, device=self.device)[None] % self._embedding.weight.shape[0]
        whole = self.network(input_ids=ids).logits.float()
        apart = self.logits(self.forward(self.embed(ids)))
        scale = float(whole.abs().max()) + 1e-6
        if float((whole - apart).abs().max()) > 0.02 * scale:
            kind = type(self.network).__name__
            raise ArtifactError(
                f"{self.name} is a {kind}, which does more after its last hidden state than one "
                "linear map; its scores would not be its own here",
                hint="Use another architecture, such as LLaMA, OPT, Qwen, Mistral or GPT-2.",
            )


def _pick(hidden: Tensor, at: Tensor) -> Tensor:
    """Returns hidden states ``(batch, n, dim)`` at places ``(batch, n)``."""
    index = at.to(hidden.device).clamp(min=0)[:, :, None].expand(-1, -1, hidden.shape[2])
    return hidden.gather(1, index)


def _ones(batch: int, length: int, device: torch.device) -> Tensor:
    return torch.ones(batch, length, dtype=torch.bool, device=device)


def _pad_id(tokenizer: Any) -> int:
    """Returns a token to fill rows up with; many models have none, and masks hide it anyway."""
    for name in ("pad_token_id", "eos_token_id", "bos_token_id", "unk_token_id"):
        found = getattr(tokenizer, name, None)
        if found is not None:
            return int(found)
    return 0


def _end_ids(tokenizer: Any, network: Any) -> set[int]:
    """Returns the tokens that end a text."""
    ends: set[int] = set()
    settings = getattr(network, "generation_config", None)
    for found in (tokenizer.eos_token_id, getattr(settings, "eos_token_id", None)):
        ends |= {found} if isinstance(found, int) else set(found or ())
    return ends


def _without_dropout(network: Any) -> None:
    """Sets every rate of dropout to zero: a model that never learns never drops anything."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _checkpoint_layers(network: Any) -> None:
    """Makes the layers compute again for the gradient; they do it only when they are training."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    enable = getattr(network, "activation_checkpointing_enable", None)  # its name from 5.23 on
    (enable or network.gradient_checkpointing_enable)({"use_reentrant": False})
    for module in network.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True  # itself alone; without dropout nothing else changes
