"""A small stream with something to learn, and a base that does not know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.online.learner import Learner
from dynmm_framework.online.memory import FrozenBase
from dynmm_framework.online.session import Session
from dynmm_framework.online.strategies import Fusion
from dynmm_framework.online.weights import Weights
from dynmm_plugins.gated_mlp.config import GatedMLPConfig
from dynmm_plugins.gated_mlp.model import GatedMLP

N_ITEMS, DIM, N_USERS = 40, 6, 12
SMALL: Mapping[str, Any] = {"window": 20, "hidden": 8, "replay": 20, "steps": 2, "warm_up": 0}


class FixedModel:
    """Vectors of items, and users as the mean of their items."""

    def __init__(self, seed: int = 0, n_items: int = N_ITEMS) -> None:
        rng = np.random.default_rng(seed)
        self.vectors = rng.normal(0, 0.5, (n_items, DIM)).astype(np.float32)
        self.vectors[0, 0] = -0.0  # whose sign has to survive

    def item_vectors(self) -> np.ndarray:
        return self.vectors.copy()

    def user_vectors(self, histories: Histories) -> np.ndarray:
        out = np.zeros((len(histories), DIM), np.float32)
        np.add.at(out, histories.rows, self.vectors[histories.items])
        return out / np.maximum(histories.lengths, 1)[:, None].astype(np.float32)

    def get_state(self) -> Mapping[str, np.ndarray]:
        return {"vectors": self.vectors}


def random_events(n: int, *, seed: int = 0, start: int = 0, items: int = N_ITEMS) -> Events:
    """Events of random users with random items, a few at the same time."""
    rng = np.random.default_rng(seed)
    times = start + np.cumsum(rng.integers(0, 3, n))
    return Events.of(rng.integers(0, N_USERS, n), rng.integers(0, items, n), times)


def trending_events(n: int, *, seed: int = 0, start: int = 0, first: int = 30) -> Events:
    """Events of which four in five are with ten items that nobody chose before."""
    rng = np.random.default_rng(seed)
    trend = rng.random(n) < 0.8
    items = np.where(trend, rng.integers(first, first + 10, n), rng.integers(0, N_ITEMS, n))
    times = start + np.arange(n)
    return Events.of(rng.integers(0, 500, n), items, times)


def base_of(events: Events, seed: int = 0) -> FrozenBase:
    return FrozenBase(FixedModel(seed), np.bincount(events.items, minlength=N_ITEMS))


def context(seed: int = 0) -> RunContext:
    return RunContext(Surroundings(None), seed=seed)  # type: ignore[arg-type]


def make_session(*, offline: Events | None = None, seed: int = 0, **changed: Any) -> Session:
    """A session with the base, and an adapter on it, that has begun."""
    offline = random_events(100, seed=9, items=30) if offline is None else offline
    config = GatedMLPConfig(**{**SMALL, **changed})
    base = base_of(offline)
    learner = Learner(GatedMLP(config), base, config, context(seed))
    weights = Weights(
        popularity=config.popularity,
        transitions=config.transitions,
        long_term_popularity=config.popularity,
    )
    half_lives = (config.popularity_guard_half_life, config.lasting_half_life or 1e6)
    session = Session(
        base,
        config,
        {
            "adapter": Fusion(
                weights, learner, guarded=config.guard, popularity_half_lives=half_lives
            ),
            "static": Fusion(Weights()),
        },
        [learner],
    )
    session.begin(offline.take(slice(0, 60)), offline.take(slice(60, None)))
    return session
