"""An adapter at school: predicts with what it was, then learns and rehearses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.online.config import OnlineConfig
from dynmm_framework.online.lesson import Lesson, People, Summary
from dynmm_framework.online.memory import FrozenBase, below
from dynmm_framework.online.replay import Replay
from dynmm_framework.online.scene import Scene
from dynmm_framework.protocols import Context, OnlineAdapter, State


class Learner:
    """One online adapter and its replay.

    Args:
        adapter: The adapter, new or restored.
        base: The frozen base.
        config: Settings.
        ctx: Seed and device.
        frozen_after: Windows after which nothing is learned any more; ``None`` for never.
        silent: Hide from the adapter what recent windows say, for the control without summaries.
    """

    def __init__(
        self,
        adapter: OnlineAdapter,
        base: FrozenBase,
        config: OnlineConfig,
        ctx: Context,
        *,
        frozen_after: int | None = None,
        silent: bool = False,
    ) -> None:
        self.adapter, self.base, self.config = adapter, base, config
        self.frozen_after, self.silent = frozen_after, silent
        self.seed = ctx.seed
        self.windows = 0
        self.steps = 0
        parts = max(config.replay_windows, 1)
        self.replay = Replay(
            windows=config.replay_kept if config.replay_windows else 0,
            events=max(config.replay // parts, 1) if config.replay else 0,
            seed=ctx.seed,
        )
        adapter.begin(base.items, ctx)
        self._table: Tensor | None = None

    def table(self, summaries: Mapping[int, Summary]) -> Tensor:
        """Returns the corrected latents of all items, ``(n_items, d)``.

        Args:
            summaries: Those of now, by the windows that they span.
        """
        if self._table is None:
            self._table = torch.from_numpy(self.adapter.correct_items(self.summary_of(summaries)))
        return self._table

    def users(self, scene: Scene) -> Tensor:
        """Returns the corrected latents of the users of a scene, ``(n, d)``."""
        return torch.from_numpy(self.adapter.correct_users(self._people(scene)))

    def learn(self, scene: Scene, *, rate: float = 1.0) -> Mapping[str, float]:
        """Learns a window that has been predicted.

        Args:
            scene: The window.
            rate: Factor on the learning rate.

        Returns:
            The losses of the last step; empty if nothing is learned.
        """
        self.windows += 1
        self._table = None
        if self.frozen_after is not None and self.windows > self.frozen_after:
            return {}
        lesson = self._lesson(scene)
        losses: Mapping[str, float] = {}
        for _ in range(self.config.steps):
            part = lesson
            if len(lesson) > self.config.batch:
                rng = np.random.default_rng([self.seed, 2, self.steps])
                part = lesson.take(rng.choice(len(lesson), self.config.batch, replace=False))
            past = self.replay.draw(self.config.replay_windows, step=self.steps)
            losses = self.adapter.step(part, past, rate=rate)
            self.steps += 1
        self.adapter.finish(lesson)
        self.replay.offer(lesson)
        return losses

    def rehearse(self, scene: Scene) -> None:
        """Keeps a window from before the stream for replay, without learning it."""
        self._table = None
        self.replay.offer(self._lesson(scene))

    def summary_of(self, summaries: Mapping[int, Summary]) -> Summary:
        """Returns the summary that the adapter sees, as it sees it."""
        summary = summaries[self.config.span]
        return summary.silenced() if self.silent else summary

    def _people(self, scene: Scene) -> People:
        if not self.config.recent_users:
            return scene.people
        assert scene.lately is not None  # the memory serves these settings
        return scene.lately

    def _lesson(self, scene: Scene) -> Lesson:
        return Lesson(self.summary_of(scene.summaries), self._people(scene), scene.targets)

    def get_state(self) -> State:
        state: dict[str, NDArray[Any]] = {
            "numbers": np.asarray([self.windows, self.steps], np.int64)
        }
        for name in _PARTS:
            part = getattr(self, name).get_state()
            state |= {f"{name}.{key}": array for key, array in part.items()}
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.windows, self.steps = map(int, state["numbers"])
        for name in _PARTS:
            getattr(self, name).load_state(below(state, name))
        self._table = None


_PARTS = ("adapter", "replay")
