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
    HIDDEN,
    ITSELF,
    LIKENESS,
    LINK,
    NEGATION,
    OFTEN,
    ORDINARY,
    PRAISE,
    QUOTED,
    SHARE,
)
from dynmm_framework.explain.quantities import Numbers, clause_end, clause_start, value_of
from dynmm_framework.explain.vocabulary import (
    Vocabulary,
    Word,
    folded,
    is_mixed,
    plainly,
    words_of,
)

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
        self.plain = plainly(sentence)  # as long as the sentence
        self.words = words_of(sentence)
        self.numbers = Numbers(sentence, self.words, case.evidence)
        self.taken = [False] * len(self.words)
        self.found: list[Claim] = []

    def claims(self) -> list[Claim]:
        self._quotations()
        self._titles()
        self._links()
        self._attributes()
        self._patterns()
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
            length, _ = self.checker.vocabulary.title_at(self.words, place)
            named = bool(own) and [w.key for w in self.words[place : place + len(own)]] == own
            if named and len(own) >= length and (len(own) > 1 or self._is_name(place)):
                self._take("title", place, len(own), (ITEM,), "")
                continue
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

    def _patterns(self) -> None:
        """Finds what no record says, however it is put: praise, shares in words, hidden letters."""
        for pattern, kind, reason in _NEVER:
            for match in pattern.finditer(self.sentence if pattern is HIDDEN else self.plain):
                if not any(self.taken[n] for n in self._between(*match.span())):
                    self._add(kind, *match.span(), (), reason)
        for place, word in enumerate(self.words):
            if not self.taken[place] and is_mixed(word):
                self._take("name", place, 1, (), "mixes letters that look alike")

    def _numbers(self) -> None:
        for place in range(len(self.words)):
            if self.taken[place]:
                continue
            value = self._value(place)
            if value is None:
                continue
            held = self.numbers.held(place, value, self.found)
            reason = "" if held else "gives a number that the evidence does not"
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
        masked = self._masked()
        for match in ACTS.after.finditer(masked):
            rest = ITSELF.match(masked, match.end())
            if rest is not None:
                self._tell("act", match.start(), rest.end(), _NOT_CHOSEN)

    def _likeness(self) -> None:
        """Finds ``close to`` what no record says is close."""
        masked = self._masked()
        alike = {c.id for c in self.case.evidence if c.fact.kind in ("neighbour", "cohort")}
        for match in LIKENESS.finditer(masked):
            later = [c for c in self.found if c.start >= match.end()]
            first = min(later, key=lambda claim: claim.start, default=None)
            far = first is None or first.start > match.end() + 8
            if first is None or far or not self._of_the_item(masked, match.start()):
                borne_out = False
            else:  # what is not supported is told of by itself
                borne_out = not first.supported or not alike.isdisjoint(first.evidence)
            if not borne_out:
                reason = "says that it is like what the evidence does not"
                self._tell("act", match.start(), match.end(), reason)

    def _of_the_item(self, masked: str, start: int) -> bool:
        """Tells whether it can be the recommended item of which likeness is said."""
        before = [c for c in self.found if c.end <= start and c.kind in ("title", "attribute")]
        last = max(before, key=lambda claim: claim.end, default=None)
        if _SEVERAL.search(masked[:start]):
            return False
        if last is None or ITEM in last.evidence or not last.supported:
            return True
        return _SUBJECT.fullmatch(masked[last.end : start]) is None

    def _negation(self) -> None:
        """Finds ``not`` and the like where something is claimed, outside of titles and quotations.

        A record says what is. Where the evidence itself denies something it is quoted, and what
        denies nothing in particular ("why not?") stands in a sentence without claims.
        """
        if not self.found:
            return
        named = ("title", "attribute", "quotation", "name")
        whole = [claim for claim in self.found if claim.kind in named and claim.supported]
        for match in NEGATION.finditer(self._masked()):
            start, end = match.span()
            if not any(claim.start < end and start < claim.end for claim in whole):
                reason = "denies something, which evidence never does"
                self._tell("negation", start, end, reason)

    def _acts(self) -> Iterator[Claim]:
        """Yields the claims; what someone is said to have chosen must be in the history.

        Said to be chosen is what follows ``you watched`` and the like, up to the clause's end, and
        what stands before ``which you watched``. Where nothing that a record names is, as in ``you
        enjoy the show``, it is the act that nothing supports.
        """
        masked = self._masked()
        after = list(ACTS.after.finditer(masked))
        before = (match.start() for match in ACTS.before.finditer(masked))
        spans = [(match.end(), clause_end(masked, match.end())) for match in after]
        for match, (start, end) in zip(after, spans, strict=True):
            named = any(claim.start < end and start < claim.end for claim in self.found)
            if not named and _LETTER.search(masked, start, end):
                text = self.sentence[match.start() : end]
                yield Claim("act", text, match.start(), end, (), _NAMELESS)
        often = [span for span, m in zip(spans, after, strict=True) if OFTEN.search(m.group())]
        spans += [(clause_start(masked, end), end) for end in before]
        known = {c.id for c in self.case.evidence if c.own or c.support}
        seldom = {c.id for c in self.case.evidence if not c.is_often}
        for claim in self.found:
            said = any(start <= claim.start and claim.end <= end for start, end in spans)
            if not (said and claim.supported and claim.kind in ("title", "attribute", "number")):
                yield claim
            elif (
                claim.kind == "attribute"
                and seldom.issuperset(claim.evidence)
                and any(start <= claim.start and claim.end <= end for start, end in often)
            ):
                reason = "says that it was chosen often, which the history does not"
                yield replace(claim, kind="act", evidence=(), reason=reason)
            elif kept := tuple(
                place
                for place in claim.evidence
                if place in known and (claim.kind != "number" or self._counts(place, claim))
            ):
                yield replace(claim, evidence=kept)
            else:
                yield replace(claim, kind="act", evidence=(), reason=_NOT_CHOSEN)

    # Parts.

    def _counts(self, record: str, claim: Claim) -> bool:
        """Tells whether a number is how much of the history a record rests on."""
        value = value_of(words_of(claim.text), 0, claim.text)
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
        return capital and (length > 1 or self._is_name(place))

    def _is_name(self, place: int) -> bool:
        """Tells whether a single word can be a title: a capital, and no number."""
        return self.words[place].is_capital and self._value(place) is None

    def _attribute_of(self, place: int) -> tuple[int, str]:
        length, name = self.checker.vocabulary.attribute_at(self.words, place)
        for cited in self.case.evidence:  # key phrases are in no column
            if cited.fact.kind == "attribute":
                parts = folded(cited.fact.name).split(" ")
                size = len(parts)
                if size > length and [w.key for w in self.words[place : place + size]] == parts:
                    length, name = size, cited.fact.name
        return length, name

    def _value(self, place: int) -> float | None:
        return value_of(self.words, place, self.sentence)

    def _masked(self) -> str:
        """Returns the sentence with quotations blanked, at the same places."""
        masked = self.plain
        for match in QUOTED.finditer(self.sentence):
            masked = masked[: match.start()] + "_" * len(match.group()) + masked[match.end() :]
        return masked

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
        self._tell(kind, start, end, reason, evidence)

    def _tell(
        self, kind: ClaimKind, start: int, end: int, reason: str, evidence: tuple[str, ...] = ()
    ) -> None:
        self.found.append(Claim(kind, self.sentence[start:end], start, end, evidence, reason))


def _holds_passage(cited: Cited, text: str) -> bool:
    """Tells whether a quotation stands in a passage, word for word."""
    quoted = folded(text.rstrip("…"))
    return bool(quoted) and f" {quoted} " in f" {folded(cited.fact.passage)} "


def _mentions(cited: Cited, text: str) -> bool:
    fact = cited.fact
    return any(f" {folded(text)} " in f" {folded(part)} " for part in (fact.name, fact.group))


_NEVER: tuple[tuple[re.Pattern[str], ClaimKind, str], ...] = (
    (PRAISE, "praise", "praises, which evidence never does"),
    (SHARE, "number", "gives a share that the evidence does not"),
    (HIDDEN, "name", "hides letters between others"),
)
_LETTER = re.compile(r"[^\W_]")
_NAMELESS = "says that something was chosen that the evidence does not name"
_NOT_CHOSEN = "says that it was chosen, which the history does not"
_SEVERAL = re.compile(r"\b(?:are|were|have been)(?: \w+)? $", re.IGNORECASE)
_SUBJECT = re.compile(
    r"[\W_]*(?:which |that )?(?:is|was|being)?(?: (?:also|very|quite|so))?\s*", re.I
)
"""What stands between a title and what is said of it."""


def ids_of(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Returns the records that claims rest on, the item itself left out."""
    found = dict.fromkeys(place for claim in claims for place in claim.evidence if place != ITEM)
    return tuple(found)
