"""Scores of the base with priors, and with as much of a correction as is served."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynmm_framework.online.scene import Scene


@dataclass(frozen=True)
class Weights:
    """Weights of the priors that are added to scores.

    Attributes:
        static: Of log(training events + 1).
        popularity: Of log(decayed events + 1).
        transitions: Of log(decayed transitions + 1).
        base: Of the base's scores.
        long_term_popularity: Of log(hardly faded events + 1), for users who have long been away;
            they are met with hardly faded transitions and the frozen base, too. ``None`` meets
            them as others.
    """

    static: float = 0.0
    popularity: float = 0.0
    transitions: float = 0.0
    base: float = 1.0
    long_term_popularity: float | None = None

    def __call__(self, scene: Scene, *, base: float | None = None) -> Tensor:
        """Returns the weighted sum, ``(n, n_items)``.

        Args:
            scene: What is scored.
            base: Weight of the base's scores instead of its own.
        """
        # As few passes over all scores as there can be: they cost more than the products.
        row = torch.zeros(scene.base.n_items)
        if self.static:
            row += self.static * torch.from_numpy(scene.base.prior)
        if self.popularity:
            row += self.popularity * torch.from_numpy(scene.popularity)
        if self.transitions:
            scores = torch.add(row, scene.following, alpha=self.transitions)
        else:
            scores = row.repeat(len(scene.people), 1)
        weight = self.base if base is None else base
        if weight:
            scores.addmm_(scene.vectors, scene.base.table.T, alpha=weight)
        rows, share = scene.absent
        long_term, known = self.long_term_popularity, scene.long_term
        if long_term is not None and known is not None and len(rows):
            # What has hardly faded takes its share of the place of what is popular now.
            change = long_term * known.popularity - self.popularity * scene.popularity
            shift = torch.outer(torch.from_numpy(share), torch.from_numpy(change))
            if self.transitions:
                shift.add_(scene.recalled, alpha=self.transitions)
            scores.index_add_(0, torch.from_numpy(rows), shift)
        return scores

    def popular(self, scene: Scene) -> Tensor:
        """Returns what short-term popularity adds to scores, ``(n, n_items)``."""
        row = torch.from_numpy(scene.popularity)
        factors = torch.full((len(scene.people),), self.popularity)
        if self.long_term_popularity is not None:
            rows, share = scene.absent
            factors[torch.from_numpy(rows)] *= 1 - torch.from_numpy(share)
        return torch.outer(factors, row)

    def corrections(self, scene: Scene, *, strength: float) -> Tensor:
        """Returns the part of a correction that each user is met with, ``(n, 1)``.

        Those who have been away are met by the frozen base in the share of long-term priors.

        Args:
            scene: What is scored.
            strength: λ, the part for all others.
        """
        parts = torch.full((len(scene.people), 1), strength)
        if self.long_term_popularity is not None:
            rows, share = scene.absent
            parts[torch.from_numpy(rows)] *= 1 - torch.from_numpy(share)[:, None]
        return parts


def add_corrected(
    scores: Tensor,
    scene: Scene,
    users: Tensor,
    table: Tensor,
    *,
    weights: Weights,
    strength: float,
) -> None:
    """Adds the base's scores, and as much of the correction as is served, in place.

    Args:
        scores: ``(n, n_items)``, of the priors alone.
        scene: What is scored.
        users: Corrected latents of its users, ``(n, d)``.
        table: Corrected latents of all items, ``(n_items, d)``.
        weights: Of base and priors.
        strength: λ, the part of the correction that is served.
    """
    parts = weights.corrections(scene, strength=strength)
    scores.addmm_(users * parts, table.T)
    frozen = weights.base - parts
    rows = torch.nonzero(frozen[:, 0])[:, 0]
    if len(rows) == len(frozen):
        scores.addmm_(scene.vectors * frozen, scene.base.table.T)
    elif len(rows):
        scores.index_add_(0, rows, (scene.vectors[rows] * frozen[rows]) @ scene.base.table.T)
