"""What is kept of the raw interactions; every step reported in counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.config.pipeline import Filters
from dynmm_framework.data.arrow import counted
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.errors import DataError


def apply_filters(dataset: Dataset, filters: Filters) -> Dataset:
    """Applies the filters in the order of their fields and logs what each one leaves.

    ``min_user_interactions`` and ``min_item_interactions`` hold together with ``k_core``: no
    later step undoes an earlier one. If one of the three is on, users and items that are left
    without interactions are dropped and the rest is renumbered in its order. Items without any
    interaction in the raw data always stay: they are the cold items of the catalogue.

    Args:
        dataset: The dataset as read.
        filters: What to keep.

    Returns:
        The filtered dataset; its ``log`` has one more line for each filter that is on.

    Raises:
        DataError: If a rating filter meets data without ratings, or a step leaves nothing.
    """
    never_seen = dataset.interactions.item_counts() == 0
    if filters.min_rating is not None:
        ratings = dataset.interactions.ratings
        if ratings is None:
            raise DataError(
                f"dataset {dataset.name!r} has no ratings, so data.filters.min_rating "
                f"({filters.min_rating:g}) cannot be applied",
                hint="Remove min_rating, or name the rating column in the reader's settings.",
            )
        kept = dataset.interactions.take(ratings >= filters.min_rating)
        dataset = _kept(dataset, kept, f"min_rating {filters.min_rating:g}")
    if filters.deduplicate != "none":
        kept = deduplicated(dataset.interactions, filters.deduplicate)
        dataset = _kept(dataset, kept, f"deduplicate {filters.deduplicate}")
    per_user = per_item = 0
    for step, user_minimum, item_minimum in (
        ("k_core", filters.k_core, filters.k_core),
        ("min_user_interactions", filters.min_user_interactions, 0),
        ("min_item_interactions", 0, filters.min_item_interactions),
    ):
        minimum = max(user_minimum, item_minimum)
        if not minimum:
            continue
        per_user, per_item = max(per_user, user_minimum), max(per_item, item_minimum)
        kept, rounds = core(dataset.interactions, per_user=per_user, per_item=per_item)
        label = f"{step} {minimum} ({counted(rounds, 'round')})"
        dataset = _without_idle(dataset, kept, never_seen, label)
        never_seen = dataset.interactions.item_counts() == 0
    return dataset


def deduplicated(rows: Interactions, keep: Literal["first", "last"]) -> Interactions:
    """Returns the first or last row of each pair of user and item, in the rows' order."""
    pairs = rows.users.astype(np.int64) * rows.n_items + rows.items
    if keep == "last":
        pairs = pairs[::-1]
    first = np.unique(pairs, return_index=True)[1]
    if len(first) == len(rows):
        return rows
    kept = np.zeros(len(rows), np.bool_)
    kept[first if keep == "first" else len(rows) - 1 - first] = True
    return rows.take(kept)


def core(rows: Interactions, *, per_user: int, per_item: int) -> tuple[Interactions, int]:
    """Drops users and items with fewer rows than required until all that is left has enough.

    Args:
        rows: The interactions.
        per_user: Rows that each user needs.
        per_item: Rows that each item needs.

    Returns:
        The largest set of rows in which every user and item has enough, and the number of
        rounds that dropped some.
    """
    rounds = 0
    while True:
        enough_user = np.bincount(rows.users, minlength=rows.n_users) >= per_user
        enough_item = np.bincount(rows.items, minlength=rows.n_items) >= per_item
        kept = enough_user[rows.users] & enough_item[rows.items]
        if kept.all():
            return rows, rounds
        rows = rows.take(kept)
        rounds += 1


def _kept(dataset: Dataset, rows: Interactions, step: str) -> Dataset:
    if not len(rows):
        raise DataError(
            f"dataset {dataset.name!r}: the filter {step} leaves none of "
            f"{counted(len(dataset.interactions), 'interaction')}",
            hint="Lower it under data.filters; `dynmm data stats` shows what the data has.",
        )
    return replace(dataset, interactions=rows).noted(step)


def _without_idle(
    dataset: Dataset, rows: Interactions, never_seen: NDArray[np.bool_], step: str
) -> Dataset:
    """Returns the dataset with these rows, renumbered without the users and items that lost all."""
    user_kept = np.bincount(rows.users, minlength=rows.n_users) > 0
    item_kept = (rows.item_counts() > 0) | never_seen
    if len(rows) and not (user_kept.all() and item_kept.all()):
        new_user = np.cumsum(user_kept, dtype=np.int32) - np.int32(1)
        new_item = np.cumsum(item_kept, dtype=np.int32) - np.int32(1)
        rows = replace(
            rows,
            users=new_user[rows.users],
            items=new_item[rows.items],
            n_users=int(user_kept.sum()),
            n_items=int(item_kept.sum()),
        )
        dataset = replace(
            dataset,
            items=dataset.items.filter(pa.array(item_kept)),
            users=dataset.users.filter(pa.array(user_kept)),
        )
    return _kept(dataset, rows, step)
