"""Settings from several places (a file, the file it extends, overrides) with the origin of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from dynmm_framework.config import yaml
from dynmm_framework.config.choices import Choice, choice_at
from dynmm_framework.config.yaml import Document, KeyPath
from dynmm_framework.errors import ConfigError, Problem
from dynmm_framework.specs import fold

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a setting was written: a file and line, or an override."""

    file: str = ""
    line: int = 0
    override: bool = False


@dataclass(slots=True)
class Settings:
    """Raw settings and the place of each; changed in place by the functions of this module."""

    data: dict[str, Any]
    places: dict[KeyPath, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Document) -> Settings:
        """Takes over a parsed file."""
        lines = {(): 1, **document.lines}
        places = {path: Place(document.file, line) for path, line in lines.items()}
        return cls(document.data, places)

    def place(self, path: KeyPath) -> Place:
        """Returns the place of a path, or of the innermost block around it that was written."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place())

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Makes a problem of a finding about ``path``."""
        place = self.place(path)
        return Problem(message, file=place.file, line=place.line, path=dotted(path))

    def forget(self, path: KeyPath) -> None:
        """Drops the places of a path and of all that is inside it."""
        depth = len(path)
        for known in [p for p in self.places if p[:depth] == path]:
            del self.places[known]


def dotted(path: KeyPath) -> str:
    """Writes a path as in messages and overrides: ``evaluate.compare_with.0.name``."""
    return ".".join(map(str, path))


def extend(base: Settings, over: Settings) -> Settings:
    """Merges the settings of a file over those of the file that it extends.

    Mappings are merged deeply, everything else is replaced. Where a choice changes (a
    component's name, the strategy of a split) what belonged to the old one is dropped.
    """
    data = deepcopy(base.data)
    result = Settings(data, dict(base.places))
    for key, value in over.data.items():
        _put(result, data, (key,), value, over)
    result.places[()] = over.place(())
    return result


def _put(result: Settings, parent: Any, path: KeyPath, value: Any, over: Settings) -> None:
    """Merges one value of ``over`` into the mapping ``parent`` under the last part of ``path``."""
    key = path[-1]
    choice = choice_at(path)
    old = parent.get(key)
    if choice is not None:
        old, value = _spelt_out(old, choice), _spelt_out(value, choice)
    if isinstance(old, dict) and isinstance(value, dict):
        if choice is not None and _differs(old, value, choice):
            for name in [name for name in old if choice.owns(name)]:
                del old[name]
                result.forget((*path, name))
        parent[key] = old
        for name, child in value.items():
            _put(result, old, (*path, name), child, over)
    else:
        result.forget(path)
        parent[key] = deepcopy(value)
        depth = len(path)
        result.places.update((p, at) for p, at in over.places.items() if p[:depth] == path)
    result.places[path] = over.place(path)


def _spelt_out(value: Any, choice: Choice) -> Any:
    """Writes the short form ``backbone: sasrec`` as a mapping."""
    return {choice.key: value} if choice.is_component and isinstance(value, str) else value


def _differs(old: Mapping[str, Any], new: Mapping[str, Any], choice: Choice) -> bool:
    before, after = old.get(choice.key), new.get(choice.key)
    if choice.key not in new or choice.key not in old:
        return False
    if isinstance(before, str) and isinstance(after, str):
        return fold(before) != fold(after)
    return bool(before != after)


def override(settings: Settings, overrides: Iterable[str]) -> list[Problem]:
    """Applies overrides such as ``backbone.config.hidden_size=128``, in their order.

    The value is a YAML scalar, or a list or mapping in flow style. A number addresses an entry of
    a list; the number after the last appends. As in files, a new name drops the settings of the
    old component, except those that are overridden themselves.

    Returns:
        What is wrong with the overrides; those are not applied.
    """
    problems = []
    for text in overrides:
        key, equals, raw = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        file = f"override {text}"
        if not equals or not all(path):
            message = "write it as path=value, such as backbone.config.hidden_size=128"
        elif path[0] == "extends":
            message = "extends is for files; it cannot be overridden"
        elif not raw.strip():
            message = "there is no value; write null, or '' for an empty text"
        else:
            message = ""
            try:
                _set(settings, path, yaml.parse_value(raw), Place(file, override=True))
            except ConfigError as error:
                message = error.problems[0].message
            except ValueError as error:
                message = str(error)
        if message:
            problems.append(Problem(message, file=file))
    return problems


def assign(settings: Settings, values: Mapping[str, Any]) -> None:
    """Sets values by their dotted paths, in their order, as overrides do.

    Raises:
        ValueError: If a path leads through something that has no fields; says so.
    """
    for path, value in values.items():
        _set(settings, tuple(path.split(".")), deepcopy(value), Place(override=True))


def _set(settings: Settings, parts: tuple[str, ...], value: Any, place: Place) -> None:
    """Sets one value.

    Raises:
        ValueError: If the path leads through something that has no fields; says so.
    """
    node: Any = settings.data
    path: KeyPath = ()
    for part in parts[:-1]:
        step = _step(node, path, part)
        child = _child(node, step)
        choice = choice_at((*path, step))
        if choice is not None:
            child = _spelt_out(child, choice)
        if child is None:
            child = {}
            settings.places[*path, step] = place
        _assign(node, step, child)
        node, path = child, (*path, step)
    step = _step(node, path, parts[-1])
    target = (*path, step)
    choice = choice_at(target)
    if choice is not None and choice.is_component and isinstance(value, str):
        # `backbone=sasrec` means `backbone.name=sasrec`.
        old = _spelt_out(_child(node, step), choice)
        _assign(node, step, old if isinstance(old, dict) else {})
        node, path, step = _child(node, step), target, choice.key
        target = (*path, step)
    owner = choice_at(path)
    if owner is not None and step == owner.key and _differs(node, {step: value}, owner):
        for name in [name for name in node if owner.owns(name)]:
            kept = _overridden(settings, (*path, name), node[name])
            if kept is _NOTHING:
                del node[name]
            else:
                node[name] = kept
    settings.forget(target)
    settings.places[target] = place
    _assign(node, step, value)


def _step(node: Any, path: KeyPath, part: str) -> str | int:
    """Returns the key or index that ``part`` means in ``node``.

    Raises:
        ValueError: If it can mean none.
    """
    here = dotted(path)
    if isinstance(node, dict):
        return part
    if isinstance(node, list):
        if not (part.isascii() and part.isdigit()):
            raise ValueError(f"{here} is a list; write the number of an entry in place of {part!r}")
        if int(part) > len(node):
            raise ValueError(f"{here} has {len(node)} entries, and they are numbered from 0")
        return int(part)
    shown = "null" if node is None else repr(node)
    raise ValueError(f"{here} is {shown}, which has no field {part!r}")


def _child(node: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return node[step] if step < len(node) else None
    return node.get(step)


def _assign(node: Any, step: str | int, value: Any) -> None:
    if isinstance(step, int) and step == len(node):
        node.append(value)
    else:
        node[step] = value


def _overridden(settings: Settings, path: KeyPath, value: Any) -> Any:
    """Returns the part of a value that overrides have set, or ``_NOTHING``."""
    if settings.places.get(path, Place()).override:
        return value
    if not isinstance(value, dict):
        return _NOTHING
    kept = {key: _overridden(settings, (*path, key), child) for key, child in value.items()}
    return {key: child for key, child in kept.items() if child is not _NOTHING} or _NOTHING
