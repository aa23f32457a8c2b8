"""One update of an online adapter, and the summaries of a window, against their floors.

python benchmarks/online_update.py [--items 2000] [--events 1024] [--repeats 7]
                                   [--threads 1] [--json]

An update is one step of ``gated_mlp`` on ``--events`` new and as many replayed events: corrections
of users and items, masked cross-entropy over the catalogue, divergence, AdamW, moving average,
elastic weight consolidation. Its floor is a plain forward and backward pass of matrices of the same
shapes, the cross-entropy included, and plain AdamW, measured in turn. Times are of the processor,
all threads together, so that other work on the machine hardly shows. The summaries are those of
one window of a million events with 50,000 items.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
from measure import alternate, median, report

DIM, HIDDEN, ACTIVE = 64, 256, 1000
STREAM, WINDOW = 40_960, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--events", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS=str(options.threads))
    import torch

    torch.set_num_threads(options.threads)
    step, floor = adapter(options.items, options.events), plain(options.items, options.events)
    step(), floor()  # warm up
    measured = alternate({"floor": floor, "step": step}, options.repeats)
    million = [summaries() for _ in range(min(options.repeats, 3))]
    times = min(options.repeats, 3)
    streams = alternate(
        {
            "bare": lambda: stream(options.items),
            "guarded": lambda: stream(options.items, guard=True, drift=True),
        },
        times,
    )
    rows: list[dict[str, Any]] = [
        {
            "work": "plain forward and backward, AdamW",
            "ms": median([m["floor"] for m in measured]),
            "× floor": 1.0,
            "events/s": "",
        },
        {
            "work": "update",
            "ms": median([m["step"] for m in measured]),
            "× floor": median([m["step"] / m["floor"] for m in measured]),
            "events/s": 1000 * options.events / median([m["step"] for m in measured]),
        },
        *(
            {
                "work": f"{STREAM:,} events end to end, {words}",
                "ms": median([measured[name] for measured in streams]),
                "× floor": "",
                "events/s": 1000 * STREAM / median([measured[name] for measured in streams]),
            }
            for name, words in (
                ("bare", "predicted and learned"),
                ("guarded", "with guard and drift watch besides"),
            )
        ),
        {
            "work": "summaries of 1M events over 50k items",
            "ms": median(million),
            "× floor": "",
            "events/s": "",
        },
    ]
    notes = [
        f"{options.events:,} new and {options.events:,} replayed events, {options.items:,} items,"
        f" {ACTIVE:,} of them active, latents {DIM} wide, {HIDDEN} inner units, torch threads"
        f" {options.threads}."
    ]
    report("One online update", rows, notes=notes, as_json=options.json)


def adapter(n_items: int, n: int) -> Any:
    """Returns a function that takes one step and returns its milliseconds."""
    from dynmm_framework.data.tables import Histories
    from dynmm_framework.engine.context import RunContext, Surroundings
    from dynmm_framework.online.lesson import Lesson, People, Summary
    from dynmm_framework.online.summaries import NAMES
    from dynmm_plugins.gated_mlp.config import GatedMLPConfig
    from dynmm_plugins.gated_mlp.model import GatedMLP

    rng = np.random.default_rng(0)
    config = GatedMLPConfig(hidden=HIDDEN, consolidation_weight=1.0)
    made = GatedMLP(config)
    vectors = rng.normal(0, 0.1, (n_items, DIM)).astype(np.float32)
    made.begin(vectors, RunContext(Surroundings(None)))  # type: ignore[arg-type]

    def lesson() -> Lesson:
        active = np.sort(rng.choice(n_items, ACTIVE, replace=False)).astype(np.int32)
        features = rng.normal(size=(ACTIVE, len(NAMES) + DIM)).astype(np.float32)
        known = Histories(
            np.arange(n + 1) * 20, rng.integers(0, n_items, 20 * n, np.int32), n_items
        )
        people = People(
            rng.normal(0, 0.1, (n, DIM)).astype(np.float32),
            rng.normal(size=(n, 1 + DIM)).astype(np.float32),
            np.ones(n, np.bool_),
            known,
        )
        summary = Summary(active, features, np.ones(ACTIVE, np.bool_))
        return Lesson(summary, people, rng.integers(0, n_items, n, np.int32))

    new, old = lesson(), lesson()

    def step() -> float:
        started = time.process_time()
        made.step(new, [old])
        return 1000 * (time.process_time() - started)

    return step


def plain(n_items: int, n: int) -> Any:
    """Returns a function that passes the same shapes forward and backward."""
    import torch
    from torch import nn

    from dynmm_framework.online.summaries import NAMES

    item, user = 2 * DIM + len(NAMES), 2 * DIM + 1
    items = nn.Sequential(nn.Linear(item, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
    users = nn.Sequential(nn.Linear(user, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
    optimizer = torch.optim.AdamW([*items.parameters(), *users.parameters()], foreach=True)
    rows = [torch.randn(ACTIVE, item) for _ in range(2)]
    people = [torch.randn(n, user) for _ in range(2)]
    rest = torch.randn(n_items - ACTIVE, DIM)
    targets = torch.randint(0, n_items, (n,))

    def step() -> float:
        started = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros(())
        for active, asked in zip(rows, people, strict=True):
            table = torch.cat([items(active), rest])
            loss = loss + nn.functional.cross_entropy(users(asked) @ table.T, targets)
        loss.backward()
        optimizer.step()
        return 1000 * (time.process_time() - started)

    return step


class Mean:
    """A base that is nearly free: users are the mean of their newest items."""

    def __init__(self, n_items: int) -> None:
        rng = np.random.default_rng(0)
        self.vectors = rng.normal(0, 0.1, (n_items, DIM)).astype(np.float32)

    def item_vectors(self) -> Any:
        return self.vectors

    def user_vectors(self, histories: Any) -> Any:
        from dynmm_framework.online.lesson import profiles_of

        return profiles_of(histories, self.vectors)[:, 1:].copy()


def stream(n_items: int, *, guard: bool = False, drift: bool = False) -> float:
    """Returns the milliseconds to predict and learn a stream in windows of 4,096 events.

    One step a window, on 1,024 of its events and as many replayed ones; histories of 50 items. The
    whole catalogue is ranked for every event.
    """
    from dynmm_framework.data.windows import Events
    from dynmm_framework.engine.context import RunContext, Surroundings
    from dynmm_framework.online.learner import Learner
    from dynmm_framework.online.memory import FrozenBase
    from dynmm_framework.online.session import Session
    from dynmm_framework.online.strategies import Fusion
    from dynmm_framework.online.weights import Weights
    from dynmm_plugins.gated_mlp.config import GatedMLPConfig
    from dynmm_plugins.gated_mlp.model import GatedMLP

    config = GatedMLPConfig(
        window=WINDOW, steps=1, guard=guard, drift=drift, history=50, hidden=HIDDEN
    )
    base = FrozenBase(Mean(n_items), np.full(n_items, 9, np.int64))
    learner = Learner(GatedMLP(config), base, config, RunContext(Surroundings(None)))  # type: ignore[arg-type]
    weights = Weights(
        popularity=config.popularity,
        transitions=config.transitions,
        long_term_popularity=config.popularity,
    )
    half_lives = (config.popularity_guard_half_life, config.lasting_half_life) if guard else None
    fusion = Fusion(weights, learner, guarded=guard, popularity_half_lives=half_lives)
    session = Session(base, config, {"adapter": fusion}, [learner], kept=10)
    rng = np.random.default_rng(0)
    n = STREAM
    items = np.minimum(rng.exponential(n_items / 8, n), n_items - 1)
    events = Events.of(rng.integers(0, 5000, n), items, np.arange(n))
    started = time.process_time()
    for _ in session.push(events):
        pass
    return 1000 * (time.process_time() - started)


def summaries() -> float:
    """Returns the milliseconds to take one window of a million events and to summarise it."""
    from dynmm_framework.data.windows import Events, Window
    from dynmm_framework.online.summaries import ItemSummaries

    rng = np.random.default_rng(0)
    n, n_items = 1_000_000, 50_000
    items = np.minimum(rng.exponential(n_items / 8, n), n_items - 1)
    events = Events.of(rng.integers(0, 100_000, n), items, np.arange(n))
    state = ItemSummaries(
        rng.normal(size=(n_items, DIM)).astype(np.float32), np.full(n_items, 9, np.int64)
    )
    started = time.process_time()
    state.advance(Window(1, events))
    state.summary()
    return 1000 * (time.process_time() - started)


if __name__ == "__main__":
    main()
