"""Files in which every line is a user's items, or one pair of user and item."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.data.columns import quoted
from dynmm_framework.data.files import DAMAGED, not_text, open_bytes, require_file
from dynmm_framework.data.rows import Findings, build, numbered_lines
from dynmm_framework.data.tables import Dataset
from dynmm_framework.protocols import Context
from dynmm_plugins.sequence_file.config import SequenceFileConfig

_INTEGER = r"^[0-9]+$"


class SequenceFile:
    """Reads the order of every user's items; there are neither times nor ratings."""

    def __init__(self, config: SequenceFileConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        findings = Findings()
        folder = None if self.config.record is None else ctx.fetch(self.config.record)
        path = _place(folder, self.config.path)
        files = [path]
        with findings.collecting():
            require_file(path)
        if self.config.attributes is not None:
            files.append(_place(folder, self.config.attributes))
            with findings.collecting():
                require_file(files[1], setting="data.config.attributes")
        findings.raise_if_any()
        return files

    def read(self, ctx: Context) -> Dataset:
        path, *attributes = self.files(ctx)
        findings = Findings()
        pairs = items = None
        with findings.collecting():
            pairs = self._pairs(path)
        for file in attributes:
            with findings.collecting():
                items = _attributes(file)
        findings.raise_if_any()
        assert pairs is not None
        name = self.config.record or path.name.removesuffix(".gz").rsplit(".", 1)[0]
        return build(name, pairs, items=items, ctx=ctx)

    def _pairs(self, path: Path) -> pa.Table:
        findings = Findings()
        numbers, tokens = _tokens(path, findings)
        findings.raise_if_any(hint="Repair or remove the lines named.")
        lengths = pc.list_value_length(tokens).to_numpy()
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        flat = tokens.flatten()
        users = flat.take(pa.array(starts))
        codes = users.dictionary_encode().indices.to_numpy()
        if self.config.ids == "integer":
            _check_integers(flat, np.repeat(numbers, lengths), path, findings)
        for line in numbers[lengths == 1]:
            findings.add("has a user and no item", file=path, line=int(line))
        if self._layout(lengths, codes) == "pairs":
            for line, length in zip(numbers[lengths > 2], lengths[lengths > 2], strict=True):
                findings.add(f"has {length} tokens; a pair has 2", file=path, line=int(line))
        else:
            _check_users(users, codes, numbers, path, findings)
        findings.raise_if_any(hint="Repair or remove the lines named.")
        is_item = np.ones(len(flat), np.bool_)
        is_item[starts] = False
        return pa.table(
            {
                "user": users.take(pa.array(np.repeat(np.arange(len(users)), lengths - 1))),
                "item": flat.filter(pa.array(is_item)),
            }
        )

    def _layout(self, lengths: NDArray[np.int32], codes: NDArray[np.int32]) -> str:
        if self.config.layout != "auto":
            return self.config.layout
        repeated = codes.max() + 1 < len(codes)
        return "pairs" if np.median(lengths) == 2 and repeated else "lines"


def _place(folder: Path | None, name: str) -> Path:
    return Path(name).expanduser() if folder is None else folder / name


def _tokens(path: Path, findings: Findings) -> tuple[NDArray[np.int64], pa.Array]:
    """Returns the numbers of the lines that are not blank, and the tokens of each."""
    if foreign := not_text(path):
        findings.add(foreign, file=path)
        findings.raise_if_any()
    try:
        with open_bytes(path) as stream:
            text = stream.read().decode("utf-8-sig")
    except (UnicodeDecodeError, *DAMAGED):
        for _ in numbered_lines(path, findings=findings):
            pass
        if not findings:
            findings.add("cannot be decoded", file=path)
        findings.raise_if_any(hint="The file must be plain text in UTF-8, or gzip of it.")
    lines = pc.split_pattern(pa.array([text], pa.large_string()), "\n").flatten()
    lines = pc.utf8_trim_whitespace(lines)
    filled = np.flatnonzero(pc.not_equal(lines, "").to_numpy(zero_copy_only=False))
    if not len(filled):
        findings.add("has no rows", file=path)
        findings.raise_if_any(hint="Download or export the file again.")
    return filled + 1, pc.utf8_split_whitespace(lines.take(pa.array(filled)))


def _check_integers(
    tokens: pa.Array, lines: NDArray[np.int64], path: Path, findings: Findings
) -> None:
    integer = pc.match_substring_regex(tokens, _INTEGER).to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(~integer):
        token = quoted(tokens[int(place)].as_py())
        findings.add(
            f"{token} is not a whole number; if ids are words, set data.config.ids to any",
            file=path,
            line=int(lines[place]),
        )


def _check_users(
    users: pa.Array,
    codes: NDArray[np.int32],
    numbers: NDArray[np.int64],
    path: Path,
    findings: Findings,
) -> None:
    _, first = np.unique(codes, return_index=True)
    again = np.setdiff1d(np.arange(len(codes)), first)
    for place in again:
        findings.add(
            f"user {quoted(users[int(place)].as_py())} has a line already, "
            f"line {numbers[first[codes[place]]]}",
            file=path,
            line=int(numbers[place]),
        )


def _attributes(path: Path) -> pa.Table:
    findings = Findings()
    attributes: object = None
    try:
        attributes = json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        findings.add(f"is not UTF-8: {error.reason} at byte {error.start + 1}", file=path)
    except json.JSONDecodeError as error:
        findings.add(f"is not JSON: {error.msg}", file=path, line=error.lineno)
    else:
        if not isinstance(attributes, dict):
            findings.add("is not an object from item to list of attributes", file=path)
    rows: dict[str, list[str]] = {}
    for item, words in attributes.items() if isinstance(attributes, dict) else ():
        if isinstance(words, list) and all(isinstance(word, str | int) for word in words):
            rows[item] = [str(word) for word in words]
        else:
            message = f"{quoted(words)} is not a list of attributes"
            findings.add(message, file=path, path=f"item {item}")
    findings.raise_if_any(hint='Set data.config.attributes to a file as {"item": [1, 2]}.')
    return pa.table(
        {
            "id": pa.array(list(rows), pa.string()),
            "categories": pa.array(list(rows.values()), pa.list_(pa.string())),
        }
    )
