"""Memory and speed over a long stream: they must not depend on how long it has been.

python benchmarks/online_soak.py [--events 10000000] [--items 2000] [--users 20000]
                                 [--hidden 256] [--threads 1] [--json]

Generated events, popularity drifting, go through an :class:`OnlineRecommender` as records would:
histories, summaries, priors, replay, one step of ``gated_mlp`` a window of 4,096, the snapshot that
is served. Every user id is new for a while and then never comes again, so that ten million events
bring a million users, of whom the newest ``--users`` are kept. Told of every tenth of the stream:
memory of the process, size of the stored state and of the transitions in it, the pairs of items
that these hold, and events a second, of processor and of wall time. To make the events is not
counted.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
from measure import report
from online_update import HIDDEN, Mean

PIECE = 65_536
LIVES = 10
"""Events of a user on average."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="inner units of the adapter")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS=str(options.threads))
    import torch

    torch.set_num_threads(options.threads)
    rows = soaked(options.events, options.items, options.users, hidden=options.hidden)
    notes = [
        f"{options.items:,} items, histories of the newest {options.users:,} users kept, windows of"
        f" 4,096 events, {options.hidden} inner units, torch threads {options.threads}."
    ]
    report("A long stream", rows, notes=notes, as_json=options.json)


def soaked(n: int, n_items: int, users: int, *, hidden: int = HIDDEN) -> list[dict[str, Any]]:
    """Plays the stream and returns a row for each tenth of it."""
    import psutil

    live = recommender(n_items, users, hidden=hidden)
    rng = np.random.default_rng(0)
    process = psutil.Process()
    rows: list[dict[str, Any]] = []
    done, marked, spent, waited = 0, 0, 0.0, 0.0
    while done < n:
        size = min(PIECE, n - done)
        events = records(rng, done, size, n_items)
        started, began = time.process_time(), time.perf_counter()
        live.update(events)
        spent += time.process_time() - started
        waited += time.perf_counter() - began
        done += size
        if done * 10 // n > marked or done == n:
            marked = done * 10 // n
            before = rows[-1]["events"] if rows else 0
            rows.append(
                {
                    "events": done,
                    "MB resident": round(process.memory_info().rss / 1e6),
                    **state_megabytes(live),
                    "users known": len(live._vocabulary),
                    "events/s of processor": round((done - before) / max(spent, 1e-9)),
                    "events/s": round((done - before) / max(waited, 1e-9)),
                }
            )
            spent = waited = 0.0
    return rows


def records(rng: np.random.Generator, start: int, n: int, n_items: int) -> list[Any]:
    """Returns events of users of whom each is there for a while, and of items in and out of
    fashion."""
    from dynmm_framework.online.intake import RawEvent

    place = np.arange(start, start + n)
    users = (place // LIVES - rng.exponential(500, n)).astype(np.int64).clip(0)
    fashion = rng.exponential(n_items / 10, n) + place / 5000
    items = (fashion % n_items).astype(np.int64)
    return [
        RawEvent(f"u{user}", f"i{item}", 1_000_000 + at // 3)
        for user, item, at in zip(users.tolist(), items.tolist(), place.tolist(), strict=True)
    ]


def recommender(n_items: int, users: int, *, hidden: int = HIDDEN) -> Any:
    """Returns a recommender with every part of the default stack, on a base that is nearly free."""
    from dynmm_framework.data.windows import Events
    from dynmm_framework.engine.context import RunContext, Surroundings
    from dynmm_framework.online.intake import Vocabulary
    from dynmm_framework.online.learner import Learner
    from dynmm_framework.online.memory import FrozenBase
    from dynmm_framework.online.recommender import OnlineRecommender
    from dynmm_framework.online.session import Session
    from dynmm_framework.online.strategies import Fusion
    from dynmm_framework.online.weights import Weights
    from dynmm_plugins.gated_mlp.config import GatedMLPConfig
    from dynmm_plugins.gated_mlp.model import GatedMLP

    config = GatedMLPConfig(
        window=4096, steps=1, history=50, hidden=hidden, known_users=users, probe_every=0
    )
    base = FrozenBase(Mean(n_items), np.full(n_items, 9, np.int64))
    learner = Learner(GatedMLP(config), base, config, RunContext(Surroundings(None)))  # type: ignore[arg-type]
    weights = Weights(
        popularity=config.popularity,
        transitions=config.transitions,
        long_term_popularity=config.popularity,
    )
    half_lives = (config.popularity_guard_half_life, config.lasting_half_life)
    fusion = Fusion(weights, learner, guarded=True, popularity_half_lives=half_lives)
    session = Session(base, config, {"adapter": fusion}, [learner], kept=100)
    session.begin(Events.none(), Events.none())
    return OnlineRecommender(session, Vocabulary([f"i{n}" for n in range(n_items)], []))


def state_megabytes(live: Any) -> dict[str, Any]:
    """Returns the size of everything that a checkpoint holds, and what of it are transitions."""
    state = {**live._session.get_state(), **live._vocabulary.get_state()}
    pairs = {name: array for name, array in state.items() if "transitions." in name}
    kept = [len(array) for name, array in pairs.items() if name.endswith(".values")]
    return {
        "MB of state": round(sum(array.nbytes for array in state.values()) / 1e6, 1),
        "of transitions": round(sum(array.nbytes for array in pairs.values()) / 1e6, 1),
        "pairs": " + ".join(f"{count:,}" for count in kept),
    }


if __name__ == "__main__":
    main()
