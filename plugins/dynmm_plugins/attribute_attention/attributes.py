"""The attributes of items: values of columns, key phrases of texts, labels of pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from dynmm_framework.explain.passages import gives_orders, scrub, sentences
from dynmm_framework.protocols import IntArray

GROUPS = {"categories": "category", "genres": "genre"}
"""What one value of a column is called; other columns go by their own name."""
LONGEST = 60
"""Characters of an attribute; longer values of a column are descriptions."""

_FOR_ANY = (
    "article book category description film genre item movie picture plot product review series"
    " song story synopsis title track work"
)
_OF_ANY = frozenset(_FOR_ANY.split())
"""Words that say of any item that it is one, in the singular."""
_WORD = re.compile(r"[^\W\d_][\w'’-]*[^\W_]")
_STOP = re.compile(r"[^\w\s'’-]+|\d[\w.,]*")


@dataclass
class Attributes:
    """Attributes, numbered from 0, and the items that have them.

    Attributes:
        names: Words of each.
        groups: What kind of attribute it is.
        sources: The column that it comes from.
        of_item: Numbers of each item's attributes, most telling first.
    """

    n_items: int
    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    of_item: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.of_item = [[] for _ in range(self.n_items)]
        self._numbers: dict[tuple[str, str], int] = {}

    def add(self, item: int, name: str, *, group: str, source: str) -> None:
        """Gives an item an attribute; spellings that differ in case alone are one."""
        key = (group, name.casefold())
        number = self._numbers.setdefault(key, len(self.names))
        if number == len(self.names):
            self.names.append(name)
            self.groups.append(group)
            self.sources.append(source)
        if number not in self.of_item[item]:
            self.of_item[item].append(number)

    def counts(self) -> IntArray:
        """Returns the number of items that have each attribute, ``(n,)``."""
        every = np.array([number for found in self.of_item for number in found], np.int64)
        return np.bincount(every, minlength=len(self.names)).astype(np.int32)

    def sort_by_rarity(self) -> None:
        """Puts the rarest attributes of each item first."""
        counts = self.counts()
        for found in self.of_item:
            found.sort(key=lambda number: (counts[number], number))

    def extend(self, other: Attributes) -> None:
        """Adds another's attributes after one's own, without words that an item has already."""
        for item, found in enumerate(other.of_item):
            known = {self.names[number].casefold() for number in self.of_item[item]}
            for number in found:
                if other.names[number].casefold() not in known:
                    self.add(
                        item,
                        other.names[number],
                        group=other.groups[number],
                        source=other.sources[number],
                    )

    def kept(self, *, least_items: int, largest_share: float, per_item: int) -> Attributes:
        """Returns the attributes that tell items apart, renumbered, and at most some of an item."""
        counts = self.counts()
        fit = (counts >= least_items) & (counts <= largest_share * self.n_items)
        out = Attributes(self.n_items)
        for item, found in enumerate(self.of_item):
            for number in [number for number in found if fit[number]][:per_item]:
                out.add(
                    item,
                    self.names[number],
                    group=self.groups[number],
                    source=self.sources[number],
                )
        return out

    def table(self) -> IntArray:
        """Returns the attributes of all items, ``(n_items, most)`` int32; -1 where fewer."""
        width = max(map(len, self.of_item), default=0)
        out = np.full((self.n_items, max(width, 1)), -1, np.int32)
        for item, found in enumerate(self.of_item):
            out[item, : len(found)] = found
        return out


def of_columns(items: pa.Table, columns: Sequence[str]) -> Attributes:
    """Returns the values of columns: each element of a list, a text or a number as a whole."""
    found = Attributes(items.num_rows)
    for column in columns:
        for item, value in enumerate(items.column(column).to_pylist()):
            for name in _values(value):
                found.add(item, name, group=GROUPS.get(column, column), source=column)
    found.sort_by_rarity()
    return found


def _values(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    words = (" ".join(str(one).split()) for one in values if one is not None)
    return [word for word in words if word and len(word) <= LONGEST and not gives_orders(word)]


def key_phrases(
    items: pa.Table, columns: Sequence[str], *, top: int, words: int, least_items: int, share: float
) -> Attributes:
    """Returns the phrases of each item's texts with the largest TF-IDF weights.

    A phrase is a run of words within a sentence that no stop word, number or punctuation mark
    breaks, as the heads of most noun phrases are; ``genres`` alone is none, as it could be said of
    any item. Sentences that give orders to a model, or tell how to reach someone, have no phrases.

    Args:
        items: The item table.
        columns: The columns of texts.
        top: Most phrases of an item.
        words: Words of the longest phrase.
        least_items: Items that must have a phrase.
        share: Largest share of the items that may have one.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    found = Attributes(items.num_rows)
    for column in columns:
        texts = [text or "" for text in items.column(column).cast(pa.string()).to_pylist()]
        phrases = [_phrases(text, words) for text in texts]
        if not any(phrases):
            continue
        weigher = TfidfVectorizer(analyzer=_same, sublinear_tf=True, norm=None, dtype=np.float32)
        weights = weigher.fit_transform(phrases).tocsr()
        names = weigher.get_feature_names_out()
        counts = np.bincount(weights.indices, minlength=weights.shape[1])
        fit = (counts >= least_items) & (counts <= share * items.num_rows)
        lengths = np.array([1 + name.count(" ") for name in names])
        for item in range(items.num_rows):
            row = slice(weights.indptr[item], weights.indptr[item + 1])
            terms = weights.indices[row]
            # A phrase stands for its words: its weight is what they would have each.
            order = np.argsort(-weights.data[row] * np.sqrt(lengths[terms]), kind="stable")
            chosen: list[str] = []
            for term in terms[order][fit[terms[order]]].tolist():
                name = str(names[term])
                if all(map(_is_of_any, name.split())):
                    continue
                if len(chosen) < top and not any(_overlap(name, other) for other in chosen):
                    chosen.append(name)
            for name in chosen:
                found.add(item, name, group="phrase", source=column)
    return found


def _same(phrases: list[str]) -> list[str]:
    return phrases


def _is_of_any(word: str) -> bool:
    singular = word.removesuffix("s")
    return not {word, singular, f"{word.removesuffix('ies')}y"}.isdisjoint(_OF_ANY)


def _overlap(one: str, other: str) -> bool:
    return bool(set(one.split()) & set(other.split()))


def _phrases(text: str, words: int) -> list[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    out: list[str] = []
    for sentence in sentences(text):
        if gives_orders(sentence) or scrub(sentence, people=False) != sentence:
            continue
        for part in _STOP.split(sentence):
            run: list[str] = []
            for token in [*part.lower().split(), ""]:
                if _WORD.fullmatch(token) and len(token) > 2 and token not in ENGLISH_STOP_WORDS:
                    run.append(token)
                    continue
                for size in range(1, words + 1):
                    out += [" ".join(run[at : at + size]) for at in range(len(run) - size + 1)]
                run = []
    return out
