"""Conversations with a language model that is reached through its embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dynmm_framework.errors import StageError
from dynmm_framework.language.batches import Rows, by_length, compute_batches
from dynmm_framework.language.conversation import ChatModel, Completion, Message
from dynmm_framework.language.scoring import MAX_TOKENS
from dynmm_framework.language.tokens import TextTokens
from dynmm_framework.protocols import LanguageModel

_SLOT = "\ue000{}\ue001"
"""Stands for a message's content while the template is filled in; no text of ours has it."""


def as_chat_model(llm: Any, *, log: Callable[[str], None] | None = None) -> ChatModel:
    """Returns a language model that answers in words: itself if it does, or by generation.

    Args:
        llm: A component of the kind ``language_model``.
        log: Told when memory runs out and batches are halved.
    """
    if callable(getattr(llm, "complete", None)):
        chat: ChatModel = llm
        return chat
    return LocalChat(llm, log=log)


class LocalChat:
    """Answers by greedy generation.

    A message's content becomes tokens on its own and never a special one, so nothing in it can end
    its message or begin another, where a template marks messages by special tokens. Templates whose
    marks are plain text, such as ``[INST]``, cannot be guarded that way.

    Args:
        llm: The language model; its tokenizer's chat template is used, if it has one.
        log: Told when memory runs out and batches are halved.
    """

    def __init__(self, llm: LanguageModel, *, log: Callable[[str], None] | None = None) -> None:
        self.llm = llm
        self._text = TextTokens(llm.tokenizer)
        self._log = log or _silent

    def fits(self, conversation: Sequence[Message], *, max_new_tokens: int) -> bool:
        return len(self.tokens(conversation)) + max_new_tokens <= self.llm.context_length

    @torch.no_grad()
    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int
    ) -> Sequence[Completion]:
        texts = [self.tokens(conversation) for conversation in conversations]
        longest = max(map(len, texts), default=0)
        if longest + max_new_tokens > self.llm.context_length:
            raise StageError(
                f"a conversation of {longest:,} tokens and an answer of {max_new_tokens:,} do not "
                f"fit into the context of {self.llm.context_length:,} tokens",
                hint="Ask with a shorter history, fewer candidates or shorter titles, or choose a "
                "model with a longer context.",
            )

        def answer(rows: Rows) -> Sequence[Completion]:
            length = max(len(texts[row]) for row in rows)
            ids = torch.full((len(rows), length), self.llm.pad_id)
            mask = torch.zeros(ids.shape, dtype=torch.bool)
            for place, row in enumerate(rows):
                ids[place, : len(texts[row])] = torch.tensor(texts[row])
                mask[place, : len(texts[row])] = True
            return self.llm.generate(
                self.llm.embed(ids), mask=mask, max_new_tokens=max_new_tokens, stop="length"
            )

        found = [Completion("")] * len(texts)
        groups = by_length([len(ids) for ids in texts], max_tokens=MAX_TOKENS)
        for rows, written in compute_batches(groups, answer, log=self._log):
            for row, completion in zip(rows, written, strict=True):
                found[row] = completion
        return found

    def tokens(self, conversation: Sequence[Message]) -> list[int]:
        """Returns a conversation's tokens, up to where the answer begins."""
        rendered = self._rendered(conversation)
        out: list[int] = []
        for number, message in enumerate(conversation):
            before, slot, rendered = rendered.partition(_SLOT.format(number))
            if not slot:
                raise StageError(
                    f"this model's chat template leaves out the {message.role}'s message",
                    hint="Choose a model with a usual chat template, or one without any.",
                )
            out += self._frame(before)
            out += self._text.literal(message.content)
        return [*out, *self._frame(rendered)]

    def _frame(self, text: str) -> Sequence[int]:
        """Returns the tokens of a template's own words, special ones among them."""
        if not text:
            return ()
        found: list[int] = self.llm.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def _rendered(self, conversation: Sequence[Message]) -> str:
        slots = [
            {"role": message.role, "content": _SLOT.format(number)}
            for number, message in enumerate(conversation)
        ]
        tokenizer = self.llm.tokenizer
        if getattr(tokenizer, "chat_template", None):
            text: str = tokenizer.apply_chat_template(
                slots, tokenize=False, add_generation_prompt=True
            )
            return text
        start = tokenizer.decode(list(self._text.start)) if self._text.start else ""
        said = "".join(f"{slot['role'].capitalize()}: {slot['content']}\n\n" for slot in slots)
        return f"{start}{said}Assistant:"


def _silent(*_: object) -> None:
    """Says nothing."""
