"""How fast a stream's strategies adapt when everything changes at a known event.

python benchmarks/online_drift.py [--seeds 3] [--windows 40] [--json]

Generated events of users who choose among eight kinds of items. For the first half of the stream a
user's next item is of the kind of the last one, which the frozen base knows; from the change on it
is of the kind after it, which nobody has seen before. Told by strategy: NDCG@10 of the five windows
before the change, of the first one after it and of the last ten; windows after the change until
half of what is regained in the end is regained; and in which window ADWIN gave its alarm. Means
are over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from measure import report

KINDS, ITEMS, DIM = 8, 240, 16
WINDOW, USERS = 200, 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    tables = [measured(options.windows, seed) for seed in range(options.seeds)]
    rows = []
    for name, whats in tables[0].items():
        means = {what: mean([table[name][what] for table in tables]) for what in whats}
        rows.append({"strategy": name, **means})
    notes = [
        f"{options.windows} windows of {WINDOW} events, the change after half of them; means of"
        f" {options.seeds} seeds. Without an alarm or without regaining anything: nothing."
    ]
    report("A planted drift", rows, notes=notes, as_json=options.json)


def mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return round(float(np.mean(there)), 3) if there else None


def measured(windows: int, seed: int) -> dict[str, dict[str, float | None]]:
    """Plays the stream to strategies, and to an adapter that learns faster after an alarm."""
    names = ("adapter", "static", "popularity_transitions", "adapter_static_prior", "frozen_early")
    session = played(windows, seed, names)
    found = {name: told(session, name, windows // 2) for name in names}
    boosted = played(windows, seed, ("adapter_static_prior",), drift_boost=3.0)
    name = "adapter_static_prior"
    found[f"{name}, three times as fast after an alarm"] = told(boosted, name, windows // 2)
    return found


def told(session: Any, name: str, change: int) -> dict[str, float | None]:
    """Returns the figures of one strategy."""
    values = np.asarray([report.metrics[name]["ndcg@10"] for report in session.reports])
    first, final = values[change], values[-10:].mean()
    half = np.flatnonzero(values[change:] >= (first + final) / 2)
    alarms = [r.window - change for r in session.reports if r.drift and r.window > change]
    watched = name == next(iter(session.strategies))
    return {
        "before": float(values[change - 5 : change].mean()),
        "first after": float(first),
        "last ten": float(final),
        "windows to half": float(half[0]) if final > first and len(half) else None,
        "alarm after": float(alarms[0]) if watched and alarms else None,
    }


def played(windows: int, seed: int, names: tuple[str, ...], **changed: Any) -> Any:
    """Returns a session that has met the stream."""
    from dynmm_framework.engine.context import RunContext, Surroundings
    from dynmm_framework.engine.streaming import StreamParts, make_session
    from dynmm_plugins.gated_mlp.config import GatedMLPConfig
    from dynmm_plugins.gated_mlp.model import GatedMLP

    offline, stream = generated(windows, seed)
    config = GatedMLPConfig(window=WINDOW, probe=0, **changed)
    parts = StreamParts(
        model=Kinds(seed),
        split=Offline(offline),  # type: ignore[arg-type]
        config=config,
        adapter=lambda own: GatedMLP(own),  # type: ignore[arg-type]
        context=RunContext(Surroundings(None), seed=seed),  # type: ignore[arg-type]
    )
    session = make_session(parts, names)
    cut = len(offline) - 5 * WINDOW
    session.begin(offline.take(slice(0, cut)), offline.take(slice(cut, None)))
    for _ in session.push(stream):
        pass
    return session


def generated(windows: int, seed: int) -> tuple[Any, Any]:
    """Returns events before the stream, and the stream, which changes in its middle."""
    from dynmm_framework.data.windows import Events

    rng = np.random.default_rng(seed)
    before, n = 20 * WINDOW, (20 + windows) * WINDOW
    change = before + windows // 2 * WINDOW
    last = rng.integers(0, KINDS, USERS)
    users, items = rng.integers(0, USERS, n), np.empty(n, np.int64)
    for place, user in enumerate(users.tolist()):
        kind = last[user] + (place >= change)
        if rng.random() < 0.1:
            kind = rng.integers(KINDS)
        last[user] = kind % KINDS
        items[place] = last[user] + KINDS * rng.integers(ITEMS // KINDS)
    # Users begin anew every so often, or they would soon have seen all of their kind.
    names = users + USERS * (np.arange(n) // (20 * WINDOW // 4))
    events = Events.of(names, items, np.arange(n))
    return events.take(slice(0, before)), events.take(slice(before, None))


class Kinds:
    """A base that knows kinds: an item is its kind and a little of its own, a user the newest."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        kinds = rng.normal(size=(KINDS, DIM))
        own = rng.normal(size=(ITEMS, DIM))
        self.vectors = (kinds[np.arange(ITEMS) % KINDS] + 0.2 * own).astype(np.float32)

    def item_vectors(self) -> Any:
        return self.vectors

    def user_vectors(self, histories: Any) -> Any:
        from dynmm_framework.online.lesson import profiles_of

        return profiles_of(histories, self.vectors, last=2)[:, 1:].copy()


class Offline:
    """What a session asks of a split: how often each item was trained on."""

    def __init__(self, events: Any) -> None:
        self.n_items, self.train = ITEMS, self
        self._counts: Mapping[str, Any] = {"n": np.bincount(events.items, minlength=ITEMS)}

    def item_counts(self) -> Any:
        return self._counts["n"]


if __name__ == "__main__":
    main()
