"""A stream in progress: windows are predicted, then learned, and everything can be stored."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events, Window, Windower, windows_of
from dynmm_framework.online.config import OnlineConfig
from dynmm_framework.online.drift import DriftWatch
from dynmm_framework.online.intake import Intake
from dynmm_framework.online.learner import Learner
from dynmm_framework.online.memory import FrozenBase, Memory, below
from dynmm_framework.online.probe import Probe, drawn
from dynmm_framework.online.ranks import Values, metrics_of, ranks_of
from dynmm_framework.online.reports import WindowReport
from dynmm_framework.online.scene import Scene
from dynmm_framework.online.strategies import Strategy
from dynmm_framework.protocols import State
from dynmm_framework.training.memory import keep_freed_memory

CUTOFFS = (5, 10, 20)
BOOSTED = 10
"""Windows that are learned faster after an alarm."""


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
        seed: Seed by which the sample is drawn on which forgetting is measured.
    """

    def __init__(
        self,
        base: FrozenBase,
        config: OnlineConfig,
        strategies: Mapping[str, Strategy],
        learners: Sequence[Learner] = (),
        *,
        kept: int | None = None,
        seed: int = 0,
    ) -> None:
        self.base, self.config, self.seed = base, config, seed
        self.strategies, self.learners = dict(strategies), tuple(learners)
        self.memory = Memory(base, config)
        for learner in self.learners:
            self.memory.serve(learner.config)
        self.windower = Windower(config.rule)
        self.intake = Intake(base.n_items, horizon=int(config.horizon_days * 86400))
        self.watch = DriftWatch() if config.drift and self.strategies else None
        self.events = 0  # events that were learned
        self.offset = 0  # events that were taken in, skipped ones included
        self.reports: deque[WindowReport] = deque(maxlen=kept)
        self.totals: dict[str, dict[str, float]] = {}
        self.probe = Probe()
        self.before: dict[str, Values] = {}  # of every event of the probe, before the stream
        self.before_as_present: dict[str, Values] = {}  # the same, met as if just there
        self.cost: dict[str, float] = dict.fromkeys(self.strategies, 0.0)  # processor seconds
        self.heard: Callable[[Events], object] | None = None  # told of what was learned
        self._boost = 0

    def begin(self, offline: Events, held_out: Events) -> None:
        """Takes what was before the stream.

        The windows of the held-out part, and the 24 before it, fill the summaries; those of the
        held-out part fill the replay too, and the newest ``warm_up`` of them are learned. A sample
        of the held-out events is left out of all of this, and measures what is forgotten.

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
        self._rehearse(held_out)
        for learner in self.learners:
            learner.windows = 0
        # Whatever is older than what was trained on is late.
        last = max((int(part.times[-1]) for part in (offline, held_out) if len(part)), default=-1)
        self.intake.newest = last
        self.windower.since(last)
        self.before, self.before_as_present = self.probed()

    def _rehearse(self, held_out: Events) -> None:
        windows = list(windows_of(held_out, self.config.rule))
        warm_up = len(windows) if self.config.warm_up is None else self.config.warm_up
        sampled = drawn(len(held_out), most=self.config.probe, seed=self.seed)
        sample, start = [], 0
        for place, window in enumerate(windows):
            whole = self.memory.scene(window)
            chosen = sampled[start : start + len(window.events)]
            start += len(window.events)
            sample.append(whole.take(chosen))
            scene = whole.take(~chosen)
            rest = replace(window, events=window.events.take(~chosen))
            learned = place >= len(windows) - warm_up
            for strategy in self.strategies.values() if len(scene) else ():
                strategy.warm_up(rest, scene, learned=learned)
            for learner in self.learners:
                if learned:
                    learner.learn(scene)
                else:
                    learner.rehearse(scene)
            known = scene.people.known
            self._prepare(rest.events, known)
            self.memory.learn(rest, known, seen=window.events)
        self.probe.fill(sample)

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
        served = {
            name: shares for name, each in self.strategies.items() if (shares := each.shares())
        }
        values = self._predicted(scene)
        predicted = time.perf_counter()
        alarm = False
        if self.watch is not None:
            first = next(iter(self.strategies))
            alarm = self.watch.observe(values[first]["ndcg@10"])
        if alarm and config.drift_boost > 1:
            self._boost = BOOSTED
        boosted = self._boost > 0
        losses = self._learned(window, scene, rate=config.drift_boost if boosted else 1.0)
        updated = time.perf_counter()
        self._boost = max(self._boost - 1, 0)
        measured = config.probe_every and window.number % config.probe_every == 0
        away, present = self.retained() if measured else ({}, {})
        report = WindowReport(
            window=window.number,
            events=len(window.events),
            time=int(window.events.times[-1]),
            metrics={
                name: {metric: float(found.mean()) for metric, found in by_metric.items()}
                for name, by_metric in values.items()
            },
            served=served,
            losses=losses,
            predict_ms=1000 * (predicted - started),
            update_ms=1000 * (updated - predicted),
            drift=alarm,
            boosted=boosted,
            retained=away,
            retained_as_present=present,
        )
        self.reports.append(report)
        yield report

    def _predicted(self, scene: Scene) -> dict[str, dict[str, NDArray[np.float64]]]:
        ranks: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.strategies}
        for chunk in scene.chunks():
            for name, strategy in self.strategies.items():
                scores = strategy.score(chunk)
                ranks[name].append(ranks_of(scores, chunk.people.known, chunk.targets))
        for strategy in self.strategies.values():
            strategy.watch(scene)
        values = {
            name: dict(metrics_of(np.concatenate(found), CUTOFFS)) for name, found in ranks.items()
        }
        for name, by_metric in values.items():
            sums = self.totals.setdefault(name, {})
            for metric, found in by_metric.items():
                sums[metric] = sums.get(metric, 0.0) + float(found.sum())
        return values

    def _learned(self, window: Window, scene: Scene, *, rate: float) -> Mapping[str, float]:
        losses, spent = [], {}
        for learner in self.learners:
            started = time.process_time()
            losses.append(learner.learn(scene, rate=rate))
            spent[id(learner)] = time.process_time() - started
        for name, strategy in self.strategies.items():
            started = time.process_time()
            strategy.learn(window, scene)
            self.cost[name] += time.process_time() - started
            self.cost[name] += spent.get(id(getattr(strategy, "learner", None)), 0.0)
        self.memory.learn(window, scene.people.known)
        if self.heard is not None:
            self.heard(window.events)
        self.events += len(window.events)
        return losses[0] if losses else {}

    def probed(self) -> tuple[dict[str, Values], dict[str, Values]]:
        """Returns NDCG@10 of every event of the sample from before the stream, as of now.

        Returns:
            By strategy, with the sample's users met as not having come since, and as if they had
            just been there.
        """
        away = self.probe.values(self.memory, self.strategies)
        if self.config.lasting_half_life is None:  # then all are met alike
            return away, away
        return away, self.probe.values(self.memory, self.strategies, as_present=True)

    def retained(self) -> tuple[dict[str, float], dict[str, float]]:
        """Returns the means of :meth:`probed`."""
        away, present = (
            {name: float(values.mean()) for name, values in found.items()}
            for found in self.probed()
        )
        return away, present

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
        """How many events were skipped, by reason, how many wait, and how many came late."""
        waiting = {"far future, waiting": self.intake.waiting}
        return {**self.intake.skipped, **waiting, "late, kept": self.windower.late}

    def get_state(self) -> State:
        """Returns all that the stream has changed; arrays only."""
        state: dict[str, NDArray[Any]] = {
            "numbers": np.asarray([self.events, self.offset, self._boost], np.int64)
        }
        parts: dict[str, Any] = {
            "memory": self.memory,
            "windower": self.windower,
            "intake": self.intake,
            "probe": self.probe,
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
            state[f"before{n}"] = self.before.get(name, np.empty(0))
            state[f"before_as_present{n}"] = self.before_as_present.get(name, np.empty(0))
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores what :meth:`get_state` returned, on a session made alike."""
        self.events, self.offset, self._boost = map(int, state["numbers"])
        self.memory.load_state(below(state, "memory"))
        self.windower.load_state(below(state, "windower"))
        self.intake.load_state(below(state, "intake"))
        self.probe.load_state(below(state, "probe"))
        if self.watch is not None:
            self.watch.load_state(below(state, "watch"))
        for n, learner in enumerate(self.learners):
            learner.load_state(below(state, f"learner{n}"))
        for n, (name, strategy) in enumerate(self.strategies.items()):
            strategy.load_state(below(state, f"strategy{n}"))
            values = state[f"totals{n}"].tolist()
            self.totals[name] = dict(zip(metric_names(), values, strict=True))
            if len(self.probe):
                self.before[name] = np.array(state[f"before{n}"])
                self.before_as_present[name] = np.array(state[f"before_as_present{n}"])

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
