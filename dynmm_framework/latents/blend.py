"""A handful of weights that mix score terms, fitted on validation users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import EvaluationSet
from dynmm_framework.protocols import FloatArray

EXCLUDED = -1e6
"""Score of an item that does not compete; its weight is positive, as that of the latents is."""
CHUNK_USERS = 512
"""Users whose scores over the catalogue are held at once."""


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a score: the inner product of a user's and an item's vector.

    Attributes:
        name: For the log.
        users: ``(users, k)``.
        items: ``(n_items, k)``.
    """

    name: str
    users: FloatArray
    items: FloatArray


def fit_weights(
    terms: Sequence[Term],
    evaluation: EvaluationSet,
    *,
    start: Sequence[float],
    among: NDArray[np.bool_] | None = None,
    best: int | None = None,
    steps: int = 30,
) -> dict[str, float]:
    """Minimises the cross-entropy of the targets over the catalogue, known items masked.

    Over the whole catalogue, users whose target is far down weigh most. With ``best`` the items
    that lead by the first term compete, and users whose target is not among them are left out:
    what is fitted then is the order at the top, which is what rankings are judged by.

    Args:
        terms: What is mixed; rows of ``users`` are the evaluation's.
        evaluation: Users with histories and targets; of several targets each counts.
        start: First guess of each weight.
        among: Items that compete, ``(n_items,)``; all by default. Targets that are not among
            them are left out.
        best: How many items compete; all if ``None``.
        steps: Most iterations of L-BFGS.

    Returns:
        Weight by term; the first guess if no target is left.
    """
    names = [term.name for term in terms]
    targets = evaluation.targets
    rows, wanted = targets.rows, targets.items.astype(np.int64)
    if among is not None:
        kept = among[wanted]
        rows, wanted = rows[kept], wanted[kept]
    if not len(rows):
        return dict(zip(names, map(float, start), strict=True))
    if best is not None and best < evaluation.histories.n_items:
        scores, places = _leading(terms, evaluation, rows, wanted, among, best)
        found = fit_mixture(scores, places, start=start, steps=steps) if len(places) else start
        return dict(zip(names, map(float, found), strict=True))
    closed = None if among is None else torch.from_numpy(~among)
    chunks = [
        _Chunk.make(terms, evaluation, rows[part], wanted[part], closed)
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // CHUNK_USERS))
    ]

    def loss(weights: Tensor) -> Iterator[Tensor]:
        for chunk in chunks:
            yield chunk.loss(weights) / len(rows)

    return dict(zip(names, _minimum(loss, start, steps), strict=True))


def fit_mixture(
    scores: Sequence[NDArray[Any]],
    targets: NDArray[np.int64],
    *,
    start: Sequence[float],
    steps: int = 30,
) -> tuple[float, ...]:
    """Minimises the cross-entropy of targets among their candidates, scores mixed by weights.

    Args:
        scores: Scores to mix, each ``(n, C)``.
        targets: Place of each target among its candidates, ``(n,)``; at least one.
        start: First guess of each weight.
        steps: Most iterations of L-BFGS.

    Returns:
        A weight for each; the first guess if the search fails.
    """
    parts = [torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in scores]
    wanted = torch.from_numpy(targets)

    def loss(weights: Tensor) -> Iterator[Tensor]:
        mixed = sum(weight * part for weight, part in zip(weights, parts, strict=True))
        assert isinstance(mixed, Tensor)  # there is at least one
        yield torch.nn.functional.cross_entropy(mixed, wanted)

    return tuple(_minimum(loss, start, steps))


def _leading(
    terms: Sequence[Term],
    evaluation: EvaluationSet,
    rows: NDArray[np.int64],
    wanted: NDArray[np.int64],
    among: NDArray[np.bool_] | None,
    best: int,
) -> tuple[list[FloatArray], NDArray[np.int64]]:
    """Returns each term's scores of the items that lead by the first, ``(n, best)``.

    Only targets that are among them are left; their places ``(n,)`` come second.
    """
    scores: list[list[FloatArray]] = [[] for _ in terms]
    places = []
    for part in np.array_split(np.arange(len(rows)), -(-len(rows) // CHUNK_USERS)):
        first = terms[0].users[rows[part]] @ terms[0].items.T
        target = first[np.arange(len(part)), wanted[part]]
        known = evaluation.histories.take(rows[part])
        first[known.rows, known.items] = -np.inf
        if among is not None:
            first[:, ~among] = -np.inf
        first[np.arange(len(part)), wanted[part]] = target  # a repeated item is known too
        leading = np.argpartition(-first, best - 1, axis=1)[:, :best]
        hits = leading == wanted[part][:, None]
        kept = hits.any(axis=1)
        places.append(hits[kept].argmax(axis=1))
        # Where fewer are left than may compete, what is excluded fills up: it never wins.
        closed = np.isneginf(np.take_along_axis(first, leading, axis=1))[kept]
        for number, (term, found) in enumerate(zip(terms, scores, strict=True)):
            users, items = term.users[rows[part][kept]], term.items[leading[kept]]
            values = np.einsum("nd,nkd->nk", users, items)
            values[closed] = 0.0 if number else EXCLUDED
            found.append(values)
    return [np.concatenate(found) for found in scores], np.concatenate(places)


def _minimum(
    loss: Callable[[Tensor], Iterator[Tensor]], start: Sequence[float], steps: int
) -> list[float]:
    """Minimises a sum of losses over a few weights; returns the first guess if that fails."""
    weights = torch.tensor(list(start), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [weights], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def total() -> Tensor:
        search.zero_grad()
        value = torch.zeros((), dtype=torch.float64)
        for part in loss(weights):
            part.backward()  # type: ignore[no-untyped-call]
            value += part.detach()
        return value

    search.step(total)  # type: ignore[no-untyped-call]
    found = weights.detach().numpy()
    return list(map(float, found if np.isfinite(found).all() else start))


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some targets, and what scores them; scores are made anew each time to save memory."""

    users: list[Tensor]
    items: list[Tensor]
    masked: tuple[Tensor, Tensor]
    wanted: Tensor
    closed: Tensor | None

    @classmethod
    def make(
        cls,
        terms: Sequence[Term],
        evaluation: EvaluationSet,
        rows: NDArray[np.int64],
        wanted: NDArray[np.int64],
        closed: Tensor | None,
    ) -> _Chunk:
        known = evaluation.histories.take(rows)
        return cls(
            users=[torch.from_numpy(term.users[rows]) for term in terms],
            items=[torch.from_numpy(term.items) for term in terms],
            masked=(torch.from_numpy(known.rows), torch.from_numpy(known.items.astype(np.int64))),
            wanted=torch.from_numpy(wanted),
            closed=closed,
        )

    def loss(self, weights: Tensor) -> Tensor:
        scores = sum(
            weight.float() * (users @ items.T)
            for weight, users, items in zip(weights, self.users, self.items, strict=True)
        )
        assert isinstance(scores, Tensor)  # there is at least one term
        target = scores.gather(1, self.wanted[:, None])[:, 0]
        scores = scores.index_put(self.masked, torch.tensor(-torch.inf))
        if self.closed is not None:
            scores = scores.masked_fill(self.closed, -torch.inf)
        # A repeated item is both known and asked for: it competes with itself once.
        mass = torch.logsumexp(scores.scatter(1, self.wanted[:, None], target[:, None]), dim=1)
        return (mass - target).double().sum()


def mixed(terms: Mapping[str, FloatArray], weights: Mapping[str, float]) -> FloatArray:
    """Returns the terms' vectors side by side, each times its weight: one inner product."""
    return np.concatenate(
        [np.float32(weights[name]) * vectors for name, vectors in terms.items()], axis=1
    )
