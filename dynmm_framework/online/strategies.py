"""Strategies: ways to score a window before it is learned, compared on one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events, Window
from dynmm_framework.online.guard import Guard
from dynmm_framework.online.learner import Learner
from dynmm_framework.online.memory import Scene
from dynmm_framework.online.ranks import metrics_of, ranks_at
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
    """

    static: float = 0.0
    popularity: float = 0.0
    transitions: float = 0.0
    base: float = 1.0

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
        return scores


class Fusion:
    """The base and priors, and an adapter's correction where there is one.

    Args:
        weights: Of the priors.
        learner: The adapter; ``None`` for none.
        guarded: Serve as much of the correction as its recent results support.
        half_life: Of the guard, in events.
        watched: Most events of a window that the guard looks at.
    """

    def __init__(
        self,
        weights: Weights,
        learner: Learner | None = None,
        *,
        guarded: bool = False,
        half_life: float = 10_000.0,
        watched: int = 1024,
    ) -> None:
        self.weights, self.learner = weights, learner
        self.guard = Guard(half_life=half_life) if guarded and learner is not None else None
        self.watched = watched

    @property
    def strength(self) -> float:
        """λ, the part of the correction that is served."""
        return 1.0 if self.guard is None else self.guard.strength

    def prepare(self, events: Events, known: Histories) -> None:
        """Has nothing to prepare: priors are shared."""

    def warm_up(self, window: Window, scene: Scene) -> None:
        """Lets the guard see what the adapter would have reached."""
        self.watch(scene)

    def score(self, scene: Scene) -> Tensor:
        strength = self.strength
        if self.learner is None or strength == 0:
            return self.weights(scene)
        scores = self.weights(scene, base=self.weights.base - strength)
        users, table = self.learner.users(scene), self.learner.table(scene)
        return scores.addmm_(users, table.T, alpha=strength)

    def watch(self, scene: Scene) -> None:
        """Shows the guard what each strength would have reached on events just predicted.

        Of more than ``watched`` events it looks at as many, evenly spread.
        """
        if self.guard is None or self.learner is None:
            return
        seen = scene
        if len(scene) > self.watched:
            seen = scene.take(np.arange(self.watched) * len(scene) // self.watched)
        gains = []
        for chunk in seen.chunks():
            table, users = self.learner.table(chunk), self.learner.users(chunk)
            shift = torch.addmm(chunk.vectors @ chunk.base.table.T, users, table.T, beta=-1)
            known, strengths = chunk.people.known, self.guard.strengths
            ranks = ranks_at(self.weights(chunk), shift, strengths, known, chunk.targets)
            gains.append(metrics_of(ranks, [10])["ndcg@10"])
        self.guard.observe(np.concatenate(gains, axis=1), events=len(scene))

    def learn(self, window: Window, scene: Scene) -> None:
        """Has nothing to learn: its adapter learns on its own."""

    def get_state(self) -> State:
        return {} if self.guard is None else self.guard.get_state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        if self.guard is not None:
            self.guard.load_state(state)
