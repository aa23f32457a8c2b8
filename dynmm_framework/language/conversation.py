"""What a language model can do that is asked in words alone. No torch import.

It goes beside :class:`dynmm_framework.protocols.LanguageModel`, which is reached through its
embeddings: a component of the kind ``language_model`` is one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Who says it: ``system``, ``user`` or ``assistant``.
        content: What is said; nothing in it can pass for another message.
    """

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What a language model answers.

    Attributes:
        text: The answer.
        logprobs: Its tokens and their log-probabilities, in order; ``None`` where the model does
            not tell.
        cut: Whether the bound on tokens ended it rather than the model: its last line, or word, may
            be half of what was meant.
    """

    text: str
    logprobs: tuple[tuple[str, float], ...] | None = None
    cut: bool = False


@runtime_checkable
class ChatModel(Protocol):
    """A language model that is asked in words and answers in words: served ones have no more.

    A model that is reached through its embeddings
    (:class:`dynmm_framework.protocols.LanguageModel`) becomes one by
    :func:`dynmm_framework.language.chat.as_chat_model`.
    """

    def fits(self, conversation: Sequence[Message], *, max_new_tokens: int) -> bool:
        """Tells whether a conversation and an answer of that length fit into the context."""
        ...

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int
    ) -> Sequence[Completion]:
        """Answers each conversation, in order.

        Raises:
            StageError: If one does not fit into the context, or the model cannot be reached; says
                what was tried.
        """
        ...
