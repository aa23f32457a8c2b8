"""Similarity of an item's content to what a user had lately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import FloatArray, State


@dataclass(frozen=True, eq=False)
class Directions:
    """What tells items' content apart: unit vectors around their mean, reduced and scaled.

    Encoders give all items much in common; the mean is taken away. The principal components
    that are kept are scaled so that products of two different items' directions have a standard
    deviation of 1, whatever the encoder.

    Attributes:
        centre: Mean of the unit vectors, ``(width,)``.
        components: ``(width, k)``.
    """

    centre: FloatArray
    components: FloatArray

    @classmethod
    def fit(cls, features: Features, size: int) -> Directions:
        """Measures features; at least one item has some."""
        units = _normalised(features.vectors[features.present])
        centre = units.mean(axis=0)
        units = _normalised(units - centre)
        _, vectors = np.linalg.eigh(units.T.astype(np.float64) @ units)
        components = vectors[:, ::-1][:, :size]
        reduced = units @ components
        # E[(a·b)²] over independent a, b is the squared norm of the second moment.
        moment = reduced.T @ reduced / len(reduced)
        spread = float(np.sqrt((moment**2).sum()))
        scale = spread**-0.5 if spread > 0 else 1.0
        return cls(centre.astype(np.float32), (components * scale).astype(np.float32))

    def of(self, features: Features) -> FloatArray:
        """Returns directions ``(n_items, k)``; zeros where an item has no vector."""
        units = _normalised(_normalised(features.vectors) - self.centre)
        out: FloatArray = units @ self.components
        out[~features.present] = 0
        return out

    def state(self) -> dict[str, FloatArray]:
        """Returns the arrays that :meth:`restore` takes."""
        return {"centre": self.centre, "components": self.components}

    @classmethod
    def restore(cls, state: State) -> Directions:
        """Restores what :meth:`state` returned."""
        return cls(np.asarray(state["centre"]), np.asarray(state["components"]))


def recent_profiles(
    histories: Histories, directions: FloatArray, *, items: int, decay: float
) -> FloatArray:
    """Returns the decayed sum of the newest items' directions, ``(len(histories), dim)``.

    Args:
        histories: The users.
        directions: ``(n_items, dim)``.
        items: How many of the newest items count.
        decay: Factor from each item to the one before it.
    """
    newest = histories.last(items)
    age = np.repeat(newest.lengths, newest.lengths) - 1
    age = age - (np.arange(len(newest.items)) - np.repeat(newest.offsets[:-1], newest.lengths))
    weights = np.float32(decay) ** age.astype(np.float32)
    out = np.zeros((len(histories), directions.shape[1]), np.float32)
    np.add.at(out, newest.rows, weights[:, None] * directions[newest.items])
    return out


def _normalised(rows: FloatArray) -> FloatArray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    out: FloatArray = (rows / np.maximum(norms, 1e-12)).astype(np.float32)
    return out
