"""What an alignment learns from: standardised features, frozen vectors, sampled prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import StageError
from dynmm_framework.protocols import Backbone, FloatArray, IntArray, State

ENCODE_PREFIXES = 4096
"""Prefixes whose user vectors are computed at once."""


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Mean and scale of each modality over the items that have it.

    Attributes:
        means: Modality to ``(width,)``.
        scales: Modality to ``(width,)``; 1 where a column is constant.
    """

    means: Mapping[str, FloatArray]
    scales: Mapping[str, FloatArray]

    @classmethod
    def fit(cls, features: Mapping[str, Features]) -> Standardiser:
        """Measures features.

        Raises:
            StageError: If no item has a modality.
        """
        means, scales = {}, {}
        for name, found in features.items():
            if not found.present.any():
                raise StageError(
                    f"no item has the modality {name!r}, so there is nothing to align",
                    hint=f"Remove encoders.{name}, or check the column and the media it reads.",
                )
            rows = found.vectors[found.present]
            scale = rows.std(axis=0)
            means[name] = rows.mean(axis=0)
            scales[name] = np.where(scale > 1e-6, scale, np.float32(1))
        return cls(means, scales)

    def apply(self, name: str, features: Features) -> FloatArray:
        """Returns standardised vectors ``(n_items, width)``, zeros where missing.

        Raises:
            StageError: If the width is not the one that was measured.
        """
        mean = self.means[name]
        if features.dim != len(mean):
            raise StageError(
                f"the features of {name!r} are {features.dim} wide, the alignment was trained on "
                f"{len(mean)}",
                hint="Use the encoder it was trained with, or train again.",
            )
        scaled = (features.vectors - mean) / self.scales[name]
        return np.where(features.present[:, None], scaled, np.float32(0)).astype(np.float32)

    def state(self) -> dict[str, FloatArray]:
        """Returns the arrays that :meth:`restore` takes."""
        out = {f"mean.{name}": value for name, value in self.means.items()}
        return out | {f"scale.{name}": value for name, value in self.scales.items()}

    @classmethod
    def restore(cls, state: State) -> Standardiser:
        """Restores what :meth:`state` returned, other names are passed over."""
        parts: dict[str, dict[str, FloatArray]] = {"mean": {}, "scale": {}}
        for key, value in state.items():
            kind, _, name = key.partition(".")
            if kind in parts and name:
                parts[kind][name] = np.asarray(value, dtype=np.float32)
        return cls(parts["mean"], parts["scale"])


def as_array(vectors: object) -> FloatArray:
    """Returns vectors as float32 NumPy, wherever they are."""
    if isinstance(vectors, Tensor):
        vectors = vectors.detach().cpu().numpy()
    return np.asarray(vectors, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Beginnings of training histories, each with the item that follows.

    Attributes:
        histories: The beginnings, each at least one item long.
        targets: The item that follows each, ``(n,)``.
        rows: Which history each is the beginning of, ``(n,)``.
        whole: The histories.
    """

    histories: Histories
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]
    whole: Histories

    def take(self, chosen: NDArray[np.int64]) -> Prefixes:
        """Returns some of them."""
        return Prefixes(
            self.histories.take(chosen), self.targets[chosen], self.rows[chosen], self.whole
        )

    def chosen_later(self, candidates: IntArray) -> NDArray[np.bool_]:
        """Tells which items follow in the whole history and are not in the beginning.

        What was counted of training has counted them, the target among them, as choices of the
        very user whose choice is to be foretold.

        Args:
            candidates: Items for each, ``(n, C)``.

        Returns:
            ``(n, C)``.
        """
        n_items = self.whole.n_items
        asked = np.maximum(candidates, 0).astype(np.int64)
        ever = np.isin(
            self.rows[:, None] * n_items + asked, self.whole.rows * n_items + self.whole.items
        )
        before = np.isin(
            np.arange(len(self.rows))[:, None] * n_items + asked,
            self.histories.rows * n_items + self.histories.items,
        )
        later: NDArray[np.bool_] = ever & ~before & (candidates >= 0)
        return later


def sample_prefixes(
    histories: Histories, per_user: int, *, rng: np.random.Generator
) -> tuple[Histories, NDArray[np.int64]]:
    """Draws prefixes of users' histories and the item that follows each.

    Returns:
        As :func:`draw_prefixes`: the prefixes, and their targets ``(n,)``.
    """
    drawn = draw_prefixes(histories, per_user, rng=rng)
    return drawn.histories, drawn.targets


def draw_prefixes(histories: Histories, per_user: int, *, rng: np.random.Generator) -> Prefixes:
    """Draws prefixes of users' histories and the item that follows each.

    Args:
        histories: Training histories.
        per_user: Most prefixes of one user, drawn without repetition; its last one is always
            among them.
        rng: Source of randomness.
    """
    n_targets = np.maximum(histories.lengths - 1, 0)
    users = np.repeat(np.arange(len(histories)), n_targets)
    within = np.arange(len(users)) - np.repeat(np.cumsum(n_targets) - n_targets, n_targets)
    lengths = within + 1
    # The rank of a random number among those of its user: uniform without repetition.
    chance = rng.random(len(users))
    chance[lengths == n_targets[users]] = -1
    order = np.lexsort((chance, users))
    place = np.empty(len(users), np.int64)
    place[order] = within
    chosen = np.flatnonzero(place < per_user)
    users, lengths = users[chosen], lengths[chosen]
    starts = histories.offsets[users]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    cells = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    prefixes = Histories(offsets=offsets, items=histories.items[cells], n_items=histories.n_items)
    targets = histories.items[starts + lengths].astype(np.int64)
    return Prefixes(prefixes, targets, users, histories)


def user_vectors(backbone: Backbone, histories: Histories) -> FloatArray:
    """Returns the backbone's vectors of many histories, in chunks, ``(len(histories), d)``."""
    chunks = [
        as_array(backbone.user_vectors(histories.take(slice(start, start + ENCODE_PREFIXES))))
        for start in range(0, len(histories), ENCODE_PREFIXES)
    ]
    return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)


def to_device(array: FloatArray, device: str) -> Tensor:
    """Returns an array as a float32 tensor on a device."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)
