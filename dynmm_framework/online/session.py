"""A stream in progress: windows are predicted, then learned, and everything can be stored."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events, Window, Windower, windows_of
from dynmm_framework.online.config import OnlineConfig
from dynmm_framework.online.drift import DriftWatch
from dynmm_framework.online.intake import Intake
from dynmm_framework.online.learner import Learner
from dynmm_framework.online.memory import FrozenBase, Memory, Scene, below
from dynmm_framework.online.ranks import metrics_of, ranks_of
from dynmm_framework.online.strategies import Strategy
from dynmm_framework.protocols import State
from dynmm_framework.training.memory import keep_freed_memory

CUTOFFS = (5, 10, 20)
BOOSTED = 10
"""Windows that are learned faster after an alarm."""


@dataclass(frozen=True, slots=True)
class WindowReport:
    """What happened in one window.

    Attributes:
        window: Its number, from 1.
        events: Events that counted.
        time: Unix seconds of its last event.
        metrics: By strategy: hit@k and ndcg@k before learning, means over events.
        strength: λ that was served, by strategy with a guard.
        losses: Of the last step of the first adapter.
        predict_ms: Milliseconds to predict, all strategies together.
        update_ms: Milliseconds to learn, likewise.
        drift: Whether the first strategy's metric gave an alarm.
        boosted: Whether the window was learned faster, after an alarm.
    """

    window: int
    events: int
    time: int
    metrics: Mapping[str, Mapping[str, float]]
    strength: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    predict_ms: float = 0.0
    update_ms: float = 0.0
    drift: bool = False
    boosted: bool = False


class Session:
    """One stream over one frozen base, met by any number of strategies.

    Every window is first predicted by every strategy with the state before it, then learned. All
    strategies share histories, summaries and priors, which nothing is learned for.

    Args:
        base: The frozen base.
        config: Settings of the stream.
        strategies: By name; the first is the one that is served and watched for drift.
        learners: Adapters of the strategies, each once.
        kept: Newest windows whose reports are kept; ``None`` for all.
    """

    def __init__(
        self,
        base: FrozenBase,
        config: OnlineConfig,
        strategies: Mapping[str, Strategy],
        learners: Sequence[Learner] = (),
        *,
        kept: int | None = None,
    ) -> None:
        self.base, self.config = base, config
        self.strategies, self.learners = dict(strategies), tuple(learners)
        self.memory = Memory(base, config)
        self.windower = Windower(config.rule)
        self.intake = Intake(base.n_items, horizon=int(config.horizon_days * 86400))
        self.watch = DriftWatch() if config.drift and self.strategies else None
        self.events = 0  # events that were learned
        self.offset = 0  # events that were taken in, skipped ones included
        self.reports: deque[WindowReport] = deque(maxlen=kept)
        self.totals: dict[str, dict[str, float]] = {}
        self._boost = 0

    def begin(self, offline: Events, held_out: Events) -> None:
        """Takes what was before the stream.

        The windows of the held-out part, and the 24 before it, fill the summaries; those of the
        held-out part fill the replay too, and the newest ``warm_up`` of them are learned.

        Args:
            offline: What the base was trained on.
            held_out: What was held out for validation, which the base does not know by heart.
        """
        keep_freed_memory()
        rule = self.config.rule
        size = rule.events or 2000
        split = max(len(offline) - 24 * size, 0)
        old = offline.take(slice(0, split))
        for piece, known in self.memory.remember(old, size=max(size, 2000)):
            self._prepare(piece, known)
        for window in windows_of(offline.take(slice(split, None)), rule):
            known = self.memory.histories.before(window.events)
            self._prepare(window.events, known)
            self.memory.learn(window, known)
        windows = list(windows_of(held_out, rule))
        warm_up = len(windows) if self.config.warm_up is None else self.config.warm_up
        for place, window in enumerate(windows):
            scene = self.memory.scene(window)
            learned = place >= len(windows) - warm_up
            for strategy in self.strategies.values() if learned else ():
                strategy.warm_up(window, scene)
            for learner in self.learners:
                if learned:
                    learner.learn(scene)
                else:
                    learner.rehearse(scene)
            self._prepare(window.events, scene.people.known)
            self.memory.learn(window, scene.people.known)
        for learner in self.learners:
            learner.windows = 0
        # Whatever is older than what was trained on is late.
        last = max((int(part.times[-1]) for part in (offline, held_out) if len(part)), default=-1)
        self.intake.newest = last

    def _prepare(self, events: Events, known: Histories) -> None:
        for strategy in self.strategies.values():
            strategy.prepare(events, known)

    def push(self, events: Events, *, malformed: int = 0) -> Iterator[WindowReport]:
        """Takes events from outside and yields the report of every window that they close.

        Args:
            events: By user and item number; -1 is an unknown item.
            malformed: Further events that could not be read.
        """
        self.offset += len(events) + malformed
        self.intake.skipped["malformed"] += malformed
        for window in self.windower.push(self.intake.admit(events)):
            yield from self._met(window)

    def flush(self) -> Iterator[WindowReport]:
        """Closes the open window, if it holds anything."""
        for window in self.windower.flush():
            yield from self._met(window)

    def _met(self, window: Window) -> Iterator[WindowReport]:
        config = self.config
        window = self.intake.bound(window, repeats=config.repeats, per_user=config.per_user)
        started = time.perf_counter()
        scene = self.memory.scene(window)
        values = self._predicted(scene)
        predicted = time.perf_counter()
        alarm = False
        if self.watch is not None:
            first = next(iter(self.strategies))
            alarm = self.watch.observe(values[first]["ndcg@10"])
        if alarm and config.drift_boost > 1:
            self._boost = BOOSTED
        boosted = self._boost > 0
        strength = {
            name: float(getattr(strategy, "strength"))  # noqa: B009
            for name, strategy in self.strategies.items()
            if getattr(strategy, "guard", None) is not None
        }
        losses = self._learned(window, scene, rate=config.drift_boost if boosted else 1.0)
        self._boost = max(self._boost - 1, 0)
        report = WindowReport(
            window=window.number,
            events=len(window.events),
            time=int(window.events.times[-1]),
            metrics={
                name: {metric: float(found.mean()) for metric, found in by_metric.items()}
                for name, by_metric in values.items()
            },
            strength=strength,
            losses=losses,
            predict_ms=1000 * (predicted - started),
            update_ms=1000 * (time.perf_counter() - predicted),
            drift=alarm,
            boosted=boosted,
        )
        self.reports.append(report)
        yield report

    def _predicted(self, scene: Scene) -> dict[str, dict[str, NDArray[np.float64]]]:
        ranks: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.strategies}
        for chunk in scene.chunks():
            for name, strategy in self.strategies.items():
                scores = strategy.score(chunk)
                ranks[name].append(ranks_of(scores, chunk.people.known, chunk.targets))
                strategy.watch(chunk)
        values = {
            name: dict(metrics_of(np.concatenate(found), CUTOFFS)) for name, found in ranks.items()
        }
        for name, by_metric in values.items():
            sums = self.totals.setdefault(name, {})
            for metric, found in by_metric.items():
                sums[metric] = sums.get(metric, 0.0) + float(found.sum())
        return values

    def _learned(self, window: Window, scene: Scene, *, rate: float) -> Mapping[str, float]:
        losses = [learner.learn(scene, rate=rate) for learner in self.learners]
        for strategy in self.strategies.values():
            strategy.learn(window, scene)
        self.memory.learn(window, scene.people.known)
        self.events += len(window.events)
        return losses[0] if losses else {}

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Cumulative metrics of every strategy, means over all events of the stream."""
        n = max(self.events, 1)
        return {
            name: {metric: total / n for metric, total in sums.items()}
            for name, sums in self.totals.items()
        }

    @property
    def skipped(self) -> dict[str, int]:
        """How many events were skipped, by reason, and how many came late."""
        return {**self.intake.skipped, "late, kept": self.windower.late}

    def get_state(self) -> State:
        """Returns all that the stream has changed; arrays only."""
        state: dict[str, NDArray[Any]] = {
            "numbers": np.asarray([self.events, self.offset, self._boost], np.int64)
        }
        parts: dict[str, Any] = {
            "memory": self.memory,
            "windower": self.windower,
            "intake": self.intake,
            **{f"learner{n}": learner for n, learner in enumerate(self.learners)},
            **{f"strategy{n}": strategy for n, strategy in enumerate(self.strategies.values())},
        }
        if self.watch is not None:
            parts["watch"] = self.watch
        for name, part in parts.items():
            state |= {f"{name}.{key}": array for key, array in part.get_state().items()}
        for n, name in enumerate(self.strategies):
            sums = self.totals.get(name, {})
            values = [sums.get(metric, 0.0) for metric in metric_names()]
            state[f"totals{n}"] = np.asarray(values, np.float64)
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores what :meth:`get_state` returned, on a session made alike."""
        self.events, self.offset, self._boost = map(int, state["numbers"])
        self.memory.load_state(below(state, "memory"))
        self.windower.load_state(below(state, "windower"))
        self.intake.load_state(below(state, "intake"))
        if self.watch is not None:
            self.watch.load_state(below(state, "watch"))
        for n, learner in enumerate(self.learners):
            learner.load_state(below(state, f"learner{n}"))
        for n, (name, strategy) in enumerate(self.strategies.items()):
            strategy.load_state(below(state, f"strategy{n}"))
            values = state[f"totals{n}"].tolist()
            self.totals[name] = dict(zip(metric_names(), values, strict=True))

    def digest(self) -> str:
        """Returns a sha256 of the state: equal streams of equal beginnings have equal ones."""
        return digest_of(self.get_state())


def metric_names() -> list[str]:
    """Returns the names of the prequential metrics, in the order in which they are stored."""
    return [f"{family}@{k}" for k in CUTOFFS for family in ("hit", "ndcg")]


def digest_of(state: Mapping[str, NDArray[Any]]) -> str:
    """Returns a sha256 over named arrays."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode() + array.tobytes())
    return digest.hexdigest()
