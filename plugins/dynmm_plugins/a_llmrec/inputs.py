"""What A-LLMRec learns from and stands on, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.retrieval import Vectors
from dynmm_framework.protocols import FloatArray, IntArray, Scores, State

CHUNK = 64
"""Users whose random numbers over the catalogue are held at once."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Users, each asked for one item.

    Attributes:
        histories: What each has chosen before, n histories.
        users: Their standardised vectors, ``(n, d)``.
        known: All that each has, which is no negative.
        targets: The item asked for, ``(n,)``.
    """

    histories: Histories
    users: FloatArray
    known: Histories
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.int64]) -> Questions:
        """Returns some of them."""
        return Questions(
            self.histories.take(rows), self.users[rows], self.known.take(rows), self.targets[rows]
        )

    def candidates(self, size: int, *, rng: np.random.Generator) -> IntArray:
        """Draws candidates for each: the target, and other items that the user has not.

        No item comes twice. Where a user has too many items, some of those fill up; the target is
        never among the others.

        Args:
            size: Most candidates; fewer if the catalogue has fewer items.
            rng: Source of randomness.

        Returns:
            Item ids ``(n, C)`` int32, in random order.
        """
        n_items = self.known.n_items
        width = min(size, n_items)
        out = np.empty((len(self), width), np.int32)
        for start in range(0, len(self), CHUNK):
            part = slice(start, min(start + CHUNK, len(self)))
            known, targets = self.known.take(part), self.targets[part]
            chance = rng.random((len(targets), n_items))
            chance[known.rows, known.items] = 2 - chance[known.rows, known.items]
            chance[np.arange(len(targets)), targets] = -1
            out[part] = np.argsort(chance, axis=1)[:, :width]
        return rng.permuted(out, axis=1)


@dataclass(frozen=True, eq=False)
class Items:
    """What the first stage makes of the items.

    Attributes:
        joint: Their places in the joint space, ``(n_items, dim)``: from the collaborative vector,
            or from the text where there are no training interactions.
        cold: Items without training interactions, ``(k,)``.
        decoded: Collaborative vectors made of the texts of these, ``(k, d)``.
    """

    joint: FloatArray
    cold: NDArray[np.int64]
    decoded: FloatArray

    def state(self) -> State:
        """Returns what :meth:`restore` takes."""
        return {"joint": self.joint, "cold": self.cold, "decoded": self.decoded}

    @classmethod
    def restore(cls, state: State) -> Items:
        """Restores what :meth:`state` returned; other names are passed over."""
        return cls(state["joint"], state["cold"], state["decoded"])


@dataclass(frozen=True, eq=False)
class Completed:
    """A backbone whose items without training interactions have vectors made of their texts.

    Attributes:
        backbone: A trained backbone.
        items: The first stage's.
    """

    backbone: Vectors
    items: Items

    def item_vectors(self) -> FloatArray:
        """Returns vectors of all items, ``(n_items, d)``."""
        from dynmm_framework.latents.inputs import as_array

        vectors = as_array(self.backbone.item_vectors()).copy()
        vectors[self.items.cold] = self.items.decoded
        return vectors

    def user_vectors(self, histories: Histories) -> Scores:
        """Returns the backbone's vectors of users."""
        return self.backbone.user_vectors(histories)
