"""Numbers of a sentence and its clauses: what they are, and which of them belong together."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dynmm_framework.explain.cases import Cited
from dynmm_framework.explain.lexicon import (
    LIKE_YOU,
    NUMBER_WORDS,
    PEOPLE,
    TIMES,
    UNITS,
    UNTOLD,
)
from dynmm_framework.explain.vocabulary import Word, plainly

if TYPE_CHECKING:
    from dynmm_framework.explain.claims import Claim

_DIGITS = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_MORE = re.compile(r"[A-Za-z]|[-–—/]\s?\d")
"""What makes another number of digits: ``38k``, ``7-9``, ``3rd``."""
_SIGNS = ("$", "€", "£", "¥", "#", "№")
_PLACES = "number no nr rank ranked top part chapter season episode volume"
_ORDERS = frozenset(_PLACES.split())
"""Words after which a number says a place in an order."""
_BETWEEN = ("of", "out", "in", "from", "among")
_BREAK = re.compile(r"[,;:.!?()]|\b(?:because|but|while|since|and it|and people|and its)\b")
_ASIDE = re.compile(r"[\W_]*\((?:\d+ of(?: your| the)?(?: last)? )?")
"""What stands between a name and the numbers in brackets that are of it."""
_CLAUSE = re.compile(r",(?!\d{3})|[;:!?()]|\.(?!\d)|\b(?:because|but|while|since|and)\b", re.I)


class Numbers:
    """Looks for the numbers of a sentence in the evidence.

    Args:
        sentence: The sentence.
        words: Its words.
        evidence: The evidence.
    """

    def __init__(self, sentence: str, words: Sequence[Word], evidence: Sequence[Cited]) -> None:
        self.sentence, self.plain = sentence, plainly(sentence)
        self.words, self.evidence = words, evidence

    def held(self, place: int, value: float, found: Sequence[Claim]) -> tuple[str, ...]:
        """Returns what a number rests on.

        Args:
            place: The number's word.
            value: The number.
            found: What else the sentence claims: titles, attributes, quotations.
        """
        after = self._after(place)
        rest = self.plain[self.words[place].end :]
        percent = rest.startswith(("%", " %", " percent", " per cent", "‰"))
        wanted = ("share",) if percent else UNITS.get(after, ())
        value = value / 100 if percent else value
        named = self._nearest_attribute(place, found)
        pair = pair_of(self.words, place, self.sentence)
        held = []
        for cited in self.evidence:
            if named and cited.support and cited.fact.kind == "attribute" and cited.id not in named:
                continue
            if pair is not None and not self._holds_pair(place, pair, cited, found):
                continue
            if after not in TIMES and not self._in_clause(place, cited):
                continue
            for name, number in cited.numbers.items():
                fits = name in wanted if wanted else name not in UNTOLD
                if fits and abs(number - value) < 0.005 and self._is_told(name, cited):
                    held.append(cited.id)
        return tuple(dict.fromkeys(held))

    def _holds_pair(
        self, place: int, pair: tuple[float, float], cited: Cited, found: Sequence[Claim]
    ) -> bool:
        """Tells whether a record has both numbers of ``7 of your last 20``.

        What was counted must be named, else they are of nothing, and they are of what stands right
        before them: ``Comedy, and Babe (7 of your last 20)`` says it of Babe.
        """
        values = cited.fact.values
        if pair in [(values.get("count"), values.get(of)) for of in ("users", "of")]:
            return True
        if (cited.support, cited.of) != pair:
            return False
        start = self.words[place].start
        named = [claim for claim in found if claim.kind != "number"]
        last = max((c for c in named if c.end <= start), key=lambda c: c.end, default=None)
        if last is not None and last.supported:
            between = self.sentence[last.end : start]
            if _ASIDE.fullmatch(between) and cited.id not in last.evidence:
                return False
        return any(cited.id in claim.evidence for claim in named)

    def _in_clause(self, place: int, cited: Cited) -> bool:
        """Tells whether a record bears a number out beside what the same clause says of it.

        Where a clause says in how many days, or that people are like someone, its other numbers
        are of a record that says so, too.
        """
        begin, end = clause_around(self.sentence, self.words[place].start)
        of_people = self._after(place) in PEOPLE or "users" in cited.fact.values
        if of_people and LIKE_YOU.search(self.plain, begin, end) and cited.fact.kind != "cohort":
            return False
        times = [
            value_of(self.words, n, self.sentence)
            for n, word in enumerate(self.words)
            if begin <= word.start < end and self._after(n) in TIMES
        ]
        return all(value is None or value in cited.numbers.values() for value in times)

    def _is_told(self, name: str, cited: Cited) -> bool:
        """Tells whether a number may stand as it does: a group's size only beside those who chose.

        Else ``120 people chose it`` would pass where 37 of them did.
        """
        count = cited.fact.values.get("count")
        if name != "users" or count is None:
            return True
        places = range(len(self.words))
        return any(value_of(self.words, place, self.sentence) == count for place in places)

    def _nearest_attribute(self, place: int, found: Sequence[Claim]) -> tuple[str, ...]:
        start = self.words[place].start
        before = [c for c in found if c.kind == "attribute" and c.end <= start]
        return before[-1].evidence if before else ()

    def _after(self, place: int) -> str:
        return self.words[place + 1].key if place + 1 < len(self.words) else ""


def value_of(words: Sequence[Word], place: int, sentence: str) -> float | None:
    """Returns the number that a word is; infinite if no record can hold what it says.

    That is so of prices, places in an order, spans (``7-9``) and thousands in short (``38k``).
    """
    word = words[place]
    known = _spelt(word)
    if known is not None:
        return known
    match = _DIGITS.match(sentence, word.start)
    if match is None:
        odd = any(unicodedata.category(char) in ("No", "Nl") for char in word.text)
        return math.inf if odd and not word.text.isalpha() else None
    before = sentence[: word.start].rstrip()
    ordered = bool(place) and words[place - 1].key in _ORDERS
    after = sentence[match.end() : match.end() + 3]
    more = _MORE.match(after) is not None and not _is_share(words, place, sentence)
    if more or ordered or before.endswith(_SIGNS) or unicodedata.category(after[:1] or " ") == "No":
        return math.inf
    return float(match.group().replace(",", ""))


def _spelt(word: Word) -> float | None:
    """Returns the number that a word spells, such as ``twenty-five``."""
    if word.key in NUMBER_WORDS:
        return NUMBER_WORDS[word.key]
    parts = word.text.casefold().split("-")
    values = [1.0 if part == "one" else NUMBER_WORDS.get(part) for part in parts]
    tens, *rest = values
    if tens is None or len(parts) < 2:
        return None
    if len(rest) == 1 and rest[0] is not None and 20 <= tens < 100 and rest[0] < 10:
        return tens + rest[0]
    return math.inf


def _is_share(words: Sequence[Word], place: int, sentence: str) -> bool:
    """Tells whether digits are one of two with a stroke between them, as ``7/20``."""
    return words[place].text.isdigit() and sentence[words[place].end :].startswith("/")


def pair_of(words: Sequence[Word], place: int, sentence: str) -> tuple[float, float] | None:
    """Returns both numbers of ``7 of your last 20``, whichever of them is asked about.

    So of ``7 out of 20``, ``7/20`` and ``7 in your last 20``, but not of ``7 in 30 days``.
    """
    for first in range(place, max(place - 6, -1), -1):
        value = value_of(words, first, sentence)
        rest = words[first + 1 : first + 6]
        if value is None or not rest:
            continue
        stroke = sentence[words[first].end : rest[0].start].strip() == "/"
        if not stroke and rest[0].key not in _BETWEEN:
            continue
        for step in range(1, len(rest) + 1):
            whole = value_of(words, first + step, sentence)
            if whole is None:
                continue
            after = words[first + step + 1].key if first + step + 1 < len(words) else ""
            timed = rest[0].key != "of" and after in TIMES
            if first + step >= place and not timed:
                return value, whole
            break
    return None


def clause_around(sentence: str, start: int) -> tuple[int, int]:
    """Returns where the clause begins and ends that holds a character."""
    begin, end = 0, len(sentence)
    for found in _CLAUSE.finditer(sentence):
        if found.end() <= start:
            begin = found.end()
        elif found.start() > start:
            end = found.start()
            break
    return begin, end


def clause_end(masked: str, start: int) -> int:
    """Returns where the clause ends that goes on at a character."""
    found = _BREAK.search(masked, start)
    return len(masked) if found is None else found.start()


def clause_start(masked: str, end: int) -> int:
    """Returns where the clause begins that a relative one follows."""
    cut = masked[:end].rstrip(" ,")
    return max((m.end() for m in _BREAK.finditer(cut)), default=0)
