"""Texts to tokens: those of items are data, and can be nothing but text to a language model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Any

_JOINERS = "\u200c\u200d"
"""Invisible characters that belong to words and emoji; all others are taken out."""
_BRACKETS = str.maketrans({"<": "‹", ">": "›"})
_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n")
_CHARACTERS_A_TOKEN = 24
"""More than a token of any usual vocabulary stands for on average."""


def clean(text: str) -> str:
    """Returns an item's text as one line that can neither open nor close a part of a prompt.

    White space of any kind, line ends included, becomes single spaces; control characters, marks
    of writing direction, invisible characters and broken surrogates go; ``<`` and ``>``, of which
    markers of segments and most special tokens are made, become ``‹`` and ``›``. All else stays,
    whatever the script.
    """
    spaced = "".join(" " if char.isspace() else char for char in text)
    kept = (
        char
        for char in unicodedata.normalize("NFC", spaced)
        if char in _JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    )
    return " ".join("".join(kept).split()).translate(_BRACKETS)


def sentence_end(text: str) -> int | None:
    """Returns the length of a text's first sentence; ``None`` if it has no end yet.

    A line's end is one too. A stop counts once white space follows: what reads ``3.`` may become
    ``3.5``. Stops before the text's first letter do not count.
    """
    start = next((place for place, char in enumerate(text) if char.isalnum()), None)
    if start is None:
        return None
    found = _SENTENCE.search(text, start)
    return None if found is None else found.end()


class TextTokens:
    """Turns texts into token ids, piece by piece, so that each piece's number is exact.

    No piece gives a special token, whatever its text says.

    Args:
        tokenizer: A tokenizer of the transformers library.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._special = {
            *(int(token) for token in tokenizer.all_special_ids),
            *(int(token) for token in tokenizer.get_added_vocab().values()),
        }
        # Some tokenizers put a space before every text of their own accord.
        self._space = "" if self._ids("x") == self._ids(" x") else " "

    @cached_property
    def start(self) -> tuple[int, ...]:
        """What the tokenizer puts before every sequence: the token of its beginning, or nothing."""
        bos = self.tokenizer.bos_token_id
        whole = self.tokenizer("x")["input_ids"]
        return (int(bos),) if bos is not None and whole[:1] == [bos] else ()

    def literal(self, text: str) -> tuple[int, ...]:
        """Returns the tokens of a template's own words."""
        return tuple(self._ids(text)) if text else ()

    def item(self, text: str | None, *, limit: int | None = None) -> tuple[int, ...]:
        """Returns the tokens of an item's text after :func:`clean`, with a space before it.

        Args:
            text: The text; nothing is left of ``None`` and of white space.
            limit: Most tokens; the rest is cut off.
        """
        # A text of megabytes is cut before it is read, not after.
        text = text if text is None or limit is None else text[: limit * _CHARACTERS_A_TOKEN]
        cleaned = clean(text or "")
        if not cleaned:
            return ()
        ids = self._ids(self._space + cleaned)
        if not self._special.isdisjoint(ids):
            for content in sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True):
                if len(content) > 1:
                    cleaned = cleaned.replace(content, f"{content[0]} {content[1:]}")
            ids = [i for i in self._ids(self._space + cleaned) if i not in self._special]
        return tuple(ids if limit is None else ids[:limit])

    def items(
        self, texts: Sequence[str | None], *, limit: int | None = None
    ) -> list[tuple[int, ...]]:
        """Returns the tokens of many items' texts."""
        return [self.item(text, limit=limit) for text in texts]

    def _ids(self, text: str) -> list[int]:
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return [int(token) for token in encoded["input_ids"]]
