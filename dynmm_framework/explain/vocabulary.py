"""What a sentence could name: the titles of a catalogue and the attributes of its items."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dynmm_framework.explain.cases import with_article_first

_WORD = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\w+(?:['’.&-]\w+)*")
_JOINED = re.compile(r"(?<=\w)[-/&](?=\w)")
_YEAR = re.compile(r"\s*\((?:18|19|20)\d\d\)\s*$")
_APOSTROPHES = str.maketrans(dict.fromkeys("ʼ＇`´′‛", "’"))
_NAMED = ("categories", "genre", "genres", "category", "brand", "label", "labels", "tags")
"""Columns of the item table whose texts are attributes, besides all lists of texts."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a sentence.

    Attributes:
        text: As it stands there.
        key: Folded: without case, accents and inner marks.
        start: Its first character.
        end: The one after its last.
    """

    text: str
    key: str
    start: int
    end: int

    @property
    def is_capital(self) -> bool:
        """Whether it begins with a capital letter or a digit."""
        return self.text[0].isupper() or self.text[0].isdigit()


def plainly(text: str) -> str:
    """Returns a text with letters and apostrophes as they are usually written, place by place."""
    return "".join(map(_plain, text)).translate(_APOSTROPHES)


def _plain(char: str) -> str:
    usual = unicodedata.normalize("NFKC", char)
    return usual if len(usual) == 1 else char


def is_mixed(word: Word) -> bool:
    """Tells whether a word has letters of several scripts, one of them Latin."""
    if word.text.isascii():
        return False
    scripts = {unicodedata.name(char, "?").split(" ")[0] for char in word.text if char.isalpha()}
    return "LATIN" in scripts and not scripts.isdisjoint({"CYRILLIC", "GREEK", "ARMENIAN"})


def words_of(text: str) -> list[Word]:
    """Returns the words of a text with their places."""
    return [Word(m.group(), _folded(m.group()), m.start(), m.end()) for m in _WORD.finditer(text)]


def folded(text: str) -> str:
    """Returns a text by its words alone, without case, accents and marks."""
    return " ".join(word.key for word in words_of(text))


def _folded(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in plain if char.isalnum())


class Vocabulary:
    """Finds titles and attributes in sentences, the longest first.

    Args:
        titles: Titles of each item, as the data has it and as sentences write it.
        attributes: Names of attributes.
    """

    def __init__(self, titles: Iterable[tuple[int, str]], attributes: Iterable[str] = ()) -> None:
        self._titles: dict[str, tuple[int, ...]] = {}
        self._longest: dict[str, int] = {}
        for item, title in titles:
            for form in dict.fromkeys(_forms(title)):
                known = self._titles.get(form, ())
                if form and item not in known:
                    self._titles[form] = (*known, item)
                    parts = form.split(" ")
                    self._longest[parts[0]] = max(self._longest.get(parts[0], 0), len(parts))
        self._attributes: dict[str, str] = {}
        self._widest = 1
        for name in attributes:
            self.add_attribute(name)

    @classmethod
    def of(cls, items: pa.Table, shown: Iterable[str] = ()) -> Vocabulary:
        """Reads a dataset's item table.

        Args:
            items: The table; ``title`` and every column of attributes.
            shown: Title of each item as sentences write it.
        """
        raw = items["title"].to_pylist() if "title" in items.column_names else []
        titles = [(n, title) for n, title in enumerate(raw) if title]
        return cls([*titles, *enumerate(shown)], attribute_names(items))

    def add_attribute(self, name: str) -> None:
        """Adds the name of an attribute; ``Sci-Fi`` is ``sci fi`` too."""
        key, apart = folded(name), folded(_JOINED.sub(" ", name))
        if key:
            self._attributes[key] = name
            self._attributes.setdefault(apart, name)
            self._widest = max(self._widest, key.count(" ") + 1, apart.count(" ") + 1)

    def title(self, text: str) -> tuple[int, ...]:
        """Returns the items of which a text is the whole title; with a year, of that year."""
        for form in _spellings(text):
            if form in self._titles:
                return self._titles[form]
        return ()

    def title_at(self, words: Sequence[Word], start: int) -> tuple[int, tuple[int, ...]]:
        """Returns length, in words, and items of the longest title that begins at a word; 0 if
        none does.
        """
        longest = min(self._longest.get(words[start].key, 0), len(words) - start)
        for length in range(longest, 0, -1):
            found = self._titles.get(" ".join(w.key for w in words[start : start + length]))
            if found is not None:
                return length, found
        return 0, ()

    def attribute_at(self, words: Sequence[Word], start: int) -> tuple[int, str]:
        """Returns length and name of the longest attribute that begins at a word."""
        for length in range(min(self._widest, len(words) - start), 0, -1):
            parts = [word.key for word in words[start : start + length]]
            for last in _singular(parts[-1]):
                found = self._attributes.get(" ".join([*parts[:-1], last]))
                if found is not None:
                    return length, found
        return 0, ""


def attribute_names(items: pa.Table) -> list[str]:
    """Returns the names of all attributes in an item table."""
    found: dict[str, None] = {}
    for name in items.column_names:
        column = items[name]
        if pa.types.is_list(column.type) and _is_text(column.type.value_type):
            values: Any = column.combine_chunks().flatten()
        elif name in _NAMED and _is_text(column.type):
            values = column.combine_chunks()
        else:
            continue
        found.update(dict.fromkeys(value for value in values.unique().to_pylist() if value))
    return list(found)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _forms(title: str) -> Iterator[str]:
    """Yields the ways in which a title may be written, folded: with its year and without."""
    for text in (title, _YEAR.sub("", title)):
        yield from _spellings(text)


def _spellings(text: str) -> Iterator[str]:
    text = text.rstrip("…").strip()
    yield folded(text)
    yield folded(with_article_first(text))


def _singular(word: str) -> Iterator[str]:
    yield word
    if len(word) > 4 and word.endswith("ies"):
        yield word[:-3] + "y"
    if len(word) > 3 and word.endswith("s"):
        yield word[:-1]


def named_in(facts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the names of attributes among stored records of evidence."""
    return [str(fact["name"]) for fact in facts if fact["kind"] == "attribute" and fact["name"]]
