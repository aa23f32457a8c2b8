"""What online adaptation has to be worth: training the whole backbone again, now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories, Interactions
from dynmm_framework.data.windows import Events, Window
from dynmm_framework.online.memory import FrozenBase
from dynmm_framework.online.scene import Scene
from dynmm_framework.protocols import State

if TYPE_CHECKING:
    from dynmm_framework.online.memory import VectorModel


class Retrained:
    """A backbone that is trained from scratch on all events so far, every so many windows.

    Its scores carry the static prior of the newest training counts. Between two trainings it is
    frozen; histories are up to date, as everyone's.

    Args:
        model: The model at first.
        train: What it was trained on at first.
        retrain: Trains another one.
        every: Windows between two trainings.
        prior: Weight of log(training events + 1).
    """

    def __init__(
        self,
        model: VectorModel,
        train: Interactions,
        retrain: Callable[[Interactions], VectorModel],
        *,
        every: int,
        prior: float,
    ) -> None:
        self.retrain, self.every, self.prior = retrain, every, prior
        self.n_users, self.n_items = train.n_users, train.n_items
        self.base = FrozenBase(model, train.item_counts())
        self.windows = 0
        self.trainings = 0
        self.seconds = 0.0
        self._events: list[Events] = []

    def prepare(self, events: Events, known: Histories) -> None:
        """Keeps what was before the stream for the trainings to come."""
        self._events.append(events)

    def warm_up(self, window: Window, scene: Scene, *, learned: bool) -> None:
        """Has been trained on what was before the stream."""

    def shares(self) -> Mapping[str, float]:
        """Has no guards."""
        return {}

    def score(self, scene: Scene) -> Tensor:
        """Returns scores of the newest model, ``(n, n_items)``."""
        users = torch.from_numpy(self.base.users(scene.people.known))
        return users @ self.base.table.T + self.prior * torch.from_numpy(self.base.prior)

    def watch(self, scene: Scene) -> None:
        """Has nothing to look at."""

    def learn(self, window: Window, scene: Scene) -> None:
        """Keeps the events, and trains when it is time."""
        self._events.append(window.events)
        self.windows += 1
        if self.windows % self.every == 0:
            self._train()

    def get_state(self) -> State:
        joined = Events.joined(self._events)
        return {
            "numbers": np.asarray([self.windows, self.trainings], np.int64),
            "users": joined.users,
            "items": joined.items,
            "times": joined.times,
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores the events, and trains again what they were trained to."""
        self.windows, self.trainings = map(int, state["numbers"])
        self._events = [Events.of(state["users"], state["items"], state["times"])]
        if self.trainings:
            self.trainings -= 1
            self._train()

    def _train(self) -> None:
        started = time.perf_counter()
        events = Events.joined(self._events)
        self._events = [events]
        rows = Interactions(
            users=events.users,
            items=events.items,
            n_users=max(self.n_users, int(events.users.max(initial=-1)) + 1),
            n_items=self.n_items,
            timestamps=events.times,
        ).chronological()
        self.base = FrozenBase(self.retrain(rows), rows.item_counts())
        self.trainings += 1
        self.seconds += time.perf_counter() - started
