"""Splits given by files: one user per line (``user item item …``, as LightGCN's), or matrices.

Sparse matrices users × items (``.npz``) say by their shape which users and items there are; see
:mod:`dynmm_framework.data.matrices`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.config.pipeline import GivenFiles
from dynmm_framework.data.arrow import as_ids, counted, listed
from dynmm_framework.data.assemble import select_rows
from dynmm_framework.data.matrices import is_matrix, numbers_as_ids, read_matrices
from dynmm_framework.data.order import chronological_order
from dynmm_framework.data.parts import TEST, TRAIN, VALID, drawn_within, held_out
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import IntArray


@dataclass(frozen=True, eq=False)
class Given:
    """A split as its files give it; see :class:`dynmm_framework.data.splits.Split`."""

    rows: Interactions
    parts: NDArray[np.int8]
    items: pa.Table
    users: pa.Table
    notes: tuple[str, ...]


def read_given(dataset: Dataset, block: GivenFiles, rng: np.random.Generator) -> Given:
    """Reads a split's files and finds their items' names in the dataset.

    The files alone make the catalogue. Their ids are raw ids of the dataset. If the item ids of
    all files together are the whole numbers from 0 on without a gap, each number is kept as the
    id; else ids count by first appearance in training, validation, test. The same holds for the
    users. Rows and columns of matrices are such numbers, those without an interaction included.
    The dataset's interactions and filters have no influence; its tables give the names.

    Args:
        dataset: The reader's dataset.
        block: The files.
        rng: Draws the validation items if there is no file for them.

    Raises:
        DataError: If files are missing, empty or not UTF-8, if matrices are damaged, not binary or
            of different shapes, or if no item is one of the dataset.
    """
    files = [(block.train, TRAIN), (block.test, TEST)]
    if block.valid is not None:
        files.insert(1, (block.valid, VALID))
    paths = [path for path, _ in files]
    rows, sizes, user_names, item_names = (
        _from_matrices(paths) if any(map(is_matrix, paths)) else _from_lines(paths)
    )
    parts = np.repeat(np.array([code for _, code in files], np.int8), sizes)
    order = chronological_order(rows.users)
    rows, parts = rows.take(order), parts[order]
    if block.valid is None and block.valid_share:
        parts = _hold_out(rows, parts, block.valid_share, rng)
    found, note = _match(dataset, item_names)
    repeated = _repeated(rows, parts)
    return Given(
        rows=rows,
        parts=parts,
        items=found,
        users=select_rows(dataset.users, user_names),
        notes=(note, *repeated),
    )


Read: TypeAlias = tuple[Interactions, list[int], pa.Array, pa.Array]
"""Rows of all files, one file after another, how many each has, and names of users and items."""


def _from_matrices(paths: list[str]) -> Read:
    if others := [path for path in paths if not is_matrix(path)]:
        raise DataError(
            [Problem("is no .npz matrix, and another file of the split is", p) for p in others],
            hint="Give all files of the split in one form.",
        )
    found = read_matrices([Path(path) for path in paths])
    n_users, n_items = found[0].n_users, found[0].n_items
    rows = Interactions(
        users=np.concatenate([matrix.users for matrix in found]),
        items=np.concatenate([matrix.items for matrix in found]),
        n_users=n_users,
        n_items=n_items,
    )
    return rows, [len(m) for m in found], numbers_as_ids(n_users), numbers_as_ids(n_items)


def _from_lines(paths: list[str]) -> Read:
    problems: list[Problem] = []
    read = [_read_lines(path, problems) for path in paths]
    if problems:
        raise DataError(problems, hint="Check the paths and files named in the split block.")
    users, user_names = _numbers([users for users, _, _ in read])
    items, item_names = _numbers([items for _, items, _ in read])
    lengths = np.concatenate([lengths for _, _, lengths in read])
    rows = Interactions(
        users=np.repeat(users, lengths),
        items=items,
        n_users=len(user_names),
        n_items=len(item_names),
    )
    return rows, [len(items) for _, items, _ in read], user_names, item_names


def _read_lines(
    path: str, problems: list[Problem]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, NDArray[np.int64]]:
    """Returns the users of the lines, all their items one after another, and items per line."""
    none = pa.chunked_array([], pa.large_string())
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        problems.append(Problem(f"cannot be read: {error.strerror or error}", file=path))
        return none, none, np.empty(0, np.int64)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(Problem("is not text in UTF-8", file=path, line=line))
        return none, none, np.empty(0, np.int64)
    lines = pc.split_pattern(pa.array([text], pa.large_string()), "\n").flatten()
    lines = pc.utf8_trim_whitespace(lines)
    lines = lines.filter(pc.not_equal(lines, ""))
    words = pc.utf8_split_whitespace(lines)
    lengths = pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(np.int64)
    tokens = words.flatten()
    is_user = np.zeros(len(tokens), np.bool_)
    is_user[np.cumsum(lengths) - lengths] = True
    if is_user.all():
        problems.append(Problem("holds no user with an item", file=path))
    return (
        pa.chunked_array([tokens.filter(pa.array(is_user))]),
        pa.chunked_array([tokens.filter(pa.array(~is_user))]),
        lengths - 1,
    )


def _numbers(columns: list[pa.ChunkedArray]) -> tuple[IntArray, pa.Array]:
    """Numbers the ids of all files together; gapless whole numbers from 0 are kept."""
    numbers, names = as_ids(pa.chunked_array([c for column in columns for c in column.chunks]))
    if not pc.all(pc.match_substring_regex(names, r"^(0|[1-9][0-9]{0,8})$")).as_py():
        return numbers, names
    written = names.cast(pa.int64()).to_numpy().astype(np.int32)
    if written.max(initial=-1) + 1 != len(names):
        return numbers, names
    return written[numbers], pa.array(np.arange(len(names))).cast(pa.string())


def _hold_out(
    rows: Interactions, parts: NDArray[np.int8], share: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Draws validation rows among each user's training rows."""
    training = np.flatnonzero(parts == TRAIN)
    trained = rows.take(training)
    counts = np.bincount(trained.users, minlength=rows.n_users)
    n_valid, _ = held_out(counts, share, 0.0)
    out = parts.copy()
    out[training] = drawn_within(trained, n_valid, np.zeros_like(n_valid), rng)
    return out


def _match(dataset: Dataset, names: pa.Array) -> tuple[pa.Table, str]:
    """Returns the dataset's item table in the files' ids, and how many it knows."""
    known = dataset.items.column("id").combine_chunks()
    n_known = pc.sum(pc.is_in(names, value_set=known)).as_py() or 0
    if not n_known:
        raise DataError(
            f"none of the {len(names):,} item ids in the files of the split is an item of the "
            f"dataset {dataset.name!r}: the files have {listed(names.slice(0, 3).to_pylist())}, "
            f"the dataset {listed(known.slice(0, 3).to_pylist())}",
            hint="The files must use the raw ids of the data block's dataset. To use the files "
            "alone, let the reader `sequence_file` read the training file as the dataset.",
        )
    note = f"{n_known:,} of {counted(len(names), 'item')} found in the dataset {dataset.name!r}"
    return select_rows(dataset.items, names), note


def _repeated(rows: Interactions, parts: NDArray[np.int8]) -> list[str]:
    """Tells how many test pairs were training pairs already."""
    pairs = rows.users.astype(np.int64) * rows.n_items + rows.items
    repeated = np.isin(pairs[parts == TEST], pairs[parts == TRAIN]).sum()
    if not repeated:
        return []
    return [f"test: {counted(int(repeated), 'target')} among the user's training items too"]
