"""Where the inputs of a modality are: columns of the item table, or files named after items."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from dynmm_framework.errors import ConfigError, DataError

COLUMNS = {"text": ("text", "title"), "image": ("image",), "audio": ("audio",)}
"""Columns of the item table that hold a modality, the first that has a value counts."""

MAX_TEXT = 100_000
"""Characters of a text that are looked at; encoders see far less."""

_PLACE = "{id}"
_URL = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What there is to encode of each item.

    Attributes:
        ids: Raw identifiers of all items.
        values: Text, or path of a file, of each item; ``None`` where it has none.
        reasons: Why an item has none; empty where it has one.
    """

    ids: Sequence[str]
    values: Sequence[str | None]
    reasons: Sequence[str]


def find_inputs(
    items: pa.Table,
    modality: str,
    *,
    files: Sequence[str | None] = (),
    fields: Sequence[str] = (),
) -> Inputs:
    """Finds the input of each item.

    Args:
        items: The dataset's item table.
        modality: ``text``, ``image`` or ``audio``.
        files: Path of each item's file from :func:`locate_files`; without them the table's
            column counts.
        fields: Columns whose values make the text, joined, instead of the first that has one.

    Raises:
        DataError: If the table has no such column, or no item has an input.
    """
    ids = [str(name) for name in items.column("id").to_pylist()]
    values: list[str | None]
    reasons: list[str]
    if files:
        values, nothing = list(files), "no file for this id"
        reasons = ["" if value else nothing for value in values]
    elif fields:
        values = _joined(items, fields)
        reasons = ["" if value else "none given" for value in values]
    else:
        columns = [name for name in COLUMNS[modality] if name in items.column_names]
        if not columns:
            raise DataError(
                f"the items have no {modality}: there is no column {COLUMNS[modality][0]!r} in the "
                f"item table, which has {', '.join(items.column_names)}",
                hint=f"Choose a reader or metadata with {modality}s, or drop the encoder.",
            )
        values, reasons = [], []
        for row in zip(*(items.column(name).to_pylist() for name in columns), strict=True):
            value = next((str(cell)[:MAX_TEXT] for cell in row if cell and str(cell).strip()), None)
            reason = "" if value else "none given"
            if value and modality != "text" and _URL.match(value):
                value, reason = None, "a URL, not a file"
            values.append(value)
            reasons.append(reason)
    if not any(values):
        raise DataError(f"no item has a usable {modality}: {_why(reasons)}", hint=_hint(reasons))
    return Inputs(ids, values, reasons)


def _joined(items: pa.Table, fields: Sequence[str]) -> list[str | None]:
    """Returns the texts that some columns make together."""
    absent = [name for name in fields if name not in items.column_names]
    odd = [
        name
        for name in fields
        if name not in absent
        and (pa.types.is_struct(kind := items.schema.field(name).type) or pa.types.is_binary(kind))
    ]
    if odd:
        raise DataError(
            f"column {', '.join(map(repr, odd))} of the item table holds no text, number or list"
            " of them",
            hint="Name other columns in encoders.text.fields.",
        )
    if absent:
        raise DataError(
            f"the item table has no column {', '.join(map(repr, absent))}, which the text is to be"
            f" made of; it has {', '.join(items.column_names)}",
            hint="Name columns of it in encoders.text.fields.",
        )
    texts: list[str | None] = []
    for row in zip(*(items.column(name).to_pylist() for name in fields), strict=True):
        parts = (_cell(cell).rstrip(".") for cell in row)
        texts.append(". ".join(filter(None, parts))[:MAX_TEXT] or None)
    return texts


def _cell(cell: object) -> str:
    """Returns a cell as text, empty where there is nothing in it."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, list):
        return ", ".join(filter(None, map(_cell, cell)))
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def file_stem(item: str) -> str:
    """Returns an item's identifier as a file name that cannot leave its folder.

    Ordinary identifiers stay as they are; slashes, a leading dot and the like are written as in
    URLs, and very long ones are shortened with a digest.
    """
    stem = "".join(
        quote(character, safe="")
        if character in '/\\:*?"<>|%' or ord(character) < 32
        else character
        for character in item
    )
    if stem.startswith("."):
        stem = "%2E" + stem[1:]
    if not stem:
        stem = "%"
    if len(stem.encode("utf-8", "replace")) > 180:
        digest = hashlib.sha256(item.encode("utf-8", "replace")).hexdigest()[:16]
        stem = f"{stem.encode('utf-8', 'replace')[:120].decode('utf-8', 'ignore')}-{digest}"
    return stem


def locate_files(ids: Sequence[str], pattern: str, *, folder: Path | str = "") -> list[str | None]:
    """Finds the file of each item by a pattern such as ``posters/{id}.*``.

    ``{id}`` stands for the item's identifier (see :func:`file_stem`), ``*`` for any characters and
    ``?`` for one, neither of them a dot or a slash: ``{id}.*`` of item ``a`` is never ``a.b.jpg``.
    Of several files the shortest name, then the first in order is taken.

    Args:
        ids: Raw identifiers.
        pattern: A path with ``{id}``, relative to ``folder``.
        folder: Where the pattern starts; the working folder by default.

    Returns:
        A path for each item, ``None`` where there is no file.

    Raises:
        ConfigError: If the pattern names no item.
        DataError: If the folder before the first ``{id}`` does not exist.
    """
    start, parts = _split(pattern, folder)
    if not start.is_dir():
        raise DataError(
            f"the folder of media {start} does not exist",
            hint="Check media.pattern and media.folder; a relative one is in the working folder.",
        )
    folders = _Folders()
    return [_find(folders, str(start), parts, file_stem(item)) for item in ids]


def possible_files(pattern: str, *, folder: Path | str = "") -> list[tuple[str, os.stat_result]]:
    """Returns all that :func:`locate_files` could find for any item, without knowing the items.

    Args:
        pattern: As for :func:`locate_files`.
        folder: Likewise.

    Returns:
        Paths below the folder that the pattern starts from, in order, and what is known of each;
        none if that folder does not exist.

    Raises:
        ConfigError: If the pattern names no item.
    """
    start, parts = _split(pattern, folder)
    paths = [start]
    for part in parts:
        matches = re.compile(_regex(part, None), re.DOTALL).fullmatch
        paths = [path / name for path in paths for name in _listed(path) if matches(name)]
    found = []
    for path in paths:
        with suppress(OSError):  # a link that leads nowhere is no file
            found.append((path.relative_to(start).as_posix(), path.stat()))
    return found


def _split(pattern: str, folder: Path | str) -> tuple[Path, tuple[str, ...]]:
    """Returns the folder before the first part with ``{id}`` or a wildcard, and the parts."""
    if _PLACE not in pattern:
        raise ConfigError(
            f"the media pattern {pattern!r} names no item",
            hint="Put {id} where the item's identifier stands: posters/{id}.jpg.",
        )
    parts = Path(folder, pattern).expanduser().parts
    first = next(number for number, part in enumerate(parts) if _PLACE in part or _is_wild(part))
    return (Path(*parts[:first]) if first else Path()), parts[first:]


def _listed(folder: str | Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return []


class _Folders:
    """Listings of folders, each read once: a glob for every item would read them every time."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._sets: dict[str, set[str]] = {}

    def has(self, folder: str, name: str) -> bool:
        if folder not in self._sets:
            self._sets[folder] = set(self._list(folder))
        return name in self._sets[folder]

    def starting_with(self, folder: str, prefix: str) -> list[str]:
        from bisect import bisect_left

        names = self._list(folder)
        first = bisect_left(names, prefix)
        last = first
        while last < len(names) and names[last].startswith(prefix):
            last += 1
        return names[first:last]

    def _list(self, folder: str) -> list[str]:
        if folder not in self._names:
            self._names[folder] = _listed(folder)
        return self._names[folder]


def _find(folders: _Folders, folder: str, parts: Sequence[str], stem: str) -> str | None:
    if not parts:
        return folder
    part, rest = parts[0], parts[1:]
    if not _is_wild(part):
        name = part.replace(_PLACE, stem)
        if not folders.has(folder, name):
            return None
        return _find(folders, f"{folder}{os.sep}{name}", rest, stem)
    literal = re.split(r"[*?]", part, maxsplit=1)[0]
    prefix = literal.replace(_PLACE, stem)
    matches = re.compile(_regex(part[len(literal) :], stem), re.DOTALL).fullmatch
    found = [name for name in folders.starting_with(folder, prefix) if matches(name[len(prefix) :])]
    for name in sorted(found, key=lambda name: (len(name), name)):
        path = _find(folders, f"{folder}{os.sep}{name}", rest, stem)
        if path is not None:
            return path
    return None


def _regex(text: str, stem: str | None) -> str:
    """Returns the regular expression of a part of a pattern, for one item or for any."""
    pieces = re.split(r"(\*|\?|\{id\})", text)
    special = {"*": "[^./]*", "?": "[^./]", _PLACE: ".+" if stem is None else re.escape(stem)}
    return "".join(special.get(piece, re.escape(piece)) for piece in pieces)


def _is_wild(part: str) -> bool:
    return "*" in part or "?" in part


def _why(reasons: Sequence[str]) -> str:
    from collections import Counter

    counts = Counter(reason for reason in reasons if reason)
    return ", ".join(f"{reason} ({count:,})" for reason, count in counts.most_common(3)) or "empty"


def _hint(reasons: Sequence[str]) -> str:
    if "a URL, not a file" in reasons:
        return "Download the files first: dynmm data media."
    if "no file for this id" in reasons:
        return "Check media.pattern: {id} stands for the item's identifier in the data."
    return "Choose a reader or metadata that brings them, or drop the encoder."
