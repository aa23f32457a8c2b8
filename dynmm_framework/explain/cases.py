"""What a sentence is written about: a recommendation, and the evidence for it with its words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynmm_framework.config.explain import Wording
from dynmm_framework.data.tables import Histories
from dynmm_framework.explain.records import Fact
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.language.tokens import clean
from dynmm_framework.protocols import FloatArray, IntArray

OFTEN_SHARE, OFTEN_LEAST = 0.2, 3
"""An attribute is chosen often from this share of the history on, and so many items of it."""
_YEAR = re.compile(r"\s*\((?:18|19|20)\d\d\)\s*$")
_ARTICLE = re.compile(
    r"^(?P<rest>.+), (?P<article>The|A|An|Le|La|Les|L'|Il|El|Los|Las|Der|Die|Das|Den|Det)"
    r"(?P<year>\s*\(\d{4}\))?$"
)


@dataclass(frozen=True, slots=True)
class Cited:
    """One record of evidence for a recommendation, with what it says.

    Attributes:
        id: Names it among those of its recommendation, such as ``e1``.
        extractor: Who found it.
        fact: What it says.
        score: How strongly it speaks for the recommendation, in [0, 1].
        support: Items of the user's history that it rests on; 0 where it is of the item alone.
        of: Different items of the history among which these were counted, the recommended one left
            out.
        windowed: Whether only the newest of the history were counted.
        own: Whether the item that it names is in the user's history.
    """

    id: str
    extractor: str
    fact: Fact
    score: float
    support: int = 0
    of: int = 0
    windowed: bool = False
    own: bool = False

    @property
    def numbers(self) -> dict[str, float]:
        """Every number that it holds, by name."""
        counted = {"support": float(self.support), "of": float(self.of)} if self.support else {}
        return {**self.fact.values, **counted}

    @property
    def is_often(self) -> bool:
        """Whether so much of the history rests on it that it is chosen often."""
        return self.support >= OFTEN_LEAST and self.support >= OFTEN_SHARE * self.of


@dataclass(frozen=True, slots=True)
class Case:
    """A recommendation and the evidence for it.

    Attributes:
        row: The user, as row of the histories.
        item: The item.
        title: Its title as sentences write it.
        evidence: The evidence, best first.
        rank: Its place in the user's list, from 1; decides which form has the first turn.
    """

    row: int
    item: int
    title: str
    evidence: tuple[Cited, ...] = ()
    rank: int = 1


class Titles:
    """Titles of items as sentences write them.

    Args:
        titles: Title of each item as the data has it; empty or ``None`` where it has none.
        ids: Identifier of each item, which stands for a title that is missing.
        wording: Whether years and articles stay where they are, and how long a title may be.
    """

    def __init__(
        self, titles: Sequence[str | None], ids: Sequence[str], wording: Wording | None = None
    ) -> None:
        wording = wording or Wording()
        plain = [clean(title or "") for title in titles]
        short = plain if wording.years else [_YEAR.sub("", title) or title for title in plain]
        times = Counter(short)
        self._shown: list[str] = []
        for whole, cut, given in zip(plain, short, ids, strict=True):
            chosen = cut if times[cut] == 1 else whole
            if wording.articles:
                chosen = with_article_first(chosen)
            self._shown.append(shortened(chosen, wording.title_length) or f"item {clean(given)}")

    def __len__(self) -> int:
        return len(self._shown)

    def __getitem__(self, item: int) -> str:
        return self._shown[item]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shown)

    def of(self, fact: Fact) -> str:
        """Returns the words of what a fact names: the title of its item, or its own name."""
        return self._shown[fact.item] if fact.item >= 0 else clean(fact.name)


def with_article_first(title: str) -> str:
    """Returns ``The Godfather (1972)`` for ``Godfather, The (1972)``."""
    found = _ARTICLE.match(title)
    if found is None:
        return title
    gap = "" if found["article"].endswith("'") else " "
    return f"{found['article']}{gap}{found['rest']}{found['year'] or ''}"


def shortened(text: str, limit: int) -> str:
    """Returns a text of at most ``limit`` characters, cut at a word's end and marked with ``…``."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[limit // 2 :] else cut).rstrip(" ,;:-") + "…"


def make_cases(
    source: EvidenceSource,
    histories: Histories,
    items: IntArray,
    titles: Titles,
    *,
    per_item: int = 4,
    least_score: float = 0.0,
    known: Evidence | None = None,
    weights: FloatArray | None = None,
) -> list[Case]:
    """Returns recommendations with the evidence for them, user by user, best first.

    Args:
        source: The extractors.
        histories: The users.
        items: What is recommended to each, best first, ``(len(histories), k)``; -1 where a user
            has fewer.
        titles: Titles of all items.
        per_item: Most records of one recommendation: those of most weight, then the best of every
            extractor in turn.
        least_score: Records of a lower score are left out.
        known: The evidence, if it was found before, by the columns of ``items``.
        weights: What each record of it adds to its item's score, ``(len(known),)``.
    """
    asked = np.maximum(items, 0)
    evidence = source.find(histories, asked) if known is None else known
    facts = source.facts(evidence)
    table = evidence.table
    shown = shown_places(evidence, per_item=per_item, least_score=least_score, weights=weights)
    windows = {
        name: int(getattr(extractor, "support_window", 0) or 0)
        for name, extractor in source.extractors.items()
    }
    cases = []
    for row in range(len(items)):
        history = histories[row]
        own = set(history.tolist())
        for column, item in enumerate(items[row].tolist()):
            if item < 0:
                continue
            cited: list[Cited] = []
            for place in shown.get((row, column), ()):
                name = source.names[int(evidence.extractors[place])]
                window, length = windows[name], len(own - {item})
                cited.append(
                    Cited(
                        id=f"e{len(cited) + 1}",
                        extractor=name,
                        fact=facts[place],
                        score=float(table.scores[place]),
                        support=int(table.support[place]),
                        of=min(window, length) if window else length,
                        windowed=bool(window) and window < length,
                        own=facts[place].item in own,
                    )
                )
            cases.append(Case(row, int(item), titles[item], tuple(cited), rank=column + 1))
    return cases


def shown_places(
    evidence: Evidence,
    *,
    per_item: int,
    least_score: float = 0.0,
    weights: FloatArray | None = None,
) -> dict[tuple[int, int], list[int]]:
    """Returns which records are shown of each pair, as places, by row and column, in their order.

    Args:
        evidence: The evidence.
        per_item: Most records of a pair: those of most weight, then the best of every extractor in
            turn.
        least_score: Records of a lower score are left out.
        weights: What each record adds to its item's score, ``(len(evidence),)``.
    """
    table = evidence.table
    pairs: dict[tuple[int, int], list[int]] = {}
    for place in np.flatnonzero(table.scores >= least_score).tolist():
        pairs.setdefault((int(table.rows[place]), int(table.columns[place])), []).append(place)
    shown = {}
    for pair, found in pairs.items():
        weighty = [place for place in found if weights is not None and weights[place] > 0]
        chosen = sorted(weighty, key=lambda place: -float(weights[place]))  # type: ignore[index]
        rest = [place for place in found if place not in weighty]
        chosen += in_turn([(int(evidence.extractors[place]), place) for place in rest])
        shown[pair] = chosen[:per_item]
    return shown


def in_turn(owned: Iterable[tuple[int, int]]) -> list[int]:
    """Returns places in turn: the best of each owner, then the second of each, and so on."""
    queues: dict[int, list[int]] = {}
    for owner, place in owned:
        queues.setdefault(owner, []).append(place)
    longest = max(map(len, queues.values()), default=0)
    return [
        queue[turn] for turn in range(longest) for queue in queues.values() if turn < len(queue)
    ]


def record_of(cited: Cited, ids: Sequence[Any]) -> dict[str, Any]:
    """Returns a record of evidence as plain data, as it is stored and shown.

    Args:
        cited: The record.
        ids: Identifiers of items, as the data has them.
    """
    fact = cited.fact
    return {
        "id": cited.id,
        "extractor": cited.extractor,
        "kind": fact.kind,
        "name": fact.name,
        "group": fact.group,
        "item": str(ids[fact.item]) if fact.item >= 0 else None,
        "passage": fact.passage,
        "values": {name: float(value) for name, value in fact.values.items()},
        "source": fact.source,
        "score": round(cited.score, 6),
        "support": cited.support,
        "of": cited.of,
        "windowed": cited.windowed,
        "own": cited.own,
    }


def cited_of(record: Mapping[str, Any], places: Mapping[str, int]) -> Cited:
    """Restores what :func:`record_of` returned.

    Args:
        record: The record.
        places: Item numbers by identifier.
    """
    item = -1 if record["item"] is None else places.get(record["item"], -1)
    fact = Fact(
        kind=record["kind"],
        name=record["name"],
        group=record["group"],
        item=item,
        values=dict(record["values"]),
        passage=record["passage"],
        source=record["source"],
    )
    given = {key: record[key] for key in ("id", "extractor", "score", "support", "of", "windowed")}
    return Cited(fact=fact, own=bool(record["own"]), **given)
