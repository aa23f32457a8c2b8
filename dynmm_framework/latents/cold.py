"""From content to collaborative vectors, for items without history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.features import Features
from dynmm_framework.protocols import FloatArray, State

FOLDS = 5


@dataclass(frozen=True, eq=False)
class ContentMap:
    """Ridge regression from principal components of all modalities to collaborative vectors.

    Attributes:
        components: Modality to ``(width, k)``, the directions of most variance.
        centres: Modality to ``(width,)``.
        weights: ``(inputs, d)``; inputs are the components of each modality, and a flag each.
        intercept: ``(d,)``.
        alpha: The penalty, chosen by cross-validation over items.
    """

    components: Mapping[str, FloatArray]
    centres: Mapping[str, FloatArray]
    weights: FloatArray
    intercept: FloatArray
    alpha: float

    @classmethod
    def fit(
        cls,
        features: Mapping[str, Features],
        targets: FloatArray,
        counts: NDArray[np.int64],
        *,
        sizes: Mapping[str, int],
        alphas: Sequence[float],
        least: int,
        rng: np.random.Generator,
    ) -> tuple[ContentMap, FloatArray]:
        """Fits the map on items with enough history, weighted by the root of their counts.

        Args:
            features: Features by modality.
            targets: Collaborative vectors of all items, ``(n_items, d)``.
            counts: Training interactions of each item.
            sizes: Most components of each modality.
            alphas: Penalties to choose from.
            least: Fewest interactions of an item to learn from; fewer if too few items have them.
            rng: Divides the items into folds.

        Returns:
            The map, and what it predicts for each item when that item is not learned from,
            ``(n_items, d)``.
        """
        components, centres = {}, {}
        for name, found in features.items():
            content = found.vectors[found.present].astype(np.float64)
            centre = content.mean(axis=0)
            _, vectors = np.linalg.eigh((content - centre).T @ (content - centre))
            components[name] = vectors[:, ::-1][:, : sizes[name]].astype(np.float32)
            centres[name] = centre.astype(np.float32)
        draft = cls(components, centres, np.empty((0, 0), np.float32), np.empty(0, np.float32), 0.0)
        inputs = draft._inputs(features).astype(np.float64)
        known = counts >= least
        if known.sum() < 2 * FOLDS:
            known = counts > 0
        rows = np.flatnonzero(known)
        weights = np.sqrt(counts[rows].astype(np.float64))
        folds = rng.permutation(len(rows)) % FOLDS
        wanted = targets.astype(np.float64)
        held_out = {alpha: np.zeros_like(wanted) for alpha in alphas}
        losses = dict.fromkeys(alphas, 0.0)
        for fold in range(FOLDS):
            train, rest = rows[folds != fold], rows[folds == fold]
            for alpha in alphas:
                slope, offset = _ridge(inputs[train], wanted[train], weights[folds != fold], alpha)
                guess = inputs[rest] @ slope + offset
                held_out[alpha][rest] = guess
                error = ((guess - wanted[rest]) ** 2).sum(axis=1)
                losses[alpha] += float(error @ weights[folds == fold])
        alpha = min(alphas, key=losses.__getitem__)
        slope, offset = _ridge(inputs[rows], wanted[rows], weights, alpha)
        fitted = cls(
            components, centres, slope.astype(np.float32), offset.astype(np.float32), alpha
        )
        predicted = fitted.predict(features)
        predicted[rows] = held_out[alpha][rows]
        return fitted, predicted

    def predict(self, features: Mapping[str, Features]) -> FloatArray:
        """Returns collaborative vectors for all items from their content, ``(n_items, d)``."""
        out: FloatArray = self._inputs(features) @ self.weights + self.intercept
        return out

    def _inputs(self, features: Mapping[str, Features]) -> FloatArray:
        parts = []
        for name, directions in self.components.items():
            found = features[name]
            reduced = (found.vectors - self.centres[name]) @ directions
            parts.append(np.where(found.present[:, None], reduced, np.float32(0)))
            parts.append(found.present[:, None].astype(np.float32))
        return np.concatenate(parts, axis=1)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Returns the arrays that :meth:`restore` takes."""
        out = {f"components.{name}": value for name, value in self.components.items()}
        out |= {f"centre.{name}": value for name, value in self.centres.items()}
        alpha = np.array([self.alpha], np.float32)
        return out | {"weights": self.weights, "intercept": self.intercept, "alpha": alpha}

    @classmethod
    def restore(cls, state: State) -> ContentMap:
        """Restores what :meth:`state` returned."""
        prefixes = ("components.", "centre.")
        components, centres = (
            {k.removeprefix(p): np.asarray(v) for k, v in state.items() if k.startswith(p)}
            for p in prefixes
        )
        return cls(
            components,
            centres,
            np.asarray(state["weights"]),
            np.asarray(state["intercept"]),
            float(state["alpha"][0]),
        )


def _ridge(
    inputs: NDArray[np.float64],
    wanted: NDArray[np.float64],
    weights: NDArray[np.float64],
    alpha: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns slope and intercept of weighted ridge regression; the intercept is not penalised."""
    share = weights / weights.sum()
    centre, middle = share @ inputs, share @ wanted
    x = (inputs - centre) * np.sqrt(weights)[:, None]
    y = (wanted - middle) * np.sqrt(weights)[:, None]
    slope = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y)
    return slope, middle - centre @ slope
