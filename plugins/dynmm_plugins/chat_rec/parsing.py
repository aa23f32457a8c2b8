"""An order of candidates out of what a chat model wrote: of these candidates, and no others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBERED = re.compile(r"\s*[-*•>#(\[]*\s*(?:(\d{1,4})(?!\d)\s*[.):\]\-]*)?\s*(.*)", re.DOTALL)
_ONLY_NUMBERS = re.compile(r"[\s,;>|\[\]().]*\d{1,4}(?:[\s,;>|\[\]().]+\d{1,4})*[\s,;>|\[\]().]*")
_SHORTEST = 4
"""Letters of a title's beginning that may stand for the whole, if no other title begins so."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was understood.

    Attributes:
        order: Places of the candidates that were named, best first, each once.
        unknown: Lines that name something that is no candidate: dropped.
    """

    order: tuple[int, ...]
    unknown: int


def parse(text: str, titles: Sequence[str], *, cut: bool = False) -> Parsed:
    """Reads an answer line by line.

    A line names a candidate by its number, by its title, or by a beginning of it that no other
    shares; a title goes before the number in front of it, which may be a rank of the answer's
    own. Only the first mention of a candidate counts.

    Args:
        text: The answer.
        titles: Titles of the candidates, in the order of their numbers from 1.
        cut: Whether the answer was cut off. Its last line is not read then: a 1 may be half of 12.
    """
    lines = text.splitlines()
    folded = [_fold(title) for title in titles]
    order: list[int] = []
    unknown = 0
    for line in lines[:-1] if cut else lines:
        if not line.strip():
            continue
        if _ONLY_NUMBERS.fullmatch(line):
            numbers = [int(found) for found in re.findall(r"\d+", line)]
            named = [number - 1 for number in numbers if 1 <= number <= len(titles)]
            unknown += len(numbers) - len(named)
            order += named
            continue
        place = _place(line, folded)
        if place is None:
            unknown += 1
        else:
            order.append(place)
    return Parsed(tuple(dict.fromkeys(order)), unknown)


def reordered(n: int, order: Sequence[int]) -> list[int]:
    """Returns the places ``0 … n - 1`` in a new order: those that are named, in the places that
    they had together; the others keep their place.
    """
    named = set(order)
    following = iter(order)
    return [next(following) if place in named else place for place in range(n)]


def _place(line: str, folded: Sequence[str]) -> int | None:
    """Returns the candidate that a line with words names; ``None`` if it names none."""
    match = _NUMBERED.fullmatch(line)
    said = _fold(match[2]) if match else _fold(line)
    whole = _fold(line)  # a title may begin with a number
    for words in (whole, said):
        exact = [place for place, title in enumerate(folded) if title and title == words]
        if exact:
            return exact[0]
    # A title with a remark behind it: the longest title that the line begins with.
    begun = [
        (len(title), -place)
        for place, title in enumerate(folded)
        if title and (f"{said} ".startswith(f"{title} ") or f"{whole} ".startswith(f"{title} "))
    ]
    if begun:
        return -max(begun)[1]
    if len(said) >= _SHORTEST:
        longer = [place for place, title in enumerate(folded) if f"{title} ".startswith(f"{said} ")]
        if len(longer) == 1:
            return longer[0]
    return None


def _fold(text: str) -> str:
    """Returns a title's words without case, accents and marks."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return " ".join("".join(char if char.isalnum() else " " for char in plain).split())
