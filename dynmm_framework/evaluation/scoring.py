"""Turns components into recommenders, and their scores into tensors that ranking may write to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.protocols import (
    Backbone,
    Context,
    IntArray,
    Recommender,
    Scores,
    State,
)

Component: TypeAlias = Backbone | Recommender

_PER_CANDIDATE = 8
"""Products of a matrix multiplication that cost as much as to look up and multiply one vector."""


def as_tensor(scores: Scores) -> Tensor:
    """Returns scores or vectors as a tensor; arrays that can be written to are not copied."""
    if isinstance(scores, Tensor):
        return scores.detach()
    array = np.asarray(scores)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


class InnerProduct:
    """A backbone as a recommender: the score is the inner product of user and item vector.

    Item vectors are fetched once and kept until the backbone is trained or restored through this
    object. Scores are float32 on the item vectors' device.

    Args:
        backbone: A trained backbone, or one to be trained through this object.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._items: Tensor | None = None

    def fit(self, data: TrainingData, ctx: Context) -> None:
        self._items = None
        self.backbone.fit(data, ctx)

    def get_state(self) -> State:
        return self.backbone.get_state()

    def load_state(self, state: State) -> None:
        self._items = None
        self.backbone.load_state(state)

    def items(self) -> Tensor:
        """Vectors of all items, ``(n_items, d)``."""
        if self._items is None:
            self._items = as_tensor(self.backbone.item_vectors()).float().contiguous()
        return self._items

    def users(self, histories: Histories) -> Tensor:
        """Vectors of users on the items' device, ``(batch, d)``."""
        return as_tensor(self.backbone.user_vectors(histories)).to(self.items())

    def score(self, histories: Histories, candidates: IntArray | None = None) -> Tensor:
        with torch.no_grad():
            users = self.users(histories)
            if candidates is None:
                return users @ self.items().T
            return self.products(users, torch.arange(len(users)), candidates)

    def products(self, users: Tensor, rows: Tensor, candidates: IntArray) -> Tensor:
        """Scores lines of candidates for users' vectors.

        Args:
            users: ``(users, d)``.
            rows: Row of ``users`` that each line belongs to, ``(lines,)``.
            candidates: Item ids ``(lines, C)``.

        Returns:
            ``(lines, C)``.
        """
        items = self.items()
        rows = rows.to(items.device)[:, None]
        chosen = torch.from_numpy(candidates.astype(np.int64)).to(items.device)
        if len(users) * len(items) <= _PER_CANDIDATE * chosen.numel():
            return (users @ items.T)[rows, chosen]
        return torch.bmm(items[chosen], users[rows[:, 0], :, None])[:, :, 0]


def as_recommender(component: Component) -> Recommender:
    """Returns a component that scores items; a backbone is wrapped as :class:`InnerProduct`.

    Raises:
        TypeError: If it is neither a recommender nor a backbone.
    """
    if callable(getattr(component, "score", None)):
        return component  # type: ignore[return-value]
    if callable(getattr(component, "item_vectors", None)):
        return InnerProduct(component)  # type: ignore[arg-type]
    raise TypeError(f"{type(component).__name__} is neither a recommender nor a backbone")


def name_of(recommender: Component) -> str:
    """Returns the class name of the component behind a recommender."""
    inner = recommender.backbone if isinstance(recommender, InnerProduct) else recommender
    return type(inner).__name__


class ScoreBuffer:
    """Scores chunks of users into memory that is reused, and checks them.

    A recommender may hand out an array that it keeps, so what ranking masks is always a copy.

    Args:
        recommender: What scores.
        name: How to name it in errors; its class if empty.
        pool: The items of the catalogue that are wanted; all if ``None``.
    """

    def __init__(
        self, recommender: Recommender, name: str = "", *, pool: IntArray | None = None
    ) -> None:
        self.recommender = recommender
        self.name = name or name_of(recommender)
        self.pool = None if pool is None else torch.from_numpy(pool.astype(np.int64))
        self._pooled: Tensor | None = None
        self._buffers: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where scores will lie, as far as it is known before scoring."""
        if isinstance(self.recommender, InnerProduct):
            return self.recommender.items().device
        return torch.device("cpu")

    def empty(self, slot: int, shape: tuple[int, int], like: Tensor) -> Tensor:
        """Returns uninitialised memory of a slot; valid until the slot is asked for again."""
        key = (slot, like.dtype, like.device)
        size = shape[0] * shape[1]
        if key not in self._buffers or self._buffers[key].numel() < size:
            self._buffers[key] = like.new_empty(size)
        return self._buffers[key][:size].view(shape)

    def catalogue(self, histories: Histories, users: NDArray[Any]) -> Tensor:
        """Scores all items, ``(batch, n_items)``, or those of the pool, ``(batch, len(pool))``.

        Args:
            histories: The users.
            users: Their ids, for errors.

        Raises:
            StageError: If scores have the wrong shape or are not finite.
        """
        shape = (len(histories), histories.n_items)
        if isinstance(self.recommender, InnerProduct):
            vectors, items = self.recommender.users(histories), self.recommender.items()
            if (len(vectors), len(items)) != shape:
                self._refuse_shape((len(vectors), len(items)), shape)
            if self.pool is not None:
                if self._pooled is None:
                    self._pooled = items[self.pool.to(items.device)]
                items = self._pooled
            out = self.empty(0, (len(vectors), len(items)), items)
            scores = torch.mm(vectors, items.T, out=out)
        else:
            # Who re-ranks a few is asked for these: of the whole catalogue it would rank others.
            asked = None
            if self.pool is not None:
                asked = np.tile(self.pool.numpy().astype(np.int32), (len(histories), 1))
                shape = asked.shape
            scores = self._own(self.recommender.score(histories, asked), shape)
        self._check(scores, users)
        return scores

    def lists(
        self, histories: Histories, candidates: IntArray, users: NDArray[Any], rows: NDArray[Any]
    ) -> Tensor:
        """Scores each row's candidates, ``(batch, C)``.

        Args:
            histories: The users.
            candidates: Item ids ``(batch, C)``; those below 0 are scored ``-inf``.
            users: User ids, for errors.
            rows: ``(batch,)`` from 0; neighbours with the same number are the same user, so that a
                backbone computes that user's vector once.

        Raises:
            StageError: If scores have the wrong shape or are not finite.
        """
        absent = candidates < 0
        asked = np.where(absent, 0, candidates).astype(np.int32) if absent.any() else candidates
        if isinstance(self.recommender, InnerProduct):
            begins = np.diff(rows, prepend=-1) != 0
            vectors = self.recommender.users(histories.take(begins))
            lines = torch.from_numpy(np.cumsum(begins) - 1)
            scores = self.recommender.products(vectors, lines, asked)
        else:
            scores = self._own(self.recommender.score(histories, asked), candidates.shape)
        self._check(scores, users)
        if absent.any():
            scores[torch.from_numpy(absent).to(scores.device)] = -torch.inf
        return scores

    def _own(self, scores: Scores, shape: tuple[int, ...]) -> Tensor:
        if tuple(scores.shape) != shape:
            self._refuse_shape(tuple(scores.shape), shape)
        found = as_tensor(scores)
        double = found.dtype == torch.float64 or not found.is_floating_point()
        like = torch.empty(0, dtype=torch.float64 if double else torch.float32, device=found.device)
        return self.empty(0, (found.shape[0], found.shape[1]), like).copy_(found)

    def _refuse_shape(self, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        raise StageError(
            f"{self.name} returned scores of shape {found} where {wanted} was asked for",
            hint="Rows are histories; columns are candidates, or all items of the catalogue.",
        )

    def _check(self, scores: Tensor, users: NDArray[Any]) -> None:
        # A sum is finite if all of its terms are, short of an overflow; it takes one fast pass.
        if torch.isfinite(scores.sum()):
            return
        bad = ~torch.isfinite(scores)
        if not bad.any():
            return
        row, column = bad.nonzero()[0].tolist()
        value = float(scores[row, column])
        raise StageError(
            f"{self.name} scored an item {value} for user {int(users[row])}"
            f" (row {row} of its batch; {int(bad.any(dim=1).sum())} of {len(scores)} users there)",
            hint="Scores must be finite: look at its training loss, or lower its learning rate.",
        )


Advance: TypeAlias = Callable[[int], object]
"""Told how many more rows are finished."""
