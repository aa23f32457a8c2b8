"""Strategies: ways to score a window before it is learned, compared on one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events, Window
from dynmm_framework.online.guard import PARTS, Guard
from dynmm_framework.online.learner import Learner
from dynmm_framework.online.memory import below
from dynmm_framework.online.ranks import metrics_of, ranks_at
from dynmm_framework.online.scene import Scene
from dynmm_framework.protocols import State


class Strategy(Protocol):
    """Scores the events of a window by what it has learned before it."""

    def prepare(self, events: Events, known: Histories) -> None:
        """Takes events from before the stream, with the user's history before each."""
        ...

    def warm_up(self, window: Window, scene: Scene) -> None:
        """Takes a window that was held out before the stream, which adapters learn from."""
        ...

    def score(self, scene: Scene) -> Tensor:
        """Returns ``(n, n_items)`` scores, which the caller may overwrite; changes nothing."""
        ...

    def watch(self, scene: Scene) -> None:
        """Looks at a window that has just been predicted, before anything is learned."""
        ...

    def learn(self, window: Window, scene: Scene) -> None:
        """Learns a window that has been predicted; shared parts learn on their own."""
        ...

    def get_state(self) -> State: ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None: ...


@dataclass(frozen=True)
class Weights:
    """Weights of the priors that are added to scores.

    Attributes:
        static: Of log(training events + 1).
        popularity: Of log(decayed events + 1).
        transitions: Of log(decayed transitions + 1).
        base: Of the base's scores.
        lasting: Of log(hardly faded events + 1), for users who have long been away; they are met
            with hardly faded transitions and the frozen base, too. ``None`` meets them as others.
    """

    static: float = 0.0
    popularity: float = 0.0
    transitions: float = 0.0
    base: float = 1.0
    lasting: float | None = None

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
        rows, part = scene.absent
        if self.lasting is not None and scene.lasting is not None and len(rows):
            # What has hardly faded takes its part of the place of what is popular now.
            change = self.lasting * scene.lasting.popularity - self.popularity * scene.popularity
            shift = torch.outer(torch.from_numpy(part), torch.from_numpy(change))
            if self.transitions:
                shift.add_(scene.recalled, alpha=self.transitions)
            scores.index_add_(0, torch.from_numpy(rows), shift)
        return scores

    def popular(self, scene: Scene) -> Tensor:
        """Returns what present popularity adds to scores, ``(n, n_items)``."""
        row = torch.from_numpy(scene.popularity)
        factors = torch.full((len(scene.people),), self.popularity)
        if self.lasting is not None:
            rows, part = scene.absent
            factors[torch.from_numpy(rows)] *= 1 - torch.from_numpy(part)
        return torch.outer(factors, row)


def hold_back(
    scores: Tensor, scene: Scene, users: Tensor, table: Tensor, *, strength: float
) -> None:
    """Takes corrections back, in place, by the part of what lasts for those who have been away.

    Args:
        scores: ``(n, n_items)``, with corrections.
        scene: What was scored.
        users: Corrected latents of its users, ``(n, d)``.
        table: Corrected latents of all items, ``(n_items, d)``.
        strength: λ, by which the corrections are in the scores.
    """
    rows, part = scene.absent
    if len(rows):
        chosen = torch.from_numpy(rows)
        frozen = scene.vectors[chosen] @ scene.base.table.T
        back = torch.addmm(frozen, users[chosen], table.T, alpha=-1)
        scores.index_add_(0, chosen, back.mul_(torch.from_numpy(part)[:, None]), alpha=strength)


class Fusion:
    """The base and priors, and an adapter's correction where there is one.

    Args:
        weights: Of the priors.
        learner: The adapter; ``None`` for none.
        guarded: Serve as much of the correction as its recent results support.
        half_life: Of the guard, in events.
        tuned: Half-lives, in events, of two guards that serve as much of popularity's weight as its
            results support, the recent ones for present popularity and all for lasting;
            ``None`` for all of it.
        watched: Most events of a window that the guard looks at.
    """

    def __init__(
        self,
        weights: Weights,
        learner: Learner | None = None,
        *,
        guarded: bool = False,
        half_life: float = 10_000.0,
        tuned: tuple[float, float] | None = None,
        watched: int = 512,
    ) -> None:
        self.weights, self.learner = weights, learner
        self.guard = Guard(half_life=half_life) if guarded and learner is not None else None
        self.tuner: Guard | None = None
        self.lasting: Guard | None = None
        if tuned is not None and weights.popularity:
            self.tuner, self.lasting = (Guard(half_life=each, strengths=PARTS) for each in tuned)
        self.watched = watched

    @property
    def strength(self) -> float:
        """λ, the part of the correction that is served."""
        return 1.0 if self.guard is None else self.guard.strength

    @property
    def served(self) -> Weights:
        """The weights as they are served now."""
        if self.tuner is None or self.lasting is None:
            return self.weights
        lasting = self.weights.lasting
        return replace(
            self.weights,
            popularity=self.weights.popularity * self.tuner.strength,
            lasting=None if lasting is None else lasting * self.lasting.strength,
        )

    def prepare(self, events: Events, known: Histories) -> None:
        """Has nothing to prepare: priors are shared."""

    def warm_up(self, window: Window, scene: Scene) -> None:
        """Lets the guard see what the adapter would have reached."""
        self.watch(scene)

    def score(self, scene: Scene) -> Tensor:
        strength = self.strength
        if self.learner is None or strength == 0:
            return self.served(scene)
        scores = self.served(scene, base=self.weights.base - strength)
        users, table = self.learner.users(scene), self.learner.table(scene)
        scores.addmm_(users, table.T, alpha=strength)
        if self.weights.lasting is not None:
            hold_back(scores, scene, users, table, strength=strength)
        return scores

    def watch(self, scene: Scene) -> None:
        """Shows the guards what each strength would have reached on events just predicted.

        Of more than ``watched`` events it looks at as many, evenly spread.
        """
        if self.guard is None and self.tuner is None:
            return
        seen = scene
        if len(scene) > self.watched:
            seen = scene.take(np.arange(self.watched) * len(scene) // self.watched)
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _GUARDS}
        for chunk in seen.chunks():
            for name, gains in self._gains(chunk).items():
                found[name].append(gains)
        for name, parts in found.items():
            if parts:
                getattr(self, name).observe(np.concatenate(parts, axis=1), events=len(scene))

    def _gains(self, scene: Scene) -> dict[str, NDArray[np.float64]]:
        """Returns NDCG@10 by each strength of each guard, with the other at what it serves."""
        weights, gains = replace(self.served, popularity=0.0), {}
        known, targets = scene.people.known, scene.targets
        popular = None if self.tuner is None else self.weights.popular(scene)
        shift = None
        if self.learner is None:
            plain = weights(scene)
        else:
            base = scene.vectors @ scene.base.table.T
            plain = weights(scene, base=0.0).add_(base, alpha=weights.base)
            users, table = self.learner.users(scene), self.learner.table(scene)
            shift = torch.addmm(base, users, table.T, beta=-1)
            if self.weights.lasting is not None:
                rows, part = scene.absent
                shift[torch.from_numpy(rows)] *= 1 - torch.from_numpy(part)[:, None]
        if self.tuner is not None and popular is not None:
            served = plain.clone() if shift is None else plain.add(shift, alpha=self.strength)
            ranks = ranks_at(served, popular.clone(), self.tuner.strengths, known, targets)
            gains["tuner"] = gains["lasting"] = metrics_of(ranks, [10])["ndcg@10"]
        if self.guard is not None and shift is not None:
            served_part = 1.0 if self.tuner is None else self.tuner.strength
            if popular is None:
                popular = self.weights.popular(scene)
            served = plain.add_(popular, alpha=served_part)
            ranks = ranks_at(served, shift, self.guard.strengths, known, targets)
            gains["guard"] = metrics_of(ranks, [10])["ndcg@10"]
        return gains

    def learn(self, window: Window, scene: Scene) -> None:
        """Has nothing to learn: its adapter learns on its own."""

    def get_state(self) -> State:
        state: dict[str, NDArray[Any]] = {}
        for name in _GUARDS:
            if (guard := getattr(self, name)) is not None:
                state |= {f"{name}.{key}": array for key, array in guard.get_state().items()}
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        for name in _GUARDS:
            if (guard := getattr(self, name)) is not None:
                guard.load_state(below(state, name))


_GUARDS = ("guard", "tuner", "lasting")
