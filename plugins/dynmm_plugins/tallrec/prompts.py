"""TALLRec's prompts, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.errors import StageError
from dynmm_framework.language.tokens import TextTokens
from dynmm_framework.protocols import LanguageModel
from dynmm_plugins.tallrec.config import TALLRecTemplate

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """The two answers, as the tokenizer writes them where an answer stands.

    Attributes:
        before: Tokens of what comes just before the answer.
        yes: Tokens of the one answer; the first tells it from the other.
        no: Tokens of the other.
    """

    before: Tokens
    yes: Tokens
    no: Tokens

    @property
    def longest(self) -> int:
        return max(len(self.yes), len(self.no))


def answers(text: TextTokens, template: TALLRecTemplate) -> Answers:
    """Returns the tokens of both answers, read after the words that stand before them.

    A tokenizer writes a word otherwise at a line's start than behind a space, so the answers are
    looked up where they stand; behind anything but white space, a space goes before them.

    Raises:
        StageError: If both begin with the same token, which then cannot tell them apart.
    """
    space = "" if not template.task or template.task[-1].isspace() else " "
    before = text.literal(template.task)
    found = []
    for answer in (template.yes, template.no):
        wanted = answer if answer[0].isspace() else space + answer
        whole = text.literal(template.task + wanted)
        # Where the answer melts into what is before it, it is read on its own.
        joined = whole[: len(before)] == before and len(whole) > len(before)
        found.append(whole[len(before) :] if joined else text.literal(wanted))
    yes, no = found
    if yes[0] == no[0]:
        shown = text.tokenizer.decode([yes[0]])
        raise StageError(
            f"the answers {template.yes!r} and {template.no!r} begin with the same token "
            f"{shown!r} of this tokenizer, so no probability tells them apart",
            hint="Choose other answers in template.yes and template.no.",
        )
    return Answers(before, yes, no)


class Writer:
    """Writes prompts for one language model.

    Attributes:
        head: Tokens that every prompt begins with.
        answers: The two answers.
        cut: Prompts so far whose history did not fit as a whole.
    """

    def __init__(
        self, template: TALLRecTemplate, titles: Sequence[str], llm: LanguageModel
    ) -> None:
        text = TextTokens(llm.tokenizer)
        self.answers = answers(text, template)
        self.head: Tokens = (
            *text.start,
            *text.literal(template.system),
            *text.literal(template.liked),
        )
        self.cut = self.written = 0
        self._context = llm.context_length
        self._disliked = text.literal(template.disliked)
        self._target = text.literal(template.target)
        self._separator = text.literal(template.separator)
        self._titles = [_quoted(text, title, template.title_tokens) for title in titles]

    def titled(self, item: int) -> bool:
        """Tells whether an item has a title."""
        return bool(self._titles[item])

    def continuation(self, item: int) -> Tokens:
        """Returns what follows a prompt to ask for one item, up to the answer."""
        return (*self._titles[item], *self.answers.before)

    def prompt(self, items: NDArray[np.int32], liked: NDArray[np.bool_], *, reserve: int) -> Tokens:
        """Returns a prompt without its head, up to the item that is judged.

        Args:
            items: What the user judged, oldest first; items without a title are left out.
            liked: Whether the user liked them.
            reserve: Tokens of the context to leave for what follows.

        Raises:
            StageError: If the prompt does not fit into the context without any history.
        """
        fixed = len(self.head) + len(self._disliked) + len(self._target)
        room = self._context - fixed - reserve
        if room < 0:
            raise StageError(
                f"a prompt of {fixed} tokens without any history, with {reserve} to follow, is "
                f"longer than the context of {self._context} tokens",
                hint="Shorten the template or title_tokens, or choose a model with a longer "
                "context.",
            )
        kept: list[tuple[Tokens, bool]] = []
        known = [(self._titles[i], bool(good)) for i, good in zip(items, liked, strict=True)]
        known = [(title, good) for title, good in known if title]
        for title, good in reversed(known):
            room -= len(title) + len(self._separator)
            if room < 0:
                break
            kept.append((title, good))
        self.written += 1
        self.cut += len(kept) < len(known)
        kept.reverse()
        return (
            *self._joined([title for title, good in kept if good]),
            *self._disliked,
            *self._joined([title for title, good in kept if not good]),
            *self._target,
        )

    def _joined(self, titles: Sequence[Tokens]) -> Tokens:
        out: list[int] = []
        for number, title in enumerate(titles):
            out += [*(self._separator if number else ()), *title]
        return tuple(out)


def _quoted(text: TextTokens, title: str, limit: int) -> Tokens:
    """Returns the tokens of a title in double quotes, none if there is nothing in it."""
    plain = " ".join(title.replace('"', "'").split())
    return text.item(f'"{plain}"', limit=limit) if text.item(plain) else ()
