"""The protocol ``auc``: how well scores part what users liked from what they did not."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dynmm_framework.data.judgements import Judgements
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.evaluation.efficiency import measure_latency
from dynmm_framework.evaluation.evaluate import Evaluation
from dynmm_framework.evaluation.outcome import Outcome
from dynmm_framework.evaluation.scoring import Component, ScoreBuffer, as_recommender, name_of

POOLED: Final = "auc"
"""Over all judgements together, as TALLRec reports it; scores must compare between users."""
BY_USER: Final = "uauc"
"""Mean over users who liked some and disliked some; scores need not compare between users."""
_ROWS = 1024
"""Judgements scored at once."""


def judge(
    recommender: Component,
    evaluation: EvaluationSet,
    judgements: Judgements,
    *,
    item_counts: NDArray[Any] | None = None,
    name: str = "",
    latency_users: int = 100,
    progress: Callable[[str, int], AbstractContextManager[Callable[..., None]]] | None = None,
) -> Evaluation:
    """Scores each judged item after its history, and computes areas under the ROC curve.

    Args:
        recommender: A trained recommender or backbone.
        evaluation: The users of the judgements.
        judgements: From :func:`~dynmm_framework.data.judgements.asked_judgements`.
        item_counts: Training interactions of each item, ``(n_items,)``; zeros if ``None``.
        name: Name of the recommender in errors and in the result.
        latency_users: Most single-user requests to time; 0 for none.
        progress: Opens a progress bar.

    Returns:
        ``auc`` and ``uauc``; the lists of its outcome are each user's judged items, best first,
        and the targets those that were liked.

    Raises:
        StageError: If scores are not finite or have the wrong shape.
    """
    name = name or name_of(recommender)
    started = time.perf_counter()
    scores = judgement_scores(recommender, judgements, name=name, progress=progress)
    seconds = time.perf_counter() - started
    rows, liked = judgements.rows, judgements.liked
    pooled = area_under_curve(scores, liked)
    by_user = areas_by_row(scores, liked, rows, len(evaluation))
    known = ~np.isnan(by_user)
    values, notes = {}, []
    if np.isnan(pooled):
        notes.append(f"undefined here, as all judgements are alike: {POOLED}, {BY_USER}")
    else:
        values[POOLED] = pooled
    if known.any():
        values[BY_USER] = float(by_user[known].mean())
        if missing := int((~known).sum()):
            notes.append(
                f"undefined for {missing:,} of {len(evaluation):,} users, all of whose judgements "
                f"are alike, left out of the mean: {BY_USER}"
            )
    notes.append(f"{len(judgements):,} judgements, {int(liked.sum()):,} of them liked")
    if item_counts is None:
        item_counts = np.zeros(judgements.sequences.n_items, np.int64)
    return Evaluation(
        name=name,
        evaluation=evaluation,
        requests=(),
        values=values,
        per_user={BY_USER: by_user} if known.any() else {},
        outcome=_outcome(evaluation, judgements, scores, item_counts),
        seconds=seconds,
        latency=measure_latency(recommender, evaluation.histories, users=latency_users),
        chance=dict.fromkeys(values, 0.5),
        notes=tuple(notes),
    )


def judgement_scores(
    recommender: Component,
    judgements: Judgements,
    *,
    name: str = "",
    progress: Callable[[str, int], AbstractContextManager[Callable[..., None]]] | None = None,
) -> NDArray[np.float64]:
    """Scores each judged item after all that was known before it, ``(n,)``.

    Raises:
        StageError: If scores are not finite or have the wrong shape.
    """
    buffer = ScoreBuffer(as_recommender(recommender), name)
    out = np.empty(len(judgements))
    n = len(judgements)
    bar = nullcontext(_silent) if progress is None else progress(f"judging {buffer.name}", n)
    with torch.no_grad(), bar as advance:
        for start in range(0, n, _ROWS):
            some = judgements.take(slice(start, start + _ROWS))
            # Every history is another one, also that of the same user.
            lines = np.arange(len(some))
            users = some.rows if some.sequences.users is None else some.sequences.users[some.rows]
            found = buffer.lists(some.histories(), some.items[:, None], users, lines)
            out[start : start + len(some)] = found[:, 0].double().cpu().numpy()
            advance(len(some))
    return out


def area_under_curve(scores: NDArray[Any], liked: NDArray[np.bool_]) -> float:
    """Returns the share of pairs of a liked and a disliked item that scores put in order.

    A pair with equal scores counts half. NaN if all are liked, or none.
    """
    return float(areas_by_row(scores, liked, np.zeros(len(scores), np.int64), 1)[0])


def areas_by_row(
    scores: NDArray[Any], liked: NDArray[np.bool_], rows: NDArray[np.int64], n_rows: int
) -> NDArray[np.float64]:
    """Returns :func:`area_under_curve` of the items of each row, ``(n_rows,)``.

    Args:
        scores: ``(n,)``.
        liked: ``(n,)``.
        rows: The row of each item, ``(n,)``.
        n_rows: Number of rows.
    """
    from_below = _mean_places(np.asarray(scores, np.float64), rows, n_rows)
    good = np.bincount(rows[liked], minlength=n_rows).astype(np.float64)
    bad = np.bincount(rows, minlength=n_rows) - good
    above = np.bincount(rows[liked], from_below[liked], n_rows) - good * (good + 1) / 2
    areas: NDArray[np.float64] = np.full(n_rows, np.nan)
    np.divide(above, good * bad, out=areas, where=good * bad > 0)
    return areas


def _mean_places(
    scores: NDArray[np.float64], rows: NDArray[np.int64], n_rows: int
) -> NDArray[np.float64]:
    """Returns the place of each score within its row, lowest first, from 1; ties share theirs."""
    order = np.lexsort((scores, rows))
    ordered, of_row = scores[order], rows[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]) | (of_row[1:] != of_row[:-1])
    tie = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    size = np.diff(np.append(first, len(order)))
    row_start = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
    places = np.empty(len(order))
    places[order] = (first + (size + 1) / 2)[tie] - row_start[of_row]
    return places


def _outcome(
    evaluation: EvaluationSet,
    judgements: Judgements,
    scores: NDArray[np.float64],
    item_counts: NDArray[Any],
) -> Outcome:
    n, rows = len(evaluation), judgements.rows
    counts = np.bincount(rows, minlength=n)
    starts = np.concatenate([[0], np.cumsum(counts)])
    order = np.lexsort((judgements.items, -scores, rows))
    column = np.arange(len(rows)) - starts[rows[order]]
    top = np.full((n, counts.max(initial=0)), -1, np.int32)
    best = np.full(top.shape, -np.inf, np.float32)
    top[rows[order], column] = judgements.items[order]
    best[rows[order], column] = scores[order]
    liked = judgements.liked
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[liked], minlength=n))])
    return Outcome(
        users=evaluation.users,
        histories=evaluation.histories,
        targets=Histories(
            offsets.astype(np.int64), judgements.items[liked], evaluation.targets.n_items
        ),
        ranks=_mean_places(-scores, rows, n)[liked],
        n_ranked=counts,
        top_items=top,
        top_scores=best,
        item_counts=item_counts,
    )


def _silent(*_: object) -> None:
    """Says nothing."""
