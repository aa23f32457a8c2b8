"""Ranks of targets and lists of items, computed in chunks of users.

Memory is bounded by a byte budget: a users × items matrix never exists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.outcome import Categories, Outcome
from dynmm_framework.evaluation.scoring import (
    Advance,
    Component,
    InnerProduct,
    ScoreBuffer,
    as_recommender,
)
from dynmm_framework.evaluation.topk import largest
from dynmm_framework.protocols import FloatArray, IntArray

if TYPE_CHECKING:
    from dynmm_framework.data.candidates import Candidates

__all__ = ["Ranking", "as_recommender", "rank", "recommend"]

CPU_BYTES = 16 << 20
"""Size of one chunk's scores: small enough to stay near the cores, large enough to multiply."""
GPU_BYTES = 256 << 20
MOST_USERS = 1024
"""Most users of a chunk, for the sake of models that encode whole histories."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Lists of recommended items.

    Attributes:
        items: ``(batch, k)`` int32, best first; ``-1`` where there are fewer than ``k``.
        scores: ``(batch, k)`` float32; ``-inf`` where there is no item.
    """

    items: IntArray
    scores: FloatArray


def recommend(
    recommender: Component,
    histories: Histories,
    k: int,
    *,
    candidates: IntArray | None = None,
    exclude_history: bool = True,
) -> Ranking:
    """Lists the best items for each history; equal scores are ordered by item id.

    Args:
        recommender: A trained recommender or backbone.
        histories: The users, known or new.
        k: Length of the lists.
        candidates: Items to choose from, ``(batch, C)``; the whole catalogue if ``None``.
        exclude_history: Leave out items of the history.

    Raises:
        StageError: If scores are not finite or have the wrong shape.
    """
    buffer = ScoreBuffer(as_recommender(recommender))
    n = len(histories)
    items = np.full((n, k), -1, dtype=np.int32)
    scores = np.full((n, k), -np.inf, dtype=np.float32)
    if candidates is not None:
        candidates = np.sort(np.asarray(candidates, dtype=np.int32), axis=1)
    with torch.no_grad():
        for part in _chunks(n, _chunk_users(buffer, histories.n_items)):
            chunk = histories.take(part)
            rows = np.arange(n)[part]
            if candidates is None:
                found = buffer.catalogue(chunk, rows)
                if exclude_history:
                    found.view(-1)[_flat(chunk, found.device)] = -torch.inf
            else:
                found = buffer.lists(chunk, candidates[part], rows, rows)
                if exclude_history:
                    known = _members(candidates[part], chunk)
                    found[torch.from_numpy(known).to(found.device)] = -torch.inf
            values, columns = largest(found, min(k, found.shape[1]))
            ids = columns.cpu().numpy()
            if candidates is not None:
                ids = _pick(candidates[part], ids)
            items[part, : ids.shape[1]] = ids
            scores[part, : ids.shape[1]] = values.cpu().numpy()
    return Ranking(items, scores)


def rank(
    recommender: Component,
    evaluation: EvaluationSet,
    *,
    candidates: Candidates | None = None,
    pool: IntArray | None = None,
    depth: int,
    item_counts: NDArray[Any] | None = None,
    categories: Categories | None = None,
    chunk_users: int | None = None,
    progress: Advance | None = None,
    name: str = "",
) -> Outcome:
    """Ranks every user's targets and keeps the best items.

    Without candidates, all items, or those of a pool, are ranked but those known of the user;
    targets are never masked, so that repeated consumption stays measurable. With candidates, each
    target is ranked among its own line of them.

    A target's rank is 1 + (number of items scored higher) + (number of other items scored the
    same) / 2: the mean rank of its tie. Lists order ties by item id.

    Args:
        recommender: A trained recommender or backbone.
        evaluation: The users, their histories and targets.
        candidates: Drawn candidates: first column the target; ``None`` ranks the catalogue.
        pool: Rank these items only, in any order, all targets among them.
        depth: Length of the lists to keep; 0 skips that work.
        item_counts: Training interactions of each item; zeros if ``None``.
        categories: Categories of items, handed on to the outcome.
        chunk_users: Users scored at once; chosen by a byte budget if ``None``.
        progress: Told the number of rows finished, after each chunk.
        name: How to name the recommender in errors.

    Raises:
        StageError: If scores are not finite or have the wrong shape; names the recommender and
            the user.
        ValueError: If a target is not in the pool, or there are candidates besides.
    """
    if pool is not None:
        pool = np.unique(np.asarray(pool, dtype=np.int32))
        if candidates is not None or not np.isin(evaluation.targets.items, pool).all():
            raise ValueError("a pool holds every target, and goes without candidates")
    buffer = ScoreBuffer(as_recommender(recommender), name, pool=pool)
    n_items = evaluation.histories.n_items
    counts = np.zeros(n_items, dtype=np.int64) if item_counts is None else item_counts
    if len(counts) != n_items:
        raise ValueError(f"item_counts has {len(counts)} items, the histories have {n_items}")
    chunk = chunk_users or _chunk_users(buffer, n_items)
    with torch.no_grad():
        if candidates is None:
            fields = _rank_catalogue(buffer, evaluation, pool, depth, chunk, progress)
        else:
            fields = _rank_lines(buffer, evaluation, candidates, depth, chunk, progress)
    return Outcome(item_counts=counts, categories=categories, **fields)


def _rank_catalogue(
    buffer: ScoreBuffer,
    evaluation: EvaluationSet,
    pool: IntArray | None,
    depth: int,
    chunk_users: int,
    progress: Advance | None,
) -> dict[str, Any]:
    histories, targets = evaluation.histories, _distinct(evaluation.targets)
    masked, asked = evaluation.known, targets
    if pool is not None:  # from here on, an item is its column among the scores
        masked, asked = _columns(masked, pool), _columns(targets, pool)
    n = len(evaluation)
    ranks = np.empty(len(targets.items))
    lists = Ranking(np.full((n, depth), -1, np.int32), np.full((n, depth), -np.inf, np.float32))
    for part in _chunks(n, chunk_users):
        shown, wanted = histories.take(part), asked.take(part)
        known = shown if masked is histories else masked.take(part)
        scores = buffer.catalogue(shown, evaluation.users[part])
        index = _flat(wanted, scores.device)
        values = scores.view(-1)[index]
        scores.view(-1)[_flat(known, scores.device)] = -torch.inf
        scores.view(-1)[index] = values
        begin, end = targets.offsets[part.start], targets.offsets[part.stop]
        ranks[begin:end] = _mean_ranks(buffer, scores, values, wanted).cpu().numpy()
        if depth:
            best, columns = largest(scores, min(depth, scores.shape[1]))
            found = columns.cpu().numpy()
            lists.items[part, : best.shape[1]] = found if pool is None else _at(pool, found)
            lists.scores[part, : best.shape[1]] = best.cpu().numpy()
        if progress is not None:
            progress(part.stop - part.start)
    return {
        "users": evaluation.users,
        "histories": histories,
        "targets": targets,
        "ranks": ranks,
        "n_ranked": _n_ranked(masked, asked),
        "top_items": lists.items,
        "top_scores": lists.scores,
        "pool": pool,
    }


def _rank_lines(
    buffer: ScoreBuffer,
    evaluation: EvaluationSet,
    candidates: Candidates,
    depth: int,
    chunk_users: int,
    progress: Advance | None,
) -> dict[str, Any]:
    rows, items = np.asarray(candidates.rows, dtype=np.int64), candidates.items
    n, width = items.shape
    inside = len(rows) == 0 or 0 <= rows.min() <= rows.max() < len(evaluation)
    if not inside or not np.array_equal(evaluation.users[rows], candidates.users):
        raise StageError(
            f"the candidates of {buffer.name} were drawn for other users than those to be ranked",
            hint="Draw candidates for this evaluation set with draw_candidates.",
        )
    users, histories = evaluation.users[rows], evaluation.histories.take(rows)
    ranks = np.empty(n)
    lists = Ranking(np.full((n, depth), -1, np.int32), np.full((n, depth), -np.inf, np.float32))
    if isinstance(buffer.recommender, InnerProduct):  # needs no row of the whole catalogue
        dim = buffer.recommender.items().shape[1]
        chunk_users = _rows_within_budget(buffer, width * dim)
    for part in _chunks(n, chunk_users):
        scores = buffer.lists(histories.take(part), items[part], users[part], rows[part])
        difference = (scores - scores[:, :1]).sign_().sum(dim=1, dtype=torch.float64)
        ranks[part] = ((width + 1 + difference) / 2).cpu().numpy()
        if depth:
            order = np.argsort(items[part], axis=1)
            scores = scores.gather(1, torch.from_numpy(order).to(scores.device))
            best, columns = largest(scores, min(depth, width))
            ids = _pick(np.take_along_axis(items[part], order, axis=1), columns.cpu().numpy())
            lists.items[part, : best.shape[1]] = ids
            lists.scores[part, : best.shape[1]] = best.cpu().numpy()
        if progress is not None:
            progress(part.stop - part.start)
    return {
        "users": users,
        "histories": histories,
        "targets": Histories(np.arange(n + 1), items[:, 0], evaluation.targets.n_items),
        "ranks": ranks,
        "n_ranked": (items >= 0).sum(axis=1),
        "top_items": lists.items,
        "top_scores": lists.scores,
        "sampled": True,
        "rows": rows,
    }


def _mean_ranks(buffer: ScoreBuffer, scores: Tensor, values: Tensor, targets: Histories) -> Tensor:
    """Ranks targets scored ``values`` among the rows of ``scores``, masked ones at ``-inf``.

    With g items above, e equal (the target among them) and l below, the sum of the signs of the
    differences is g - l, and g + e + l = n; so the mean rank 1 + g + (e - 1) / 2 is
    (n + 1 + sum) / 2: one pass gives it, ties included.
    """
    n_rows, n_items = scores.shape
    # Whole numbers are exact in float32 up to here.
    exact = scores.dtype if n_items < 1 << 24 else torch.float64
    sums = torch.empty(len(values), dtype=torch.float64, device=scores.device)
    if len(values) == n_rows and (targets.lengths == 1).all():
        work = buffer.empty(1, (n_rows, n_items), scores)
        sums[:] = torch.sub(scores, values[:, None], out=work).sign_().sum(dim=1, dtype=exact)
        return (n_items + 1 + sums) / 2
    rows = torch.from_numpy(targets.rows).to(scores.device)
    # Several targets a row: rows are repeated, as many at a time as the chunk has rows.
    for part in _chunks(len(values), max(n_rows, 1)):
        work = buffer.empty(1, (part.stop - part.start, n_items), scores)
        torch.index_select(scores, 0, rows[part], out=work)
        sums[part] = work.sub_(values[part, None]).sign_().sum(dim=1, dtype=exact)
    return (n_items + 1 + sums) / 2


def _n_ranked(histories: Histories, targets: Histories) -> NDArray[np.int64]:
    """Counts each row's items that are a target or not in the history, ``(n,)``."""
    known = np.unique(histories.rows * histories.n_items + histories.items)
    n_ranked = histories.n_items - np.bincount(known // histories.n_items, minlength=len(histories))
    if len(known):
        wanted = targets.rows * histories.n_items + targets.items
        place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        again = targets.rows[known[place] == wanted]
        n_ranked += np.bincount(again, minlength=len(histories))
    return n_ranked


def _distinct(targets: Histories) -> Histories:
    """Returns targets without repetitions within a row; the first one stays."""
    keys = targets.rows * targets.n_items + targets.items
    _, first = np.unique(keys, return_index=True)
    if len(first) == len(keys):
        return targets
    first.sort()
    lengths = np.bincount(targets.rows[first], minlength=len(targets))
    return Histories(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=targets.items[first],
        n_items=targets.n_items,
        users=targets.users,
    )


def _columns(histories: Histories, pool: IntArray) -> Histories:
    """Returns histories of places in the pool, items outside of it left out."""
    column = np.full(histories.n_items, -1, dtype=np.int32)
    column[pool] = np.arange(len(pool))
    inside = histories.only(column >= 0)
    return replace(inside, items=column[inside.items], n_items=len(pool))


def _members(candidates: IntArray, histories: Histories) -> NDArray[np.bool_]:
    """Tells which candidates ``(batch, C)`` are in the row's history."""
    keys = np.arange(len(candidates))[:, None] * histories.n_items + candidates
    return np.isin(keys, histories.rows * histories.n_items + histories.items)


def _pick(items: IntArray, columns: NDArray[np.int64]) -> NDArray[np.int32]:
    """Returns the items at the given columns of each row, ``-1`` where the column is."""
    picked = np.take_along_axis(items, columns.clip(min=0), axis=1)
    return np.where(columns < 0, -1, picked).astype(np.int32)


def _at(pool: IntArray, columns: NDArray[np.int64]) -> NDArray[np.int32]:
    """Returns the items at the given places of the pool, ``-1`` where the place is."""
    return np.where(columns < 0, -1, pool[columns.clip(min=0)]).astype(np.int32)


def _flat(histories: Histories, device: torch.device) -> Tensor:
    """Returns the places of the histories' items in a flattened ``(batch, n_items)``."""
    return torch.from_numpy(histories.rows * histories.n_items + histories.items).to(device)


def _chunk_users(buffer: ScoreBuffer, n_items: int) -> int:
    if buffer.pool is not None and isinstance(buffer.recommender, InnerProduct):
        n_items = len(buffer.pool)  # the other items are never scored
    return min(MOST_USERS, _rows_within_budget(buffer, n_items))


def _rows_within_budget(buffer: ScoreBuffer, width: int) -> int:
    budget = GPU_BYTES if buffer.device.type == "cuda" else CPU_BYTES
    return max(1, budget // (4 * max(width, 1)))


def _chunks(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
