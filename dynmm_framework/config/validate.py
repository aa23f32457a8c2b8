"""Pydantic's errors in plain words, at the path where the reader wrote the mistake."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from dynmm_framework.config.yaml import KeyPath
from dynmm_framework.specs import closest, did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
FindingKind = Literal["value", "unknown", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at one path.

    Attributes:
        path: From the root of the file; of a missing field, where it should be.
        message: What is wrong, in plain words.
        kind: ``unknown`` for a field that does not exist, ``missing`` for one that should.
    """

    path: KeyPath
    message: str
    kind: FindingKind = "value"

    @property
    def anchor(self) -> KeyPath:
        """The path whose line is reported: for a missing field the block around it."""
        return self.path[:-1] if self.kind == "missing" else self.path


def check(model: type[M], data: Any, *, at: KeyPath = ()) -> tuple[M | None, list[Finding]]:
    """Validates raw data and explains everything that is wrong with it.

    Args:
        model: The model of the data.
        data: Plain data, as read from YAML.
        at: Path of ``data`` in its file.

    Returns:
        The validated model, ``None`` if there are findings, and the findings.
    """
    value: M | None = None
    problems: dict[KeyPath, list[ErrorDetails]] = {}
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        problems = _by_path(error, data)
    try:
        model.model_validate(data, strict=True)
    except ValidationError as error:
        # Pydantic reads `true` as 1 and "5" as 5; in a file that is a slip.
        for path, errors in _by_path(error, data).items():
            if path not in problems and all(map(_is_coercion, errors)):
                problems[path] = errors
    findings = [_finding(model, data, path, errors) for path, errors in problems.items()]
    findings = [_moved(finding, at) for finding in _without_echoes(findings)]
    return (None if findings else value), findings


def _moved(finding: Finding, at: KeyPath) -> Finding:
    return Finding((*at, *finding.path), finding.message, finding.kind)


def _without_echoes(findings: list[Finding]) -> Iterator[Finding]:
    """Drops a missing field that is there under a misspelt name, reported already."""
    for finding in findings:
        unknown = [
            f.path[-1] for f in findings if f.kind == "unknown" and f.path[:-1] == finding.anchor
        ]
        name = str(finding.path[-1]) if finding.path else ""
        meant = any(closest(str(wrong), [name]) for wrong in unknown)
        if not (finding.kind == "missing" and meant):
            yield finding


# From pydantic's locations to paths in the data.


def _by_path(error: ValidationError, data: Any) -> dict[KeyPath, list[ErrorDetails]]:
    """Groups errors by path; of a union's alternatives only the one that was meant remains."""
    located: dict[KeyPath, list[tuple[str, KeyPath, ErrorDetails]]] = {}
    for details in error.errors(include_url=False):
        path, union, tag = _locate(details, data)
        located.setdefault(path if union is None else union, []).append((tag, path, details))
    grouped: dict[KeyPath, list[ErrorDetails]] = {}
    for place, entries in located.items():
        by_tag: dict[str, list[tuple[KeyPath, ErrorDetails]]] = {}
        for tag, path, details in entries:
            by_tag.setdefault(tag, []).append((path, details))
        # An alternative that failed deep inside was meant, rather than one of another type.
        deep = [e for e in by_tag.values() if any(len(path) > len(place) for path, _ in e)]
        for chosen in [min(deep, key=len)] if deep else by_tag.values():
            for path, details in chosen:
                grouped.setdefault(path, []).append(details)
    return grouped


def _locate(details: ErrorDetails, data: Any) -> tuple[KeyPath, KeyPath | None, str]:
    """Returns the path in the data, and where a union was entered by which alternative.

    Pydantic's location also holds names of alternatives and validators, which no file has.
    """
    path: KeyPath = ()
    union: KeyPath | None = None
    tag = ""
    location = details["loc"]
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if _holds(data, part):
            data, path = data[part], (*path, part)
        elif last and details["type"] in ("missing", "extra_forbidden"):
            path = (*path, part)
        elif union is None and part != "[key]":
            union, tag = path, str(part)
    return path, union, tag


def _holds(data: Any, part: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, Mapping) and part in data


def _is_coercion(details: ErrorDetails) -> bool:
    kind, given = details["type"], details["input"]
    if kind in ("int_type", "float_type"):
        return isinstance(given, str | bool)
    return kind in ("bool_type", "literal_error", "none_required", "string_type")


# Messages.

_EXPECTED: Mapping[str, str] = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dataclass_type": "a mapping of settings",
    "dict_type": "a mapping of settings",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of ordinary size",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
    "model_type": "a mapping of settings",
    "none_required": "null",
    "path_type": "a path",
    "set_type": "a list",
    "string_type": "text",
    "tuple_type": "a list",
}

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}


def given(value: Any) -> str:
    """Names a value in a message: ``0``, ``'abc'``, ``a list``."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"{value!r}"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:57]}…")
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) else f"a {type(value).__name__}"


def _finding(
    model: type[BaseModel], data: Any, path: KeyPath, errors: list[ErrorDetails]
) -> Finding:
    first = errors[0]
    kind = first["type"]
    if kind == "missing":
        if isinstance(path[-1], int):
            return Finding(path[:-1], f"too short: entry {path[-1] + 1} is missing")
        return Finding(path, "missing", "missing")
    if kind == "extra_forbidden":
        names = _fields(model, path[:-1], data)
        hint = did_you_mean(str(path[-1]), names) or f"; known: {', '.join(names) or 'none'}"
        return Finding(path, f"unknown field{hint}", "unknown")
    context = first.get("ctx", {})
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        key = str(context["discriminator"]).strip("'")
        known = _words(context.get("expected_tags", "")) or _tags(model, path, data, key)
        if kind == "union_tag_not_found":
            return Finding((*path, key), f"missing; one of {', '.join(known)}", "missing")
        tag = str(context["tag"])
        hint = did_you_mean(tag, known) or f"; known: {', '.join(known)}"
        return Finding((*path, key), f"unknown {key} {tag!r}{hint}")
    expected = list(dict.fromkeys(filter(None, map(_expectation, errors))))
    if len(expected) < len(errors) and len(errors) > 1:
        return Finding(path, "; or ".join(dict.fromkeys(map(_message, errors))))
    if len(errors) == 1:
        return Finding(path, _message(first))
    options = [word for e in errors for word in _words(e.get("ctx", {}).get("expected", ""))]
    hint = did_you_mean(first["input"], options) if isinstance(first["input"], str) else ""
    return Finding(path, f"must be {' or '.join(expected)}, not {given(first['input'])}{hint}")


def _expectation(details: ErrorDetails) -> str:
    """Says what would be right, to follow ``must be``; empty if that cannot be said so."""
    kind, context = details["type"], details.get("ctx", {})
    if kind in ("literal_error", "enum"):
        words = _words(context["expected"])
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if kind in _BOUNDS:
        if isinstance(details["input"], str | bool):
            return "a number"  # read as one only for the sake of comparing
        key, relation = _BOUNDS[kind]
        return f"{relation} {_number(context[key])}"
    return _EXPECTED.get(kind, "")


def _message(details: ErrorDetails) -> str:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    expected = _expectation(details)
    if expected:
        hint = ""
        if kind in ("literal_error", "enum") and isinstance(value, str):
            hint = did_you_mean(value, _words(context["expected"]))
        return f"must be {expected}, not {given(value)}{hint}"
    explain = _SPECIAL.get(kind)
    if explain is not None:
        return explain(context)
    text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if text.startswith("Input should be "):
        return f"must be {text.removeprefix('Input should be ')}, not {given(value)}"
    return text or "not valid"


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def _characters(number: int) -> str:
    return f"{number} character{'' if number == 1 else 's'}"


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "too_short": lambda c: (
        f"must have at least {_entries(c['min_length'])}, not {c['actual_length']}"
    ),
    "too_long": lambda c: (
        f"must have at most {_entries(c['max_length'])}, not {c['actual_length']}"
    ),
    "string_too_short": lambda c: (
        "must not be empty"
        if c["min_length"] == 1
        else f"must have at least {_characters(c['min_length'])}"
    ),
    "string_too_long": lambda c: f"must have at most {_characters(c['max_length'])}",
    "string_pattern_mismatch": lambda c: f"must match the pattern {c['pattern']}",
}


def _words(expected: str) -> list[str]:
    """Reads pydantic's list of options: ``'none', 'first' or 3``."""
    found = re.findall(r"'([^']*)'|([^\s,']+)", expected)
    return [quoted or _plain(bare) for quoted, bare in found if bare != "or"]


def _plain(word: str) -> str:
    return {"True": "true", "False": "false", "None": "null"}.get(word, word)


# The fields that exist at a path.


def _fields(model: type[BaseModel], path: KeyPath, data: Any) -> list[str]:
    """Returns the names of the fields that the block at ``path`` may have."""
    return [name for block in _blocks(model, path, data) for name in field_names(block)]


def _tags(model: type[BaseModel], path: KeyPath, data: Any, key: str) -> list[str]:
    """Returns the values that choose among the alternatives at ``path``."""
    blocks = _blocks(model, path, data, narrow=False)
    fields = [block.model_fields[key] for block in blocks if key in block.model_fields]
    return [str(option) for field in fields for option in get_args(field.annotation)]


def field_names(model: type[BaseModel]) -> list[str]:
    """Returns the fields of a model as they are written in files."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _blocks(
    model: type[BaseModel], path: KeyPath, data: Any, *, narrow: bool = True
) -> list[type[BaseModel]]:
    annotations: list[Any] = [model]
    for part in path:
        annotations = [child for a in annotations for child in _children(a, part, data)]
        data = data[part] if _holds(data, part) else None
    data = data if narrow else None
    return [block for annotation in annotations for block in _models(annotation, data)]


def _children(annotation: Any, part: str | int, data: Any) -> Iterator[Any]:
    for model in _models(annotation, data):
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                yield field.annotation
    for option in _alternatives(annotation):
        arguments = get_args(option)
        if get_origin(option) in (dict, Mapping):
            yield from arguments[1:]
        elif isinstance(part, int):
            fixed = get_origin(option) is tuple and Ellipsis not in arguments
            yield from arguments[part : part + 1] if fixed else arguments[:1]


def _models(annotation: Any, data: Any) -> list[type[BaseModel]]:
    """Returns the models among the alternatives of a type: those that the data suggests."""
    options = _alternatives(annotation)
    models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
    if not isinstance(data, Mapping):
        return models
    models = [model for model in models if _fits(model, data)] or models
    # Where nothing chooses, the model that knows most of the keys was meant.
    known = [len(data.keys() & set(field_names(model))) for model in models]
    return [model for model, count in zip(models, known, strict=True) if count == max(known)]


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from _alternatives(option)
    else:
        yield annotation


def _fits(model: type[BaseModel], data: Mapping[Any, Any]) -> bool:
    """Tells whether the values that choose among alternatives choose this model."""
    return all(
        name not in data or data[name] in get_args(field.annotation)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal
    )
