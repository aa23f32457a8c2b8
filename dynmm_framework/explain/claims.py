"""What a sentence claims, and whether the evidence holds it.

A claim is a title, an attribute, a number, a quotation, a name, or praise. Titles and attributes
are found by the catalogue's own vocabulary, the others by their looks, so a sentence that keeps to
plain small words can still say what nothing bears out: the checker reads words, not meaning. What
it claims may not be denied either: a sentence with claims and a word of negation beside them is
refused whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dynmm_framework.explain.cases import Case, Cited
from dynmm_framework.explain.lexicon import (
    ACTS,
    ITSELF,
    LIKENESS,
    LINK,
    NEGATION,
    NUMBER_WORDS,
    ORDINARY,
    PRAISE,
    QUOTED,
    UNITS,
    UNTOLD,
)
from dynmm_framework.explain.vocabulary import Vocabulary, Word, folded, words_of

ClaimKind = Literal[
    "title", "attribute", "number", "quotation", "name", "praise", "link", "act", "negation"
]
ITEM = "item"
"""What a claim rests on that names the recommended item itself."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a sentence says and that must be borne out.

    Attributes:
        kind: What it is.
        text: The words, as they stand in the sentence.
        start: Their first character.
        end: The one after their last.
        evidence: Records that it rests on, by their ids; ``item`` for the item's own title.
        reason: Why nothing bears it out; empty if something does.
    """

    kind: ClaimKind
    text: str
    start: int
    end: int
    evidence: tuple[str, ...] = ()
    reason: str = ""

    @property
    def supported(self) -> bool:
        return not self.reason


def unsupported(claims: Iterable[Claim]) -> list[Claim]:
    """Returns the claims that nothing bears out."""
    return [claim for claim in claims if not claim.supported]


class Checker:
    """Finds what sentences claim and looks for it in the evidence.

    Args:
        vocabulary: Titles and attributes that could be named.
        allowed: Words that templates use and that therefore claim nothing, whatever their case.
    """

    def __init__(self, vocabulary: Vocabulary, *, allowed: Iterable[str] = ()) -> None:
        self.vocabulary = vocabulary
        self._allowed = {word.key for text in allowed for word in words_of(text)}

    def check(self, sentence: str, case: Case) -> list[Claim]:
        """Returns every claim of a sentence, in order.

        Args:
            sentence: The sentence, by whomever.
            case: What it is about, with the evidence.
        """
        return _Reading(self, sentence, case).claims()

    def is_ordinary(self, word: Word) -> bool:
        """Tells whether a capital letter makes no name of a word."""
        return word.key in ORDINARY or word.key in self._allowed or len(word.key) < 2


class _Reading:
    """One sentence, read once."""

    def __init__(self, checker: Checker, sentence: str, case: Case) -> None:
        self.checker, self.sentence, self.case = checker, sentence, case
        self.words = words_of(sentence)
        self.taken = [False] * len(self.words)
        self.found: list[Claim] = []

    def claims(self) -> list[Claim]:
        self._quotations()
        self._titles()
        self._links()
        self._attributes()
        self._praise()
        self._numbers()
        self._names()
        self._itself()
        self._likeness()
        self._negation()
        self.found.sort(key=lambda claim: claim.start)
        return [*self._acts()]

    # Each takes its words, so that what comes later does not read them again.

    def _links(self) -> None:
        for match in LINK.finditer(self.sentence):
            if any(self.taken[n] for n in self._between(match.start(), match.end())):
                continue
            self._add("link", match.start(), match.end(), (), "links are never shown")

    def _quotations(self) -> None:
        for match in QUOTED.finditer(self.sentence):
            group = next(number for number, text in enumerate(match.groups(), 1) if text)
            start, end = match.span(group)
            if any(self.taken[n] for n in self._between(start, end)):
                continue
            text = match.group(group)
            if (titled := self._as_title(text)) is not None:
                self._add("title", start, end, *titled)
                continue
            if held := [c.id for c in self.case.evidence if _holds_passage(c, text)]:
                self._add("quotation", start, end, tuple(held), "")
                continue
            if held := [c.id for c in self.case.evidence if folded(c.fact.name) == folded(text)]:
                self._add("attribute", start, end, tuple(held), "")
                continue
            items = self.checker.vocabulary.title(text)
            if items:
                self._add("title", start, end, (), "names an item that the evidence does not")
            elif folded(text):
                self._add("quotation", start, end, (), "quotes what the evidence does not say")

    def _titles(self) -> None:
        own = [word.key for word in words_of(self.case.title)]
        for place, word in enumerate(self.words):
            if self.taken[place]:
                continue
            named = bool(own) and [w.key for w in self.words[place : place + len(own)]] == own
            if named and (len(own) > 1 or word.is_capital):
                self._take("title", place, len(own), (ITEM,), "")
                continue
            length, _ = self.checker.vocabulary.title_at(self.words, place)
            if not length or any(self.taken[place : place + length]):
                continue
            if not self._looks_like_title(place, length):
                continue
            text = self.sentence[word.start : self.words[place + length - 1].end]
            titled = self._as_title(text)
            if titled is None and length == 1 and self._attribute_of(place)[0]:
                continue  # one word that is an attribute, too
            evidence, reason = titled or ((), "names an item that the evidence does not")
            self._take("title", place, length, evidence, reason)

    def _attributes(self) -> None:
        for place in range(len(self.words)):
            if self.taken[place]:
                continue
            length, name = self._attribute_of(place)
            if not length or any(self.taken[place : place + length]):
                continue
            key = folded(name)
            held = [
                c.id
                for c in self.case.evidence
                if c.fact.kind == "attribute" and folded(c.fact.name) == key
            ]
            reason = "" if held else "names an attribute that the evidence does not"
            self._take("attribute", place, length, tuple(held), reason)

    def _praise(self) -> None:
        for match in PRAISE.finditer(self.sentence):
            places = self._between(match.start(), match.end())
            if any(self.taken[n] for n in places):
                continue
            self._add(
                "praise", match.start(), match.end(), (), "praises, which evidence never does"
            )

    def _numbers(self) -> None:
        for place, word in enumerate(self.words):
            if self.taken[place]:
                continue
            value = _value(word, self.sentence)
            if value is None:
                continue
            held, reason = self._number(place, value)
            self._take("number", place, 1, held, reason)

    def _names(self) -> None:
        place = 0
        while place < len(self.words):
            word = self.words[place]
            run = place
            while (
                run < len(self.words)
                and not self.taken[run]
                and self.words[run].is_capital
                and not self.checker.is_ordinary(self.words[run])
            ):
                run += 1
            if run == place:
                place += 1
                continue
            text = self.sentence[word.start : self.words[run - 1].end]
            held = [c.id for c in self.case.evidence if _mentions(c, text)]
            if f" {folded(text)} " in f" {folded(self.case.title)} ":
                held = [ITEM, *held]
            reason = "" if held else "names what the evidence does not"
            self._take("name", place, run - place, tuple(held), reason)
            place = run

    def _itself(self) -> None:
        """Finds ``you have chosen it``: what is recommended was not."""
        masked = _masked(self.sentence)
        for match in ACTS.after.finditer(masked):
            rest = ITSELF.match(masked, match.end())
            if rest is not None:
                text = self.sentence[match.start() : rest.end()]
                reason = "says that it was chosen, which the history does not"
                self.found.append(Claim("act", text, match.start(), rest.end(), (), reason))

    def _likeness(self) -> None:
        """Finds ``close to`` what no record says is close."""
        masked = _masked(self.sentence)
        alike = {c.id for c in self.case.evidence if c.fact.kind in ("neighbour", "cohort")}
        for match in LIKENESS.finditer(masked):
            later = [c for c in self.found if c.start >= match.end()]
            first = min(later, key=lambda claim: claim.start, default=None)
            if first is None or first.start > match.end() + 8:
                borne_out = False
            else:  # what is not supported is told of by itself
                borne_out = not first.supported or not alike.isdisjoint(first.evidence)
            if not borne_out:
                reason = "says that it is like what the evidence does not"
                self.found.append(
                    Claim("act", match.group(), match.start(), match.end(), (), reason)
                )

    def _negation(self) -> None:
        """Finds ``not`` and the like where something is claimed, outside of titles and quotations.

        A record says what is. Where the evidence itself denies something it is quoted, and what
        denies nothing in particular ("why not?") stands in a sentence without claims.
        """
        if not self.found:
            return
        named = ("title", "attribute", "quotation", "name")
        whole = [claim for claim in self.found if claim.kind in named and claim.supported]
        for match in NEGATION.finditer(_masked(self.sentence)):
            start, end = match.span()
            if not any(claim.start < end and start < claim.end for claim in whole):
                reason = "denies something, which evidence never does"
                self.found.append(Claim("negation", match.group(), start, end, (), reason))

    def _acts(self) -> Iterator[Claim]:
        """Yields the claims; what someone is said to have chosen must be in the history.

        Said to be chosen is what follows ``you watched`` and the like, up to the clause's end, and
        what stands before ``which you watched``.
        """
        masked = _masked(self.sentence)
        after = (match.end() for match in ACTS.after.finditer(masked))
        before = (match.start() for match in ACTS.before.finditer(masked))
        spans = [(start, _clause_end(masked, start)) for start in after]
        spans += [(_clause_start(masked, end), end) for end in before]
        known = {c.id for c in self.case.evidence if c.own or c.support}
        for claim in self.found:
            said = any(start <= claim.start and claim.end <= end for start, end in spans)
            if not (said and claim.supported and claim.kind in ("title", "attribute", "number")):
                yield claim
            elif kept := tuple(
                place
                for place in claim.evidence
                if place in known and (claim.kind != "number" or self._counts(place, claim))
            ):
                yield replace(claim, evidence=kept)
            else:
                reason = "says that it was chosen, which the history does not"
                yield replace(claim, kind="act", evidence=(), reason=reason)

    # Parts.

    def _counts(self, record: str, claim: Claim) -> bool:
        """Tells whether a number is how much of the history a record rests on."""
        value = _value(words_of(claim.text)[0], claim.text)
        return any(c.id == record and value in (c.support, c.of) for c in self.case.evidence)

    def _as_title(self, text: str) -> tuple[tuple[str, ...], str] | None:
        """Returns what a title rests on; ``None`` if neither item nor evidence has it."""
        key = folded(text)
        if not key:
            return None
        items = self.checker.vocabulary.title(text)
        if key == folded(self.case.title) or self.case.item in items:
            return (ITEM,), ""
        held = [
            c.id
            for c in self.case.evidence
            if c.fact.kind != "attribute"
            and c.fact.name
            and (key == folded(c.fact.name) or (c.fact.item >= 0 and c.fact.item in items))
        ]
        return (tuple(held), "") if held else None

    def _looks_like_title(self, place: int, length: int) -> bool:
        """Tells a title from ordinary words that happen to be one."""
        words = self.words[place : place + length]
        if length >= 3:
            return any(word.is_capital for word in words)
        capital = words[0].is_capital and not all(map(self.checker.is_ordinary, words))
        return capital and not (length == 1 and words[0].text.isdigit())

    def _attribute_of(self, place: int) -> tuple[int, str]:
        length, name = self.checker.vocabulary.attribute_at(self.words, place)
        for cited in self.case.evidence:  # key phrases are in no column
            if cited.fact.kind == "attribute":
                parts = folded(cited.fact.name).split(" ")
                size = len(parts)
                if size > length and [w.key for w in self.words[place : place + size]] == parts:
                    length, name = size, cited.fact.name
        return length, name

    def _number(self, place: int, value: float) -> tuple[tuple[str, ...], str]:
        """Returns what a number rests on."""
        after = self.words[place + 1].key if place + 1 < len(self.words) else ""
        percent = self.sentence[self.words[place].end :].startswith(("%", " %", " percent"))
        wanted = ("share",) if percent else UNITS.get(after, ())
        value = value / 100 if percent else value
        named = self._nearest_attribute(place)
        held = []
        for cited in self.case.evidence:
            if named and cited.support and cited.fact.kind == "attribute" and cited.id not in named:
                continue
            for name, number in cited.numbers.items():
                fits = name in wanted if wanted else name not in UNTOLD
                if fits and abs(number - value) < 0.005 and self._is_told(name, cited):
                    held.append(cited.id)
        whole = self._of_which(place)
        if whole is not None:
            pairs = {c.id for c in self.case.evidence if (c.support, c.of) == whole}
            people = {
                c.id
                for c in self.case.evidence
                if (c.fact.values.get("count"), c.fact.values.get("users")) == whole
            }
            held = [place for place in held if place in pairs | people]
        return tuple(
            dict.fromkeys(held)
        ), "" if held else "gives a number that the evidence does not"

    def _is_told(self, name: str, cited: Cited) -> bool:
        """Tells whether a number may stand as it does: a group's size only beside those who chose.

        Else ``120 people chose it`` would pass where 37 of them did.
        """
        count = cited.fact.values.get("count")
        if name != "users" or count is None:
            return True
        return any(_value(word, self.sentence) == count for word in self.words)

    def _nearest_attribute(self, place: int) -> tuple[str, ...]:
        start = self.words[place].start
        before = [c for c in self.found if c.kind == "attribute" and c.end <= start]
        return before[-1].evidence if before else ()

    def _of_which(self, place: int) -> tuple[float, float] | None:
        """Returns both numbers of ``7 of your last 20``, whichever of them is asked about."""
        for first in (place, place - 1, place - 2, place - 3, place - 4):
            if first < 0:
                break
            value = _value(self.words[first], self.sentence)
            rest = [word.key for word in self.words[first + 1 : first + 5]]
            if value is None or rest[:1] != ["of"]:
                continue
            for step, word in enumerate(self.words[first + 1 : first + 5], start=1):
                whole = _value(word, self.sentence)
                if whole is not None and first + step >= place:
                    return value, whole
        return None

    def _between(self, start: int, end: int) -> list[int]:
        return [n for n, word in enumerate(self.words) if word.start < end and word.end > start]

    def _take(
        self, kind: ClaimKind, place: int, length: int, evidence: tuple[str, ...], reason: str
    ) -> None:
        last = self.words[place + length - 1]
        self._add(kind, self.words[place].start, last.end, evidence, reason)

    def _add(
        self, kind: ClaimKind, start: int, end: int, evidence: tuple[str, ...], reason: str
    ) -> None:
        for place in self._between(start, end):
            self.taken[place] = True
        text = self.sentence[start:end]
        self.found.append(Claim(kind, text, start, end, evidence, reason))


def _value(word: Word, sentence: str) -> float | None:
    """Returns the number that a word is."""
    if word.key in NUMBER_WORDS:
        return NUMBER_WORDS[word.key]
    match = re.match(r"\d+(?:,\d{3})*(?:\.\d+)?", sentence[word.start :])
    return None if match is None else float(match.group().replace(",", ""))


def _holds_passage(cited: Cited, text: str) -> bool:
    """Tells whether a quotation stands in a passage, word for word."""
    quoted = folded(text.rstrip("…"))
    return bool(quoted) and f" {quoted} " in f" {folded(cited.fact.passage)} "


def _mentions(cited: Cited, text: str) -> bool:
    fact = cited.fact
    return any(f" {folded(text)} " in f" {folded(part)} " for part in (fact.name, fact.group))


_BREAK = re.compile(r"[,;:.!?()]|\b(?:because|but|while|since|and it|and people|and its)\b")


def _clause_end(masked: str, start: int) -> int:
    """Returns where the clause ends that goes on at a character."""
    found = _BREAK.search(masked, start)
    return len(masked) if found is None else found.start()


def _clause_start(masked: str, end: int) -> int:
    """Returns where the clause begins that a relative one follows."""
    cut = masked[:end].rstrip(" ,")
    return max((m.end() for m in _BREAK.finditer(cut)), default=0)


def _masked(sentence: str) -> str:
    """Returns the sentence with quotations blanked, at the same places."""
    return QUOTED.sub(lambda m: "_" * len(m.group()), sentence)


def ids_of(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Returns the records that claims rest on, the item itself left out."""
    found = dict.fromkeys(place for claim in claims for place in claim.evidence if place != ITEM)
    return tuple(found)
