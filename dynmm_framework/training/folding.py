"""Vectors of users and items that a model with a vector per user is left with after training.

Users whom it has not been trained on are folded in by their items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import IntArray, State
from dynmm_framework.training.state import to_array

RIDGE = 1e-3
"""Ridge of the map, relative to the mean eigenvalue. Chosen on validation users of
MovieLens-100K who were left out of training: they then rank as well as those trained on.
"""


def distinct_items(histories: Histories) -> Histories:
    """Returns each history's distinct items, in order of their ids."""
    keys = np.unique(histories.rows * histories.n_items + histories.items)
    rows, items = np.divmod(keys, max(histories.n_items, 1))
    lengths = np.bincount(rows, minlength=len(histories))
    return Histories(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=items.astype(np.int32),
        n_items=histories.n_items,
        users=histories.users,
    )


@dataclass(frozen=True, eq=False)
class UserVectors:
    """Trained vectors of the training users, and vectors of all others from their items.

    A user's items are summed, each by what it contributes, and divided by the root of their
    number; a linear map turns that into a user vector. The map is a ridge regression of the
    training users' vectors on their own sums, so that both kinds of vector agree. A training
    user keeps the trained vector whatever its history has become since.

    An item counts once. An item without training interactions says nothing; a history without
    any other gets the mean vector of the training users. All tensors are on one device.

    Attributes:
        trained: ``(n_users, d)``.
        known: Whether a training user has interactions, ``(n_users,)``.
        parts: What each item adds to a user, mapped, ``(n_items, d + 1)``; the last column is
            1 for items with training interactions and 0 for others.
        mean: Mean vector of the known training users, ``(d,)``.
    """

    trained: Tensor
    known: Tensor
    parts: Tensor
    mean: Tensor

    @classmethod
    def fit(cls, trained: Tensor, contributions: Tensor, *, histories: Histories) -> UserVectors:
        """Fits the map on the training users.

        Args:
            trained: Vectors of the training users, ``(n_users, d)``.
            contributions: What each item contributes to a user, ``(n_items, d)``.
            histories: Training histories, one for each user.
        """
        trained, contributions = trained.detach(), contributions.detach()
        device = trained.device
        lengths = torch.from_numpy(histories.lengths > 0).to(device)
        counts = np.bincount(histories.items, minlength=histories.n_items)
        seen = torch.from_numpy(counts > 0).to(device)[:, None]
        known = trained[lengths]
        mean = known.mean(0) if len(known) else trained.new_zeros(trained.shape[1])
        plain = cls(trained, lengths, torch.cat([contributions * seen, seen], dim=1), mean)
        inputs = plain.fold_in(histories)[lengths].double()
        gram = inputs.T @ inputs
        ridge = RIDGE * float(gram.trace()) / len(gram)
        if ridge == 0:
            return plain
        gram.diagonal().add_(ridge)
        weights = torch.linalg.solve(gram, inputs.T @ known.double()).to(trained.dtype)
        return cls(trained, lengths, torch.cat([plain.parts[:, :-1] @ weights, seen], dim=1), mean)

    def of(self, histories: Histories) -> Tensor:
        """Returns vectors of users, ``(len(histories), d)``."""
        if histories.users is None:
            return self.fold_in(histories)
        index = torch.from_numpy(histories.users.astype(np.int64)).to(self.trained.device)
        kept = (index >= 0) & self.known[index.clamp(min=0)]
        vectors = self.trained[index.clamp(min=0)]
        if not bool(kept.all()):
            others = torch.nonzero(~kept).squeeze(1)
            vectors[others] = self.fold_in(histories.take(others.cpu().numpy()))
        return vectors

    def fold_in(self, histories: Histories) -> Tensor:
        """Returns vectors of users from their items alone, ``(len(histories), d)``."""
        histories = distinct_items(histories)
        sums = F.embedding_bag(
            torch.from_numpy(histories.items.astype(np.int64)).to(self.parts.device),
            self.parts,
            torch.from_numpy(histories.offsets[:-1]).to(self.parts.device),
            mode="sum",
        )
        vectors, counts = sums[:, :-1], sums[:, -1:]
        return torch.where(counts > 0, vectors * counts.clamp(min=1).rsqrt(), self.mean)

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns copies of all arrays by name."""
        return {f"users.{name}": to_array(tensor) for name, tensor in vars(self).items()}

    @classmethod
    def restore(cls, state: State) -> UserVectors:
        """Rebuilds the vectors, on the CPU, from a mapping with what :meth:`state` returned.

        Raises:
            ArtifactError: If an array is missing; names all that are.
        """
        names = [f"users.{name}" for name in ("trained", "known", "parts", "mean")]
        if missing := [name for name in names if name not in state]:
            raise ArtifactError(
                f"stored user vectors lack {', '.join(missing)}",
                hint="They were written by another version or component; train again.",
            )
        return cls(*(torch.from_numpy(np.array(state[name])) for name in names))


@dataclass(frozen=True, eq=False)
class TrainedVectors:
    """What training leaves: scores are inner products.

    Attributes:
        users: Vectors of users, new ones included.
        items: Vectors of all items, ``(n_items, d)``, on the same device; or ``(n_items, d + 1)``
            with the item's bias as last number, which every user then meets with a 1.
    """

    users: UserVectors
    items: Tensor

    def of(self, histories: Histories) -> Tensor:
        """Returns vectors of users, as wide as those of items."""
        users = self.users.of(histories)
        with_bias = self.items.shape[1] > users.shape[1]
        return F.pad(users, (0, 1), value=1.0) if with_bias else users

    def score(self, histories: Histories) -> Tensor:
        """Returns the scores of all items, ``(len(histories), n_items)``."""
        return self.of(histories) @ self.items.T

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns copies of all arrays by name."""
        return {"items": to_array(self.items), **self.users.state()}

    @classmethod
    def restore(cls, state: State) -> TrainedVectors:
        """Rebuilds the vectors, on the CPU, from a mapping with what :meth:`state` returned.

        Raises:
            ArtifactError: If arrays are missing.
        """
        if "items" not in state:
            raise ArtifactError(
                "stored vectors lack those of the items",
                hint="They were written by another version or component; train again.",
            )
        return cls(UserVectors.restore(state), torch.from_numpy(np.array(state["items"])))


class VectorBackbone:
    """A backbone that is left with vectors: all of it but the training.

    A subclass sets :attr:`vectors` at the end of its ``fit``::

        class MyModel(VectorBackbone):
            def __init__(self, config: MyConfig) -> None:
                super().__init__()
                self.config = config

            def fit(self, data: TrainingData, ctx: Context) -> None:
                ...
                self.vectors = network.vectors(histories)

    Attributes:
        vectors: What training left; ``None`` before.
    """

    def __init__(self) -> None:
        self.vectors: TrainedVectors | None = None

    def item_vectors(self) -> Tensor:
        return self.fitted().items

    def user_vectors(self, histories: Histories) -> Tensor:
        return self.fitted().of(histories)

    def get_state(self) -> State:
        return {} if self.vectors is None else self.vectors.state()

    def load_state(self, state: State) -> None:
        self.vectors = TrainedVectors.restore(state) if state else None

    def fitted(self) -> TrainedVectors:
        """Returns the vectors.

        Raises:
            StageError: If there are none yet.
        """
        if self.vectors is None:
            raise StageError(
                f"{type(self).__name__} is not fitted", hint="Call fit or load_state first."
            )
        return self.vectors


class VectorRecommender(VectorBackbone):
    """A baseline that is left with vectors: as a backbone, and it scores by itself."""

    def score(self, histories: Histories, candidates: IntArray | None = None) -> Tensor:
        scores = self.fitted().score(histories)
        if candidates is None:
            return scores
        chosen = torch.from_numpy(candidates.astype(np.int64)).to(scores.device)
        return scores.gather(1, chosen)
