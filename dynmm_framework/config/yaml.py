"""YAML 1.2 as plain data: safe, with the line of every key, and nothing read that was not meant.

Refused with a line number, all at once where the text can still be read: duplicate keys, tags,
keys that are not text, aliases that contain themselves or expand without bound.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from dynmm_framework.errors import ConfigError, Problem
from dynmm_framework.specs import did_you_mean

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the root of a document."""

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 64

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    Attributes:
        data: Mappings, lists, text, numbers, booleans and nulls.
        lines: Line, from 1, of every key and list entry.
        file: The file as the user named it; empty for a text.
    """

    data: dict[str, Any]
    lines: Mapping[KeyPath, int]
    file: str

    def line(self, path: KeyPath) -> int:
        """Returns the line of a path, or of the innermost block around it that exists."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 0)


def parse(source: Path | str, *, file: str = "") -> Document:
    """Parses a file (a ``Path``) or a text (a ``str``).

    Args:
        source: The file or the text. Its root is a mapping.
        file: Name for messages; by default the path.

    Raises:
        ConfigError: If the file cannot be read or is not such YAML; all problems at once.
    """
    document, problems = read(source, file=file)
    if problems or document is None:
        raise ConfigError(problems)
    return document


def read(source: Path | str, *, file: str = "") -> tuple[Document | None, list[Problem]]:
    """Parses as :func:`parse` and returns the problems beside what could be read."""
    if isinstance(source, Path):
        file = file or str(source)
        text = _text(source, file)
        if isinstance(text, Problem):
            return None, [text]
    else:
        text = source
    return _document(text, file)


def parse_value(text: str) -> Any:
    """Parses the value of an override: a scalar, or a list or mapping in flow style.

    Raises:
        ConfigError: If it is not such YAML.
    """
    node = _compose(text, "")
    if isinstance(node, Problem):
        raise ConfigError([node])
    reader = _Reader("")
    value = reader.value(node, ()) if node is not None else None
    if reader.problems:
        raise ConfigError(reader.problems)
    return value


def _text(path: Path, file: str) -> str | Problem:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Problem(f"no such file{did_you_mean(path.name, _names(path.parent))}", file=file)
    except IsADirectoryError:
        return Problem("this is a folder; name a YAML file in it", file=file)
    except PermissionError:
        return Problem("no permission to read this file", file=file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG
        return Problem(f"cannot be read: {reason}", file=file[:80] + "…" if too_long else file)
    if len(content) > MAX_BYTES:
        return Problem(f"larger than {MAX_BYTES // 1_000_000} MB; is this YAML?", file=file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"not UTF-8 text (byte 0x{content[error.start]:02x}); save it as UTF-8"
        return Problem(reason, file=file, line=line)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _document(text: str, file: str) -> tuple[Document | None, list[Problem]]:
    node = _compose(text, file)
    if isinstance(node, Problem):
        return None, [node]
    if node is None or node.tag == f"{_TAG}null":
        return None, [Problem("the file is empty", file=file)]
    reader = _Reader(file)
    data = reader.value(node, ())
    if not isinstance(data, dict):
        # A file of another kind is one long string: its beginning tells which.
        kind = "a list" if isinstance(data, list) else f"{str(data)[:40]!r}"
        problem = Problem(f"expected `key: value` lines, found {kind}", file=file, line=1)
        return None, reader.problems or [problem]
    reader.lines[()] = node.start_mark.line + 1
    return Document(data, MappingProxyType(reader.lines), file), reader.problems


def _compose(text: str, file: str) -> Node | Problem | None:
    """Builds the tree of nodes, which knows lines, or says why the text is not YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

    directive = re.search(r"\A(?:\s*(?:#.*)?\n)*%", text)
    if directive:  # %YAML 1.1 would turn `no` into false
        line = text.count("\n", 0, directive.end()) + 1
        return Problem("remove the line that starts with %: this is YAML 1.2", file=file, line=line)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ReusedAnchorWarning)
            return YAML(typ="safe", pure=True).compose(text)  # type: ignore[no-any-return]
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        return Problem(f"not valid YAML: {_plain(error)}", file=file, line=line)
    except ReusedAnchorWarning as error:
        name = re.search(r"duplicate anchor '(.*)'", str(error))
        lines = re.findall(r"line (\d+), column", str(error))
        reason = f"the anchor {repr(name[1]) + ' ' if name else ''}is defined twice"
        line = int(lines[-1]) if lines else 0
        return Problem(f"not valid YAML: {reason}", file=file, line=line)
    except YAMLError as error:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        reason = "a control character; is this a text file?"
        return Problem(f"not valid YAML: {reason}", file=file, line=line)
    except RecursionError:
        return Problem(f"nests too deep, beyond {MAX_DEPTH} levels", file=file)


def _plain(error: Any) -> str:
    problem, context = error.problem or "", error.context or ""
    if r"'\t'" in problem:
        return "a tab; indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a key where none can be; check the indentation, and quote text that holds ': '"
    if "single document" in context:
        return "a second document begins here; a file holds one"
    if "undefined alias" in problem:
        return str(problem).replace("found undefined alias", "there is no anchor for the alias")
    if "cannot start any token" in problem:
        return str(problem).replace("that cannot start any token", "that must be quoted")
    return f"{problem}, {context}" if context else str(problem)


@dataclass(slots=True)
class _Reader:
    """Turns nodes into plain data, noting lines and problems."""

    file: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    reported: set[tuple[int, str]] = field(default_factory=set)
    count: int = 0

    def problem(self, node: Node, path: KeyPath, message: str) -> None:
        line, dotted = node.start_mark.line + 1, ".".join(map(str, path))
        if (line, message) not in self.reported:  # an alias would repeat what its anchor holds
            self.reported.add((line, message))
            self.problems.append(Problem(message, file=self.file, line=line, path=dotted))

    def full(self, node: Node, path: KeyPath, depth: int) -> bool:
        """Counts a node; true, with a problem, once a file expands or nests beyond all use."""
        self.count += 1
        if self.count < MAX_NODES and depth < MAX_DEPTH:
            return False
        if self.count <= MAX_NODES:
            self.count = MAX_NODES  # everything that follows is skipped
            excess = "nests too deep" if depth == MAX_DEPTH else "is too long"
            self.problem(node, path[:3], f"{excess}; does an alias repeat or contain itself?")
        return True

    def value(self, node: Node, path: KeyPath, depth: int = 0) -> Any:
        from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

        tag = str(node.tag)
        if self.full(node, path, depth):
            return None
        if isinstance(node, MappingNode) and tag == f"{_TAG}map":
            return self.mapping(node, path, depth)
        if isinstance(node, SequenceNode) and tag == f"{_TAG}seq":
            entries = []
            for index, child in enumerate(node.value):
                self.lines[*path, index] = child.start_mark.line + 1
                entries.append(self.value(child, (*path, index), depth + 1))
                if self.count >= MAX_NODES:
                    break
            return entries
        if isinstance(node, ScalarNode) and tag.startswith(_TAG):
            try:
                return _scalar(tag.removeprefix(_TAG), node.value)
            except (ValueError, KeyError):
                pass
        shown = tag.replace(_TAG, "!!")
        if isinstance(node, ScalarNode):
            shown += " " + node.value.encode(errors="backslashreplace").decode()
        self.problem(node, path, f"{shown[:60]} is not allowed; files hold plain data only")
        return None

    def mapping(self, node: Any, path: KeyPath, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        # Explicit keys win over merged ones, and an earlier merge over a later one.
        for key_node, child in reversed(node.value):
            if key_node.tag == f"{_TAG}merge":
                data |= self.merged(child, path, depth + 1)
        first: dict[str, int] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.key(key_node, path)
            if key is None:
                continue
            if key in first:
                message = f"duplicate key; the first is on line {first[key]}"
                self.problem(key_node, (*path, key), message)
            else:
                first[key] = line
                data[key] = self.value(child, (*path, key), depth + 1)
                self.lines[*path, key] = line
            if self.count >= MAX_NODES:
                break
        return data

    def key(self, node: Any, path: KeyPath) -> str | None:
        """Reads a key; anything but text is a problem and gives ``None``."""
        if node.tag == f"{_TAG}str":
            key = self.value(node, path)
            return key if isinstance(key, str) else None
        if isinstance(node.value, str):
            self.problem(node, path, f'the key {node.value} is not text; write "{node.value}"')
        else:
            self.problem(node, path, "a key is text, and this is a list or mapping")
        return None

    def merged(self, node: Any, path: KeyPath, depth: int) -> dict[str, Any]:
        """Reads what follows a merge key ``<<``: one mapping, or a list of them."""
        data: dict[str, Any] = {}
        for child in reversed(node.value if node.tag == f"{_TAG}seq" else [node]):
            if child.tag != f"{_TAG}map":
                self.problem(child, path, "<< must be followed by a mapping or a list of them")
            elif not self.full(child, path, depth):
                data |= self.mapping(child, path, depth)
        return data


def _scalar(tag: str, text: str) -> Any:
    """Reads a scalar by the core schema; dates stay text.

    Raises:
        KeyError: If the tag is not of the core schema.
        ValueError: If the text does not fit the tag.
    """
    if tag in ("str", "timestamp", "value"):
        return _joined(text)
    if tag == "null":
        return None
    if tag == "bool":
        return {"true": True, "false": False}[text.lower()]
    digits = text.replace("_", "").lower()
    if tag == "float":
        return float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    if tag == "int":
        if not digits.lstrip("+-"):
            return text  # `_` is text
        if len(digits) > 100:
            raise ValueError("too many digits")
        sign = -1 if digits.startswith("-") else 1
        digits = digits.lstrip("+-")
        base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
        return sign * int(digits[2:] if base != 10 else digits, base)
    raise KeyError(tag)


def _joined(text: str) -> str:
    r"""Joins the halves of characters that JSON escapes in two: ``\ud83d\ude00``.

    Raises:
        ValueError: If a half stands alone; it could not be written to any file.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return text
