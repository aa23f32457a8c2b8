"""Results as tables: one row for each user, ranked lists, and metrics by slices of users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.data.tables import Dataset
from dynmm_framework.evaluation.evaluate import Evaluation

HISTORY_BOUNDS = (1, 5, 10, 20, 50, 100, 200)
"""First history length of each bucket; fixed, so that runs can be compared."""
POPULARITY_BOUNDS = (0, 1, 5, 20, 50, 100, 500, 2000)
"""First number of training interactions of each bucket of target items."""


def per_user_table(result: Evaluation, users: pa.Table | None = None) -> pa.Table:
    """Returns one row for each evaluated user.

    Args:
        result: The evaluation.
        users: The dataset's user table, for the users' own ids.

    Returns:
        Columns ``user`` (int32, row of the user table), ``user_id`` (string, if ``users`` is
        given), ``history_length``, ``n_targets`` and ``target_interactions`` (int32; the last is
        the number of training interactions of the target, null for users with several), then one
        float64 column for each metric with a value per user, never null: NaN where it is
        undefined.
    """
    asked = result.evaluation
    columns: dict[str, Any] = {"user": pa.array(asked.users, pa.int32())}
    if users is not None:
        columns["user_id"] = users["id"].take(columns["user"])
    columns["history_length"] = pa.array(asked.histories.lengths, pa.int32())
    columns["n_targets"] = pa.array(asked.targets.lengths, pa.int32())
    counts = np.zeros(len(asked), np.int64)
    single = asked.targets.lengths == 1
    counts[single] = result.outcome.item_counts[asked.targets.take(single).items]
    columns["target_interactions"] = pa.array(counts, pa.int32(), mask=~single)
    columns |= {name: pa.array(values, pa.float64()) for name, values in result.per_user.items()}
    return pa.table(columns)


def ranking_table(result: Evaluation, dataset: Dataset | None = None) -> pa.Table:
    """Returns the ranked lists, one row for each listed item, by user, then rank.

    Under a sampled protocol each target has a list of its own, told apart by ``target``.

    Args:
        result: The evaluation.
        dataset: For the users' and items' own ids.

    Returns:
        Columns ``user`` (int32), ``user_id`` (string, with ``dataset``), ``target`` (int32, item;
        sampled protocols only), ``rank`` (int16, from 1), ``item`` (int32), ``item_id`` (string,
        with ``dataset``), ``score`` (float32) and ``hit`` (bool: whether it is a target).
    """
    outcome = result.outcome
    rows, places = np.nonzero(outcome.top_items >= 0)
    items = outcome.top_items[rows, places]
    users = outcome.users[rows]
    columns: dict[str, Any] = {"user": pa.array(users, pa.int32())}
    if dataset is not None:
        columns["user_id"] = dataset.users["id"].take(columns["user"])
    if outcome.sampled:
        columns["target"] = pa.array(outcome.targets.items[rows], pa.int32())
    columns["rank"] = pa.array(places + 1, pa.int16())
    columns["item"] = pa.array(items, pa.int32())
    if dataset is not None:
        columns["item_id"] = dataset.items["id"].take(columns["item"])
    if outcome.top_scores is not None:
        columns["score"] = pa.array(outcome.top_scores[rows, places], pa.float32())
    asked = outcome.targets.rows * outcome.n_items + outcome.targets.items
    columns["hit"] = pa.array(np.isin(rows * outcome.n_items + items, asked))
    return pa.table(columns)


def slices(result: Evaluation) -> list[dict[str, Any]]:
    """Returns metrics by length of the history and by popularity of the target.

    By history length, a value is the mean over the bucket's users, as in the whole. By item
    popularity, every target is measured on its own, so that a user with a popular and a rare
    target counts once in each bucket.

    Returns:
        Records, plain data: ``slice`` (``history_length`` or ``item_popularity``), ``bucket``
        (such as ``5–9`` or ``100+``), ``low`` and ``high`` (inclusive; ``high`` is ``None`` in
        the last), ``n`` (users or targets), ``metric``, ``value``. Buckets without members, and
        metrics without a value per user, are absent.
    """
    lengths = result.evaluation.histories.lengths
    records = [
        record
        for name, values in result.per_user.items()
        for record in _records("history_length", HISTORY_BOUNDS, lengths, name, values)
    ]
    single = result.outcome.per_target()
    popularity = single.item_counts[single.targets.items]
    for request in result.requests:
        # Other metrics may ask for lists, which belong to users, not to targets.
        if request.name in result.per_user and request.from_ranks:
            found = np.asarray(request(single))
            records += _records(
                "item_popularity", POPULARITY_BOUNDS, popularity, request.name, found
            )
    return records


def _records(
    kind: str,
    bounds: tuple[int, ...],
    sizes: NDArray[Any],
    metric: str,
    values: NDArray[np.float64],
) -> Iterator[dict[str, Any]]:
    places = np.searchsorted(bounds, sizes, side="right") - 1
    for place, low in enumerate(bounds):
        chosen = values[(places == place) & ~np.isnan(values)]
        if not len(chosen):
            continue
        high = bounds[place + 1] - 1 if place + 1 < len(bounds) else None
        yield {
            "slice": kind,
            "bucket": _label(low, high),
            "low": low,
            "high": high,
            "n": len(chosen),
            "metric": metric,
            "value": float(chosen.mean()),
        }


def _label(low: int, high: int | None) -> str:
    if high is None:
        return f"{low:,}+"
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
