"""A small catalogue, evidence of every kind, and an extractor that gives it: shared by tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from dynmm_framework.config.explain import Wording
from dynmm_framework.explain.cases import Case, Cited, Titles
from dynmm_framework.explain.claims import Checker
from dynmm_framework.explain.rationale import Phrasebook
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.explain.vocabulary import Vocabulary
from dynmm_framework.explain.writers import TemplateWriter, words_allowed

TITLES = [
    "Babe (1995)",
    "Toy Story (1995)",
    "Aladdin (1992)",
    "Godfather, The (1972)",
    "It (1990)",
    "Game, The (1997)",
    "Hamlet (1948)",
    "Hamlet (1996)",
]
IDS = [f"m{number}" for number in range(len(TITLES))]
GENRES = [
    ["Comedy", "Children's"],
    ["Children's", "Sci-Fi"],
    ["Musical"],
    ["Crime"],
    ["Horror"],
    ["Thriller", "Mystery"],
    ["Drama"],
    ["Drama"],
]


def items(titles: Sequence[str | None] = TITLES) -> pa.Table:
    """Returns an item table."""
    return pa.table(
        {"id": IDS[: len(titles)], "title": titles, "categories": GENRES[: len(titles)]}
    )


def neighbour(number: int, item: int, *, own: bool) -> Cited:
    """Returns a neighbour as evidence."""
    fact = Fact("neighbour", TITLES[item], item=item, source="interactions")
    return Cited(f"e{number}", "cf_neighbours", fact, 0.9, int(own), 20, own=own)


def attribute(number: int, name: str, support: int, of: int = 20) -> Cited:
    """Returns a genre as evidence, counted among the newest of the history."""
    fact = Fact("attribute", name, "genre", source="categories")
    return Cited(f"e{number}", "attribute_attention", fact, 0.7, support, of, windowed=True)


def trend(number: int, count: float, days: float) -> Cited:
    """Returns recent popularity as evidence."""
    return Cited(f"e{number}", "trend", Fact("trend", values={"count": count, "days": days}), 0.6)


def cohort(number: int, count: float, users: float) -> Cited:
    """Returns what a group did as evidence."""
    fact = Fact("cohort", values={"count": count, "users": users})
    return Cited(f"e{number}", "cohort", fact, 0.5)


def passage(number: int, text: str) -> Cited:
    """Returns a quotable text as evidence."""
    fact = Fact("passage", passage=text, source="text")
    return Cited(f"e{number}", "retrieved_metadata", fact, 0.4)


EVERYTHING = (
    neighbour(1, 1, own=True),
    neighbour(2, 3, own=False),
    attribute(3, "Comedy", 7),
    trend(4, 1412, 30),
    cohort(5, 38, 51),
    passage(6, 'A pig says "hello" to the farmer. Then he goes away.'),
)


def case(*evidence: Cited, rank: int = 1, item: int = 0) -> Case:
    """Returns a recommendation of the first film."""
    return Case(0, item, titles()[item], evidence or EVERYTHING, rank)


def titles(wording: Wording | None = None) -> Titles:
    """Returns the films' titles as sentences write them."""
    return Titles(TITLES, IDS, wording)


def checker(wording: Wording | None = None) -> Checker:
    """Returns a checker that knows the films."""
    vocabulary = Vocabulary.of(items(), titles(wording))
    return Checker(vocabulary, allowed=words_allowed(wording or Wording()))


def template_writer(wording: Wording | None = None, **settings: Any) -> TemplateWriter:
    """Returns a writer of templates."""
    wording = wording or Wording()
    return TemplateWriter(Phrasebook(wording, titles(wording)), checker(wording), **settings)


class ToyExtractor:
    """Cites the next items in number, each with the part of the score that is given."""

    def __init__(self, n_items: int, *, each: int = 2) -> None:
        self.n_items, self.each = n_items, each

    def extract(self, histories: Any, candidates: Any) -> EvidenceTable:
        n, width = candidates.shape
        rows, columns, steps = (part.ravel() for part in np.mgrid[0:n, 0:width, 1 : self.each + 1])
        references = (candidates[rows, columns] + steps) % self.n_items
        return EvidenceTable.of(rows, columns, references, 1 / (1 + steps), np.zeros(len(rows)))

    def facts(self, references: Any) -> list[Fact]:
        found = [Fact("neighbour", TITLES[r % len(TITLES)], item=int(r)) for r in references]
        return [replace(fact, item=fact.item % len(TITLES)) for fact in found]

    def vectors(self, references: Any) -> Any:
        return np.ones((len(references), 4), np.float32)
