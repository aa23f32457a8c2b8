"""What the columns of a file must hold, converted all at once or examined value by value.

A reader converts whole columns. Only if one does not fit are its values looked at one by one, to
say which lines are wrong and why; so good files are read fast and bad ones explained well.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from dynmm_framework.data.assemble import LAST_SECOND

Kind = Literal["id", "number", "time", "text", "list", "any"]
Unit = Literal["s", "ms", "us", "ns"]

PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLAIN = re.compile(r"\d{1,11}(\.\d{1,15})?", re.ASCII)
"""A number that is finite and, as a time in any unit, before the year 5138."""
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_LONGEST_QUOTE = 40


class Unfit(Exception):  # noqa: N818 - a signal between the fast and the careful path
    """Some value of a column is not what its field asks for; examine the rows to say which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column to read from a file, and what its values must be.

    Attributes:
        name: Name of the column in the table that is read.
        column: Name in the file's header, or the number (from 0) in a file without one.
        kind: ``id``, ``number`` (finite), ``time`` (number, or date and time), ``text``,
            ``list`` (of strings) or ``any``.
        optional: Whether the file may lack the column.
        empty: Whether values may be missing; of text, lists and ``any`` they always may.
        unique: Whether no value may occur twice.
        unit: Unit of times given as numbers since 1970.
        pattern: Form of times given as text, as for ``strptime``; ISO 8601 if empty.
        separator: What separates the elements of a list given as text.
        setting: The setting that names the column, for messages.
    """

    name: str
    column: str | int
    kind: Kind = "text"
    optional: bool = False
    empty: bool = False
    unique: bool = False
    unit: Unit = "s"
    pattern: str = ""
    separator: str = "|"
    setting: str = ""

    @property
    def may_be_empty(self) -> bool:
        return self.empty or self.kind in ("text", "list", "any")


def convert(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    """Converts a column to the type of its field: strings, float64, times, lists of strings.

    Blank strings become null, and strings lose the white space around them.

    Args:
        values: The column as the file's format delivers it.
        field: What it must hold.

    Returns:
        ``id`` and ``text``: string; ``number``: float64; ``time``: int64 or float64 seconds, or a
        timestamp where a finer unit keeps the order; ``list``: list of string; ``any``: as it is,
        text that is all numbers as numbers.

    Raises:
        Unfit: If a value is missing, or not what the field asks for.
    """
    try:
        converted = _CONVERTERS[field.kind](values, field)
    except (pa.ArrowException, OverflowError) as error:
        raise Unfit(str(error)) from error
    if converted.null_count and not field.may_be_empty:
        raise Unfit("missing values")
    if field.unique and pc.count_distinct(converted).as_py() < len(converted):
        raise Unfit("repeated values")
    return converted


def _strings(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(values.type):
        raise Unfit("nested values")
    trimmed = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _ids(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    if pa.types.is_floating(values.type):
        if not _all(pc.is_finite(values)):
            raise Unfit("ids that are not finite")
        with suppress(pa.ArrowInvalid):  # ids that pandas made floats: 12.0 is 12
            values = values.cast(pa.int64())
    ids = _strings(values)
    if _any(pc.match_substring(ids, "\n")):  # a quote that swallowed lines
        raise Unfit("ids with line feeds")
    return ids


def _numbers(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    if _is_text(values.type):
        values = _strings(values)
    numbers = values.cast(pa.float64())
    if field.empty:  # how pandas writes a missing number
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    if not _all(pc.is_finite(numbers)):
        raise Unfit("numbers that are not finite")
    return numbers


def _times(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    if field.pattern and pa.types.is_integer(values.type):  # 20240131 as a number
        values = values.cast(pa.string())
    if _is_text(values.type):
        values = _times_of_text(_strings(values), field)
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    kind = values.type
    if pa.types.is_temporal(kind):
        moments = values.cast(pa.timestamp("us", getattr(kind, "tz", None)))
        _check_seconds(pc.divide(moments.cast(pa.int64()), 1_000_000), moments.cast(pa.int64()))
        return moments
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise Unfit(f"times of type {kind}")
    if pa.types.is_floating(kind):
        values = _numbers(values, field)
        if field.unit != "s":
            values = pc.divide(values, float(PER_SECOND[field.unit]))
        _check_seconds(values, values)
        return values
    values = values.cast(pa.int64())
    _check_seconds(pc.divide(values, PER_SECOND[field.unit]), values)
    return values if field.unit == "s" else values.cast(pa.timestamp(field.unit))


def _times_of_text(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    if field.pattern:
        return pc.strptime(values, format=field.pattern, unit="us", error_is_null=False)
    for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:
            continue
    raise Unfit("times of several forms")


def _check_seconds(seconds: pa.ChunkedArray, exact: pa.ChunkedArray) -> None:
    if _any(pc.less(exact, 0)) or _any(pc.greater(seconds, LAST_SECOND)):
        raise Unfit("times before 1970 or after 9999")


def _texts(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    return _strings(values)


def _lists(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    if not _is_text(values.type) and not pa.types.is_null(values.type):
        return values.cast(pa.list_(pa.string()))
    cut = field.separator
    lists = [
        [word for part in text.split(cut) if (word := part.strip())] or None if text else None
        for text in values.cast(pa.string()).to_pylist()
    ]
    return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])


def _anything(values: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    if not _is_text(values.type):
        return values
    values = _strings(values)
    for kind in (pa.int64(), pa.float64()):
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:
            continue
    return values


_CONVERTERS = {
    "id": _ids,
    "number": _numbers,
    "time": _times,
    "text": _texts,
    "list": _lists,
    "any": _anything,
}


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _all(mask: pa.ChunkedArray) -> bool:
    return pc.all(mask, min_count=0).as_py() is not False


def _any(mask: pa.ChunkedArray) -> bool:
    return pc.any(mask, min_count=0).as_py() is True


def complaint(value: object, field: Field, forms: dict[str, str]) -> str:
    """Returns what is wrong with one value, or an empty string.

    Args:
        value: As the file has it: text, or what JSON or Parquet deliver.
        field: What it must be.
        forms: The form of each time column met so far (``number`` or ``date``), kept up here: one
            column holds one form.
    """
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        return "" if field.may_be_empty else "is empty"
    if field.kind in ("any", "list"):
        return ""
    if isinstance(value, list | tuple | dict | set):
        return f"{quoted(value)} is a {type(value).__name__}, not {_WORDS[field.kind]}"
    if field.kind == "text":
        return ""
    if isinstance(value, str) and _plain(value, field, forms):
        return ""
    if field.kind == "id":
        if isinstance(value, str):
            return f"{quoted(value)} holds a line feed; is a quote around it never closed?"
        finite = not isinstance(value, float) or math.isfinite(value)
        return "" if finite else f"{value} is not an id"
    if field.kind == "number":
        return _wrong_number(value, field)
    return _wrong_time(value, field, forms)


def _plain(value: str, field: Field, forms: dict[str, str]) -> bool:
    """Whether a value is right at first sight, as nearly all are."""
    if field.kind == "id":
        return "\n" not in value
    if field.kind == "time" and (field.pattern or forms.get(field.name) != "number"):
        return False
    return _PLAIN.fullmatch(value) is not None


_WORDS: dict[str, str] = {"id": "an id", "number": "a number", "time": "a time", "text": "text"}


def quoted(value: object) -> str:
    """Returns a value as a message shows it, shortened."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def _wrong_number(value: object, field: Field) -> str:
    if isinstance(value, str):
        if _NOT_FINITE.fullmatch(value):
            missing = field.empty and value.lower().endswith("nan")
            return "" if missing else f"{value} is not finite"
        if not _NUMBER.fullmatch(value):
            comma = re.fullmatch(r"-?\d+,\d+", value, re.ASCII)
            advice = "; decimals are written with a point" if comma else ""
            return f"{quoted(value)} is not a number{advice}"
        value = float(value)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return f"{quoted(value)} is not a number"
    if math.isnan(number) and field.empty:
        return ""
    return "" if math.isfinite(number) else f"{number} is not finite"


def _wrong_time(value: object, field: Field, forms: dict[str, str]) -> str:
    try:
        moment = _moment(value, field)
    except ValueError:
        if field.pattern:
            return f"{quoted(value)} is not a date and time of the form {field.pattern!r}"
        return f"{quoted(value)} is neither a number nor a date and time in ISO 8601"
    form = "number" if moment is None else "date"
    if forms.setdefault(field.name, form) != form:
        return f"{quoted(value)} is a {form}, unlike the values before it"
    if moment is not None:
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        return f"{quoted(value)} is before 1970" if seconds < 0 else ""
    if wrong := _wrong_number(value, field):
        return wrong
    number = float(value)  # type: ignore[arg-type]
    if number < 0:
        return f"{value} is negative; times are counted from 1970"
    if number / PER_SECOND[field.unit] > LAST_SECOND:
        unit = {"s": "milliseconds", "ms": "microseconds"}.get(field.unit, "a finer unit")
        return f"{value} lies after the year 9999; is it in {unit}?"
    return ""


def _moment(value: object, field: Field) -> datetime | None:
    """Returns the moment that a date or text says; ``None`` for a number."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if field.pattern:
        return datetime.strptime(str(value), field.pattern)
    if not isinstance(value, str) or _NUMBER.fullmatch(value) or _NOT_FINITE.fullmatch(value):
        return None
    return datetime.fromisoformat(value)
