"""Answers of a local language model that begin as they are told, and read soft tokens too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dynmm_framework.language.conversation import Message
from dynmm_framework.language.tokens import TextTokens

if TYPE_CHECKING:
    from torch import Tensor

    from dynmm_framework.language.chat import LocalChat


def complete_from(
    chat: LocalChat,
    conversations: Sequence[Sequence[Message]],
    openings: Sequence[str],
    *,
    max_new_tokens: int,
    soft: Tensor | None = None,
) -> list[str]:
    """Answers conversations greedily, each answer from its opening on.

    Args:
        chat: The language model.
        conversations: The conversations.
        openings: How each answer begins.
        max_new_tokens: Most tokens to add to an opening.
        soft: Soft tokens, ``(n, E, hidden_size)``, that the model reads behind the last message's
            words.

    Returns:
        The answers, openings included.
    """
    import torch

    llm, literal = chat.llm, TextTokens(chat.llm.tokenizer).literal
    width = 0 if soft is None else soft.shape[1]
    parts = []
    for conversation, opening in zip(conversations, openings, strict=True):
        before, after = _halves(chat, conversation)
        parts.append((before, [*after, *literal(opening)]))
    length = max((len(before) + width + len(after) for before, after in parts), default=0)
    ids = torch.full((len(parts), length), llm.pad_id)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (before, after) in enumerate(parts):
        whole = [*before, *[llm.pad_id] * width, *after]
        ids[row, : len(whole)] = torch.tensor(whole)
        mask[row, : len(whole)] = True
    with torch.no_grad():
        embeddings = llm.embed(ids).clone()
        if soft is not None:
            for row, (before, _) in enumerate(parts):
                embeddings[row, len(before) : len(before) + width] = soft[row].to(embeddings)
        written = llm.generate(embeddings, mask=mask, max_new_tokens=max_new_tokens, stop="length")
    return [f"{a} {b.text}".strip() for a, b in zip(openings, written, strict=True)]


def _halves(chat: LocalChat, conversation: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Returns a conversation's tokens up to its last word, and those that follow it."""
    *before, last = conversation
    whole = chat.tokens(conversation)
    bare = chat.tokens([*before, Message(last.role, "")])
    after = 0
    while after < len(bare) and whole[-1 - after] == bare[-1 - after]:
        after += 1
    place = len(whole) - after
    return whole[:place], whole[place:]
