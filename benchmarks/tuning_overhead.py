"""A search of trials that take a second each, against the time that they need at least.

python benchmarks/tuning_overhead.py [--trials 16] [--workers 2] [--seconds 1] [--repeats 3]
                                     [--engine ray] [--json]

A trial sleeps for ``--seconds`` where it would train, so that the processor's speed hardly shows;
everything else is as ever: the plan, the store, validation users, the sampler, the records. Ideal
are trials × seconds / workers. Starting Ray and its workers, which takes the same however long a
search is, is told beside it and not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from measure import median, report

SLEEPER = '''
"""A recommender that sleeps."""

import time

import numpy as np

from dynmm_framework.config.blocks import Block
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


class SleeperConfig(Block):
    seconds: float = 1.0
    quality: float = 0.5


class Sleeper:
    def __init__(self, config):
        self.config = config
        self.scores = np.zeros(0, np.float32)

    def fit(self, data, ctx):
        time.sleep(self.config.seconds)
        self.scores = data.train.item_counts().astype(np.float32) * self.config.quality

    def score(self, histories, candidates=None):
        if candidates is not None:
            return self.scores[candidates]
        return np.repeat(self.scores[None, :], len(histories), axis=0)

    def get_state(self):
        return {"scores": self.scores}

    def load_state(self, state):
        self.scores = state["scores"]


@hookimpl
def dynmm_register_baselines():
    return [
        ComponentSpec(
            name="sleeper",
            target="dynmm_sleeper:Sleeper",
            config="dynmm_sleeper:SleeperConfig",
            summary="Sleeps",
        )
    ]
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=("ray", "local"), default="ray")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.engine == "local":
        options.workers = 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder / "site")
        found = [measured(folder / str(n), options, seed=n) for n in range(options.repeats)]
    ideal = options.trials * options.seconds / options.workers
    seconds, startup = (median([pair[i] for pair in found]) for i in (0, 1))
    rows = [
        {
            "search": f"{options.trials} trials of {options.seconds:g} s",
            "workers": f"{options.workers} ({options.engine})",
            "ideal, s": ideal,
            "search, s": seconds,
            "× ideal": seconds / ideal,
            "starting Ray, s": startup,
        }
    ]
    note = "Median of {} searches; starting Ray and its workers is not counted in × ideal."
    notes = [note.format(options.repeats)]
    report("A search against its ideal time", rows, notes=notes, as_json=options.json)


def install(site: Path) -> None:
    """Makes the sleeper known to this process and to workers that it starts."""
    info = site / "dynmm_sleeper-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "dynmm_sleeper.py").write_text(SLEEPER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dynmm-sleeper\nVersion: 1.0\n")
    entry = "[dynmm_framework.plugins]\nsleeper = dynmm_sleeper\n"
    (info / "entry_points.txt").write_text(entry)
    sys.path.insert(0, str(site))
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site), *([known] if known else [])])


def measured(folder: Path, options: argparse.Namespace, *, seed: int) -> tuple[float, float]:
    """Returns the seconds of a search, and those that Ray took to start."""
    from dynmm_framework import load_pipeline, tune
    from dynmm_framework.testing import generate_dataset

    generate_dataset(folder / "media", n_users=60, n_items=40).save(folder / "data")
    pipeline = {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(folder / "data")}},
        "split": {"strategy": "leave_one_out"},
        "baseline": {"name": "sleeper", "config": {"seconds": options.seconds}},
        "compute": {"device": "cpu", "threads": 1},
        "search": {
            "engine": options.engine,
            "trials": options.trials,
            "concurrency": options.workers,
            "seed": seed,
            "space": {"baseline.config.quality": {"float": {"low": 0.0, "high": 1.0}}},
        },
    }
    found = tune(load_pipeline(pipeline), runs_dir=folder / "runs", test=False)
    assert found.manifest.trials == {"finished": options.trials}
    return found.manifest.seconds, found.manifest.startup_seconds


if __name__ == "__main__":
    main()
