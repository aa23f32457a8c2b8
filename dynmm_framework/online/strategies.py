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
from dynmm_framework.online.ranks import metrics_of, ranks_of
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
        """Looks at events that have just been predicted, before anything is learned."""
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

    def __call__(self, scene: Scene) -> Tensor:
        """Returns the weighted sum, ``(n, n_items)``."""
        scores = self.base * scene.scores if self.base else torch.zeros_like(scene.scores)
        if self.static:
            scores += self.static * torch.from_numpy(scene.base.prior)
        if self.popularity:
            scores += self.popularity * torch.from_numpy(scene.popularity)
        if self.transitions:
            scores += self.transitions * scene.following
        return scores


class Fusion:
    """The base and priors, and an adapter's correction where there is one.

    Args:
        weights: Of the priors.
        learner: The adapter; ``None`` for none.
        guarded: Serve as much of the correction as its recent results support.
        half_life: Of the guard, in events.
    """

    def __init__(
        self,
        weights: Weights,
        learner: Learner | None = None,
        *,
        guarded: bool = False,
        half_life: float = 10_000.0,
    ) -> None:
        self.weights, self.learner = weights, learner
        self.guard = Guard(half_life=half_life) if guarded and learner is not None else None
        self._gains: list[NDArray[np.float64]] = []

    @property
    def strength(self) -> float:
        """λ, the part of the correction that is served."""
        return 1.0 if self.guard is None else self.guard.strength

    def prepare(self, events: Events, known: Histories) -> None:
        """Has nothing to prepare: priors are shared."""

    def warm_up(self, window: Window, scene: Scene) -> None:
        """Lets the guard see what the adapter would have reached."""
        for chunk in scene.chunks():
            self.watch(chunk)
        self.learn(window, scene)

    def score(self, scene: Scene) -> Tensor:
        scores, strength = self.weights(scene), self.strength
        if self.learner is None or strength == 0:
            return scores
        return scores.add_(self.learner.corrected(scene) - scene.scores, alpha=strength)

    def watch(self, scene: Scene) -> None:
        """Notes for the guard what each strength would have reached on events just predicted."""
        if self.guard is None or self.learner is None:
            return
        scores = self.weights(scene)
        shift = self.learner.corrected(scene) - scene.scores
        rows = []
        for strength in self.guard.strengths:
            tried = torch.add(scores, shift, alpha=strength)
            ranks = ranks_of(tried, scene.people.known, scene.targets)
            rows.append(metrics_of(ranks, [10])["ndcg@10"])
        self._gains.append(np.stack(rows))

    def learn(self, window: Window, scene: Scene) -> None:
        if self.guard is not None:
            self.guard.observe(np.concatenate(self._gains, axis=1))
            self._gains = []

    def get_state(self) -> State:
        return {} if self.guard is None else self.guard.get_state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        if self.guard is not None:
            self.guard.load_state(state)
