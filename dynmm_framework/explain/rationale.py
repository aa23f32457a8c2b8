"""Sentences from templates: every word that claims something is filled in from the evidence."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dynmm_framework.config.explain import FORMS, Form, Wording
from dynmm_framework.explain.cases import Case, Cited, Titles, shortened
from dynmm_framework.explain.claims import ITEM, Claim, ClaimKind
from dynmm_framework.language.tokens import clean

SELDOM_SHARE = 0.05
"""What is chosen less often is no reason."""
MOST_ITEMS = 2
"""Most neighbours that one reason names."""
_STOP = re.compile(r"(?<=[.!?…])\s")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a sentence.

    Attributes:
        text: The words.
        kind: What they claim; empty for words that claim nothing.
        evidence: Records that the claim rests on.
    """

    text: str
    kind: ClaimKind | Literal[""] = ""
    evidence: tuple[str, ...] = ()


Values = Mapping[str, "int | tuple[Span, ...]"]
"""What is filled in, by placeholder: numbers, or words that claim something."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is recommended, in words that the evidence gives.

    Attributes:
        form: The form that it belongs to.
        spans: The words.
        evidence: All records that it rests on.
        score: How strongly they speak for the item.
    """

    form: Form
    spans: tuple[Span, ...]
    evidence: tuple[str, ...]
    score: float = 0.0

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class Rationale:
    """A sentence, and what its claims rest on.

    Attributes:
        sentence: The sentence that is shown.
        form: Its form; ``none`` where there was nothing to say.
        claims: What it claims, in order.
        writer: Who wrote it.
        fallback: Why the writer's own sentence gave way to a template's; empty if it did not.
        draft: The sentence that gave way, to a template's or to another attempt.
        found: Unsupported claims of the draft, or of the sentence if it was shown as written.
    """

    sentence: str
    form: Form | Literal["none"]
    claims: tuple[Claim, ...]
    writer: str = "template"
    fallback: str = ""
    draft: str = ""
    found: tuple[Claim, ...] = field(default=())


class Phrasebook:
    """Puts evidence into words.

    Args:
        wording: The words.
        titles: Titles of items as sentences write them.
    """

    def __init__(self, wording: Wording, titles: Titles) -> None:
        self.wording, self.titles = wording, titles
        self._makers: Mapping[Form, Sequence[Callable[[Case], Iterator[Reason]]]] = {
            "preference": (self._chosen_attributes,),
            "similarity": (self._own_items, self._cohorts, self._other_items),
            "contextual": (self._trends, self._quotations),
        }

    def reasons(self, case: Case, form: Form) -> list[Reason]:
        """Returns the reasons of a form that the evidence holds, the best first."""
        return [reason for maker in self._makers[form] for reason in maker(case)]

    def all_reasons(self, case: Case, forms: Sequence[Form] = FORMS) -> list[Reason]:
        """Returns the reasons of some forms, in the order of forms; of the item alone if none."""
        return self._among(case, forms) or list(self._attributes_alone(case))

    def _among(self, case: Case, forms: Sequence[Form]) -> list[Reason]:
        return [reason for form in forms for reason in self.reasons(case, form)]

    def rationale(self, case: Case, *, forms: Sequence[Form] = FORMS, most: int = 2) -> Rationale:
        """Writes the sentence of a case.

        Args:
            case: The recommendation and its evidence.
            forms: Forms that may be used; the item's rank says which has the first turn.
            most: Most reasons, each of another form.
        """
        turn = (case.rank - 1) % len(forms)
        order = [*forms[turn:], *forms[:turn]]
        chosen: list[Reason] = []
        for form in order:
            chosen += self.reasons(case, form)[:1]
        chosen = (chosen or list(self._attributes_alone(case))[:1])[:most]
        if not chosen:
            return Rationale(self.wording.nothing, "none", ())
        joined: list[Span] = []
        for number, reason in enumerate(chosen):
            if number:
                last = number == len(chosen) - 1
                joined.append(Span(f", {self.wording.also} " if last else ", "))
            joined += reason.spans
        title = (Span("“"), Span(_inner(case.title), "title", (ITEM,)), Span("”"))
        spans = self._filled(self.wording.sentence, {"title": title, "reasons": tuple(joined)})
        sentence, claims = laid_out(spans)
        return Rationale(sentence, chosen[0].form, claims)

    # What the evidence gives.

    def _chosen_attributes(self, case: Case) -> Iterator[Reason]:
        found = [
            c
            for c in case.evidence
            if c.fact.kind == "attribute" and c.support > 0 and c.support >= SELDOM_SHARE * c.of
        ]
        # What is chosen most often is said first; the score tells which of those fits the item.
        for cited in sorted(found, key=lambda c: (-c.support, -c.score)):
            words = self.wording
            by_window = {
                (True, True): words.often,
                (False, True): words.before,
                (True, False): words.often_of_all,
                (False, False): words.before_of_all,
            }
            yield self._of_attribute(cited, by_window[cited.is_often, cited.windowed])

    def _attributes_alone(self, case: Case) -> Iterator[Reason]:
        for cited in case.evidence:
            if cited.fact.kind == "attribute" and cited.fact.name:
                yield self._of_attribute(cited, self.wording.has)

    def _of_attribute(self, cited: Cited, template: str) -> Reason:
        values: Values = {
            "attribute": (Span(clean(cited.fact.name), "attribute", (cited.id,)),),
            "group": (Span(cited.fact.group.replace("_", " ") or "kind"),),
            "support": cited.support,
            "of": cited.of,
        }
        return self._reason("preference", template, values, (cited,))

    def _own_items(self, case: Case) -> Iterator[Reason]:
        yield from self._items(case, self.wording.own_items, own=True)

    def _other_items(self, case: Case) -> Iterator[Reason]:
        yield from self._items(case, self.wording.other_items, own=False)

    def _items(self, case: Case, template: str, *, own: bool) -> Iterator[Reason]:
        found = [c for c in case.evidence if c.fact.kind == "neighbour" and c.own == own]
        found = [c for c in found if self.titles.of(c.fact)][:MOST_ITEMS]
        if not found:
            return
        spans: list[Span] = []
        for number, cited in enumerate(found):
            if number:
                last = number == len(found) - 1
                spans.append(Span(f" {self.wording.also} " if last else ", "))
            spans += self._named(cited)
        values: Values = {"items": tuple(spans), "count": len(found)}
        yield self._reason("similarity", template, values, found)

    def _cohorts(self, case: Case) -> Iterator[Reason]:
        for cited in case.evidence:
            if cited.fact.kind == "cohort":
                template = self.wording.cohort if cited.fact.name else self.wording.cohort_alone
                values = {**_whole(cited), "name": self._named(cited)}
                if all(name in values for name in _names(template)):
                    yield self._reason("similarity", template, values, (cited,))

    def _trends(self, case: Case) -> Iterator[Reason]:
        for cited in case.evidence:
            if cited.fact.kind == "trend" and cited.fact.values.get("count"):
                values = _whole(cited)
                template = self.wording.trend if "days" in values else self.wording.trend_undated
                if all(name in values for name in _names(template)):
                    yield self._reason("contextual", template, values, (cited,))

    def _quotations(self, case: Case) -> Iterator[Reason]:
        for kind, template in (("passage", self.wording.passage), ("review", self.wording.review)):
            for cited in case.evidence:
                text = quotation(cited.fact.passage, self.wording.quotation)
                if cited.fact.kind == kind and text:
                    values = {"passage": (Span(text, "quotation", (cited.id,)),)}
                    yield self._reason("contextual", template, values, (cited,))

    # Parts.

    def _named(self, cited: Cited) -> tuple[Span, ...]:
        title = _inner(self.titles.of(cited.fact))
        return Span("“"), Span(title, "title", (cited.id,)), Span("”")

    def _reason(
        self,
        form: Form,
        template: str,
        values: Values,
        cited: Sequence[Cited],
    ) -> Reason:
        ids = tuple(c.id for c in cited)
        filled = self._filled(
            template,
            {
                name: value if isinstance(value, tuple) else (Span(f"{value:,}", "number", ids),)
                for name, value in values.items()
            },
            counts={name: value for name, value in values.items() if isinstance(value, int)},
        )
        return Reason(form, tuple(filled), ids, max(c.score for c in cited))

    def _filled(
        self,
        template: str,
        values: Mapping[str, tuple[Span, ...]],
        *,
        counts: Mapping[str, int] | None = None,
    ) -> Iterator[Span]:
        for literal, name, words, _ in string.Formatter().parse(template):
            if literal:
                yield Span(literal)
            if name is None:
                continue
            if words:
                one, _, many = words.partition("|")
                yield Span(one if (counts or {}).get(name) == 1 else many)
            else:
                yield from values[name]


def laid_out(spans: Iterable[Span]) -> tuple[str, tuple[Claim, ...]]:
    """Returns the sentence that spans make, its first letter a capital, and its claims."""
    spans = tuple(spans)
    text = "".join(span.text for span in spans)
    sentence = text[:1].upper() + text[1:]
    claims, start = [], 0
    for span in spans:
        end = start + len(span.text)
        if span.kind:
            claims.append(Claim(span.kind, sentence[start:end], start, end, span.evidence))
        start = end
    return sentence, tuple(claims)


def quotation(passage: str, limit: int) -> str:
    """Returns what is quoted of a passage: its first sentences, in at most ``limit`` characters.

    Quotation marks inside become single ones, so that the quotation ends where it should.
    """
    text = _inner(clean(passage))
    if len(text) <= limit:
        return text.removesuffix(".")
    kept = ""
    for sentence in _STOP.split(text):
        if len(kept) + len(sentence) + 1 > limit:
            break
        kept = f"{kept} {sentence}".strip()
    return kept.removesuffix(".") or shortened(text, limit)


def _inner(text: str) -> str:
    """Returns a text that can stand between quotation marks."""
    for mark, single in zip('“”"«»', "‘’’‹›", strict=True):
        text = text.replace(mark, single)
    return text


def _whole(cited: Cited) -> dict[str, int | tuple[Span, ...]]:
    return {name: round(value) for name, value in cited.fact.values.items()}


def _names(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]
