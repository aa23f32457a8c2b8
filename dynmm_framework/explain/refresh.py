"""Evidence that keeps up with events: extractors are refreshed by window or by age."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.config.evidence import RefreshBlock
from dynmm_framework.config.windows import WindowRule
from dynmm_framework.data.tables import Interactions
from dynmm_framework.data.windows import Events, Windower
from dynmm_framework.errors import PluginError
from dynmm_framework.explain.source import EvidenceSource
from dynmm_framework.protocols import Retriever, State


@dataclass
class _Waiting:
    """Events that one extractor does not know yet."""

    refresh: Callable[[Interactions], None]
    rule: RefreshBlock
    newest: int
    events: Events
    windows: int = 0

    def take(self, events: Events) -> None:
        """Takes the events of a window that was closed."""
        self.events = Events.joined([self.events, events])
        self.windows += 1

    @property
    def is_due(self) -> bool:
        if self.rule.windows is not None:
            return self.windows >= self.rule.windows
        seconds = WindowRule.parse(self.rule.age or "").seconds
        newest = int(self.events.times.max(initial=self.newest))
        return newest - self.newest >= seconds

    def get_state(self) -> State:
        events = self.events
        numbers = np.asarray([self.newest, self.windows], np.int64)
        return {
            "numbers": numbers,
            "users": events.users,
            "items": events.items,
            "times": events.times,
        }

    def load_state(self, state: State) -> None:
        self.newest, self.windows = map(int, state["numbers"])
        self.events = Events.of(state["users"], state["items"], state["times"])


class FreshEvidence:
    """Brings the extractors of a source up to date as events come in.

    Events are cut into windows as a stream's are, and an extractor knows nothing of a window
    before it is closed: what it then tells of an event never helps to predict that event. Between
    two refreshes its dictionary stays as it is. Vectors and titles are not refreshed: what
    recommends stays frozen.

    Example::

        fresh = fresh_evidence(run)  # of dynmm_framework.engine.evidence
        fresh.push(Events.of(users, items, times))
        fresh.source.find(histories, candidates)

    Args:
        source: The extractors.
        rules: When each is refreshed, by name; the others stay as they are.
        window: How long a window is.
        n_users: Number of users in training; new ones have higher numbers.
        n_items: Number of items; events with others are left out.
        newest: Unix seconds of the newest event that the extractors know.

    Raises:
        PluginError: If an extractor that is to be refreshed has no method for it.
    """

    def __init__(
        self,
        source: EvidenceSource,
        rules: Mapping[str, RefreshBlock],
        *,
        window: WindowRule,
        n_users: int,
        n_items: int,
        newest: int,
    ) -> None:
        self.source = source
        self.refreshed = 0
        self._windower = Windower(window)
        self._n_users, self._n_items = n_users, n_items
        self._waiting: dict[str, _Waiting] = {}
        for name, rule in rules.items():
            refresh = refresher(name, source.extractors[name])
            self._waiting[name] = _Waiting(refresh, rule, newest, Events.none())

    def push(self, events: Events) -> list[str]:
        """Takes events; any pieces of a stream give the same refreshes.

        Returns:
            The names of the extractors that were refreshed, once for each time.
        """
        return [name for found in self._windower.push(events) for name in self.learn(found.events)]

    def flush(self) -> list[str]:
        """Closes the open window, if it holds anything; returns as :meth:`push`."""
        return [name for found in self._windower.flush() for name in self.learn(found.events)]

    def learn(self, events: Events) -> list[str]:
        """Takes a window that a stream has closed, in place of :meth:`push`; returns as it."""
        done: list[str] = []
        known = events.take(events.items < self._n_items)
        for name, waiting in self._waiting.items():
            waiting.take(known)
            if waiting.is_due:
                self._refresh(waiting)
                done.append(name)
        return done

    def get_state(self) -> State:
        """Returns what came after training: what was refreshed by it, and what waits."""
        parts = {"windower": self._windower.get_state()}
        for name, waiting in self._waiting.items():
            parts[f"waiting.{name}"] = waiting.get_state()
            parts[f"extractor.{name}"] = self.source.extractors[name].get_state()
        numbers = np.asarray([self.refreshed, self._n_users], np.int64)
        named = {f"{part}.{key}": array for part in parts for key, array in parts[part].items()}
        return {"numbers": numbers, **named}

    def load_state(self, state: Mapping[str, NDArray[Any]], *, base: Retriever) -> None:
        """Restores what :meth:`get_state` returned.

        Args:
            state: The state.
            base: What the extractors stand on.
        """

        def part(name: str) -> dict[str, NDArray[Any]]:
            prefix = f"{name}."
            return {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}

        self.refreshed, self._n_users = map(int, state["numbers"])
        self._windower.load_state(part("windower"))
        for name, waiting in self._waiting.items():
            waiting.load_state(part(f"waiting.{name}"))
            self.source.extractors[name].load_state(part(f"extractor.{name}"))
            self.source.extractors[name].attach(base)

    def _refresh(self, waiting: _Waiting) -> None:
        events = waiting.events
        self._n_users = max(self._n_users, int(events.users.max(initial=-1)) + 1)
        waiting.refresh(
            Interactions(
                users=events.users,
                items=events.items,
                n_users=self._n_users,
                n_items=self._n_items,
                timestamps=events.times,
            )
        )
        waiting.newest = int(events.times.max(initial=waiting.newest))
        waiting.events, waiting.windows = Events.none(), 0
        self.refreshed += 1


def refresher(name: str, extractor: object) -> Callable[[Interactions], None]:
    """Returns the method of an extractor that takes new interactions.

    Raises:
        PluginError: If it has none.
    """
    method: Callable[[Interactions], None] | None = getattr(extractor, "refresh", None)
    if method is None:
        raise PluginError(
            f"the extractor {name} cannot be brought up to date: it has no method refresh",
            hint="Leave refresh out of its block.",
        )
    return method
