"""Writes prompts: a template's wording, items as text that stays text, places for soft tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dynmm_framework.errors import StageError
from dynmm_framework.language.soft import HOLE, Prompt
from dynmm_framework.language.tokens import TextTokens
from dynmm_framework.language.wording import PromptTemplate
from dynmm_framework.protocols import LanguageModel

Slots = Literal["none", "inline", "after"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An item in a prompt: its title's tokens, then its soft tokens.

    Attributes:
        ids: Tokens of the title, as :meth:`PromptWriter.title` returns them; may be empty.
        soft: Number of soft tokens.
    """

    ids: tuple[int, ...] = ()
    soft: int = 0

    def __len__(self) -> int:
        return len(self.ids) + self.soft


class PromptWriter:
    """Writes prompts of one template for one language model.

    Args:
        template: The wording.
        llm: Gives the tokenizer and the context.

    Attributes:
        head: Tokens that every prompt begins with.
        cut: Prompts so far whose history did not fit as a whole.
        dropped: Items of histories that were left out so far.
    """

    def __init__(self, template: PromptTemplate, llm: LanguageModel) -> None:
        self.template = template
        self.context_length = llm.context_length
        self.text = TextTokens(llm.tokenizer)
        self.head = (*self.text.start, *self.text.literal(template.system))
        self.cut = 0
        self.dropped = 0
        self.written = 0
        self._entry = self.text.literal(template.entry)
        self._openings = {
            name: self.text.literal(getattr(template, name))
            for name in ("user", "history", "evidence", "candidates", "task")
        }

    def title(self, text: str | None) -> tuple[int, ...]:
        """Returns the tokens of a title, none if there is nothing in it."""
        return self.text.item(text, limit=self.template.title_tokens)

    def answer(self, title: tuple[int, ...]) -> tuple[int, ...]:
        """Returns what is scored for a candidate: its title's tokens and the end of the answer."""
        return (*title, *self.text.literal(self.template.answer_end))

    def write(
        self,
        *,
        history: Sequence[Entry] = (),
        candidates: Sequence[Entry] = (),
        user: int = 0,
        evidence: int = 0,
        slots: Slots = "inline",
        reserve: int = 0,
    ) -> Prompt:
        """Writes one prompt; the oldest items of the history go first if it is too long.

        Args:
            history: The user's items, oldest first; those without tokens are left out.
            candidates: What is to be ranked.
            user: Number of soft tokens of the user.
            evidence: Number of soft tokens of the evidence.
            slots: Where each candidate's score is read: at its last token (``inline``), which sees
                the candidates before it; at a soft token of its own after the task (``after``),
                which sees the whole prompt; or nowhere.
            reserve: Tokens of the context to leave for what follows the prompt.

        Raises:
            StageError: If the prompt does not fit into the context without any history.
        """
        asked = [entry for entry in history if len(entry)]
        after = len(candidates) if slots == "after" else 0
        rest = (
            len(self.head)
            + (len(self._openings["user"]) + user if user else 0)
            + (len(self._openings["evidence"]) + evidence if evidence else 0)
            + (len(self._openings["candidates"]) if candidates else 0)
            + sum(len(self._entry) + len(entry) for entry in candidates)
            + len(self._openings["task"])
            + after
        )
        room = self.context_length - reserve - rest
        if room < 0:
            raise StageError(
                f"a prompt of {rest} tokens without any history, with {reserve} to follow, is "
                f"longer than the context of {self.context_length} tokens",
                hint="Take fewer candidates or less evidence, shorten the template or "
                "title_tokens, or choose a model with a longer context.",
            )
        kept = _newest(asked, room - len(self._openings["history"]), len(self._entry))
        self.written += 1
        self.cut += kept < len(asked)
        self.dropped += len(asked) - kept
        parts = _Parts()
        parts.add("system", self.head)
        if user:
            parts.add("user", self._openings["user"])
            parts.hole("user", user)
        if kept:
            parts.add("history", self._openings["history"])
            for entry in asked[len(asked) - kept :]:
                parts.add("history", (*self._entry, *entry.ids))
                parts.hole("history", entry.soft)
        if evidence:
            parts.add("evidence", self._openings["evidence"])
            parts.hole("evidence", evidence)
        places = []
        if candidates:
            parts.add("candidates", self._openings["candidates"])
            for entry in candidates:
                parts.add("candidates", (*self._entry, *entry.ids))
                parts.hole("candidates", entry.soft)
                places.append(len(parts) - 1)
        parts.add("task", self._openings["task"])
        if after:
            places = list(range(len(parts), len(parts) + after))
            parts.hole("slots", after)
        return Prompt(
            ids=np.array(parts.ids, dtype=np.int64),
            soft={name: np.array(found, dtype=np.int64) for name, found in parts.soft.items()},
            spans=parts.spans,
            slots=np.array([] if slots == "none" else places, dtype=np.int64),
            head=len(self.head),
            kept=kept,
            dropped=len(asked) - kept,
        )

    def tell(self, log: Callable[[str], None]) -> None:
        """Says, if so, that histories were cut, and starts counting afresh."""
        if self.cut:
            log(
                f"{self.cut:,} of {self.written:,} prompts did not fit into "
                f"{self.context_length:,} tokens: the oldest {self.dropped:,} items of their "
                "histories were left out"
            )
        self.cut = self.dropped = self.written = 0


class _Parts:
    """Collects tokens with the segment that they belong to."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.soft: dict[str, list[int]] = {}
        self.spans: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, segment: str, ids: Sequence[int]) -> None:
        start = self.spans.get(segment, (len(self.ids), 0))[0]
        self.ids += ids
        self.spans[segment] = (start, len(self.ids))

    def hole(self, segment: str, number: int) -> None:
        if number:
            places = range(len(self.ids), len(self.ids) + number)
            self.soft.setdefault(segment, []).extend(places)
            self.add(segment, [HOLE] * number)


def _newest(entries: Sequence[Entry], room: int, bullet: int) -> int:
    """Returns how many of the newest entries fit into ``room`` tokens."""
    for kept, entry in enumerate(reversed(entries)):
        room -= bullet + len(entry)
        if room < 0:
            return kept
    return len(entries)
