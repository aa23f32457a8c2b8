"""A handful of weights that mix score terms, fitted on validation users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import EvaluationSet
from dynmm_framework.protocols import FloatArray

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
    steps: int = 30,
) -> dict[str, float]:
    """Minimises the cross-entropy of the targets over the catalogue, known items masked.

    Args:
        terms: What is mixed; rows of ``users`` are the evaluation's.
        evaluation: Users with histories and targets; of several targets each counts.
        start: First guess of each weight.
        among: Items that compete, ``(n_items,)``; all by default. Targets that are not among
            them are left out.
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
    closed = None if among is None else torch.from_numpy(~among)
    chunks = [
        _Chunk.make(terms, evaluation, rows[part], wanted[part], closed)
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // CHUNK_USERS))
    ]
    weights = torch.tensor(list(start), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [weights], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def loss() -> Tensor:
        search.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for chunk in chunks:
            part = chunk.loss(weights) / len(rows)
            part.backward()  # type: ignore[no-untyped-call]
            total += part.detach()
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    found = weights.detach().numpy()
    if not np.isfinite(found).all():
        found = np.asarray(start, dtype=np.float64)
    return dict(zip(names, map(float, found), strict=True))


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
