"""Strategies: ways to score a window before it is learned, compared on one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from dynmm_framework.online.weights import Weights, add_corrected
from dynmm_framework.protocols import State


class Strategy(Protocol):
    """Scores the events of a window by what it has learned before it."""

    def prepare(self, events: Events, known: Histories) -> None:
        """Takes events from before the stream, with the user's history before each."""
        ...

    def warm_up(self, window: Window, scene: Scene, *, learned: bool) -> None:
        """Takes a window that was held out before the stream.

        Args:
            window: The window.
            scene: The same as it is met.
            learned: Whether adapters learn from it.
        """
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

    def shares(self) -> Mapping[str, float]:
        """Returns what guards let through now, by what they guard; empty without guards."""
        ...

    def get_state(self) -> State: ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None: ...


class Fusion:
    """The base and priors, and an adapter's correction where there is one.

    Args:
        weights: Of the priors.
        learner: The adapter; ``None`` for none.
        guarded: Serve as much of the correction as its recent results support.
        half_life: Of the guard, in events.
        popularity_half_lives: Half-lives, in events, of two guards that serve as much of
            popularity's weight as its results support: its recent results for short-term
            popularity, nearly all of them for long-term popularity. ``None`` serves all of it.
        watched: Most events of a window that the guard looks at.
    """

    def __init__(
        self,
        weights: Weights,
        learner: Learner | None = None,
        *,
        guarded: bool = False,
        half_life: float = 10_000.0,
        popularity_half_lives: tuple[float, float] | None = None,
        watched: int = 512,
    ) -> None:
        self.weights, self.learner = weights, learner
        self.guard = Guard(half_life=half_life) if guarded and learner is not None else None
        self.popularity_guard: Guard | None = None
        self.long_term_popularity_guard: Guard | None = None
        if popularity_half_lives is not None and weights.popularity:
            # Unlike an adapter that has learned nothing, what was popular is worth something at
            # once: all of it is served until results speak against it.
            self.popularity_guard, self.long_term_popularity_guard = (
                Guard(half_life=each, strengths=PARTS, initial=1.0)
                for each in popularity_half_lives
            )
        self.watched = watched

    @property
    def strength(self) -> float:
        """λ, the part of the correction that is served."""
        return 1.0 if self.guard is None else self.guard.strength

    @property
    def served(self) -> Weights:
        """The weights as they are served now."""
        short, long = self.popularity_guard, self.long_term_popularity_guard
        if short is None or long is None:
            return self.weights
        weights, long_term = self.weights, self.weights.long_term_popularity
        return replace(
            weights,
            popularity=weights.popularity * short.strength,
            long_term_popularity=None if long_term is None else long_term * long.strength,
        )

    def shares(self) -> Mapping[str, float]:
        """Returns λ as ``correction``, and the parts of popularity's weights that are served."""
        found = {} if self.guard is None else {"correction": self.guard.strength}
        if self.popularity_guard is not None:
            found["popularity"] = self.popularity_guard.strength
        long_term = self.long_term_popularity_guard
        if long_term is not None and self.weights.long_term_popularity is not None:
            found["long_term_popularity"] = long_term.strength
        return found

    def prepare(self, events: Events, known: Histories) -> None:
        """Has nothing to prepare: priors are shared."""

    def warm_up(self, window: Window, scene: Scene, *, learned: bool) -> None:
        """Lets the guards see what each part would have reached, λ where the adapter learns."""
        self._watch(scene, correction=learned)

    def score(self, scene: Scene) -> Tensor:
        strength = self.strength
        if self.learner is None or strength == 0:
            return self.served(scene)
        scores = self.served(scene, base=0.0)
        users, table = self.learner.users(scene), self.learner.table(scene.summaries)
        add_corrected(scores, scene, users, table, weights=self.weights, strength=strength)
        return scores

    def watch(self, scene: Scene) -> None:
        """Shows the guards what each strength would have reached on events just predicted.

        Of more than ``watched`` events it looks at as many, evenly spread.
        """
        self._watch(scene)

    def _watch(self, scene: Scene, *, correction: bool = True) -> None:
        if self.popularity_guard is None and (self.guard is None or not correction):
            return
        seen = scene
        if len(scene) > self.watched:
            seen = scene.take(np.arange(self.watched) * len(scene) // self.watched)
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _GUARDS}
        for chunk in seen.chunks():
            for name, gains in self.gains(chunk).items():
                found[name].append(gains)
        if not correction:
            del found["guard"]
        for name, parts in found.items():
            if parts:
                getattr(self, name).observe(np.concatenate(parts, axis=1), events=len(scene))

    def gains(self, scene: Scene) -> dict[str, NDArray[np.float64]]:
        """Returns NDCG@10 by each strength of each guard, with the others at what they serve.

        Returns:
            ``(strengths, n)`` by guard; long-term popularity is judged by how short-term popularity
            fares, as too few users come back to try it.
        """
        weights, gains = replace(self.served, popularity=0.0), {}
        known, targets = scene.people.known, scene.targets
        tried = self.popularity_guard
        popular = None if tried is None else self.weights.popular(scene)
        shift = None
        if self.learner is None:
            plain = weights(scene)
        else:
            base = scene.vectors @ scene.base.table.T
            plain = weights(scene, base=0.0).add_(base, alpha=weights.base)
            users, table = self.learner.users(scene), self.learner.table(scene.summaries)
            shift = torch.addmm(base, users, table.T, beta=-1)
            if self.weights.long_term_popularity is not None:
                rows, share = scene.absent
                shift[torch.from_numpy(rows)] *= 1 - torch.from_numpy(share)[:, None]
        if tried is not None and popular is not None:
            served = plain.clone() if shift is None else plain.add(shift, alpha=self.strength)
            ranks = ranks_at(served, popular.clone(), tried.strengths, known, targets)
            found = metrics_of(ranks, [10])["ndcg@10"]
            gains["popularity_guard"] = gains["long_term_popularity_guard"] = found
        if self.guard is not None and shift is not None:
            served_part = 1.0 if tried is None else tried.strength
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


_GUARDS = ("guard", "popularity_guard", "long_term_popularity_guard")
