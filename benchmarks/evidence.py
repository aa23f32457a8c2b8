"""Evidence for a user and 20 candidates, by every installed extractor; and a million items.

python benchmarks/evidence.py [--run RUN] [--users 500] [--items 1000000] [--json]

Without ``--run``, BPR-MF is trained on MovieLens-100K with TF-IDF of titles and genres, and each
installed extractor on it with its default settings; what cannot learn from these data is named and
left out. A run of one's own is measured as it is. Users are asked one by one and 64 at a time, each
with the 20 items that are recommended first; finding and wording are measured together. Times are
of the processor, one thread, the least of ten calls for each user, so that other work on the
machine hardly shows.

With ``--items`` (0 for none) the neighbours of so many generated items are looked up: vectors of 64
dimensions around 2,000 centres, 20 neighbours kept of each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from measure import median, report

CANDIDATES, TOGETHER, DIM, CENTRES = 20, 64, 64, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from dynmm_framework.engine.results import Run

    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.run:
            finished = Run.load(options.run)
            source = finished.evidence()
        else:
            finished, source = trained(Path(folder), notes)
        if source is None:
            raise SystemExit(f"{options.run} has no evidence")
        rows = lookups(finished, source, options.users)
    report("Evidence for a user and 20 candidates", rows, notes=notes, as_json=options.json)
    if options.items:
        report("Neighbours of many items", million(options.items), as_json=options.json)


def trained(folder: Path, notes: list[str]) -> tuple[Any, Any]:
    """Trains what recommends, and every installed extractor on it."""
    from dynmm_framework import load_pipeline
    from dynmm_framework.catalogue import load_catalogue
    from dynmm_framework.engine.run import run
    from dynmm_framework.errors import DynmmError
    from dynmm_framework.explain.source import EvidenceSource

    catalogue, extractors, finished = load_catalogue(), {}, None
    for component in catalogue.components("evidence"):
        pipeline = {
            "version": 1,
            "data": {"name": "movielens_100k"},
            "split": {"strategy": "temporal_user", "ratios": [0.8, 0.1, 0.1]},
            "backbone": {"name": "bpr_mf", "config": {"epochs": 10}},
            "encoders": {"text": {"name": "tfidf_text", "fields": ["title", "categories"]}},
            "evidence": [component.name],
            "evaluate": {"at": [10]},
            "compute": {"device": "cpu", "threads": 1},
        }
        try:
            done = run(load_pipeline(pipeline, catalogue=catalogue), runs_dir=folder)
        except DynmmError as error:
            notes.append(f"{component.name} is left out: {error.message}.")
            continue
        source = done.evidence()
        assert source is not None
        extractors |= source.extractors
        finished = done
    return finished, EvidenceSource(extractors)


def lookups(finished: Any, source: Any, n: int) -> list[dict[str, Any]]:
    """Measures each extractor, and all together, one user at a time and many at once."""
    from dynmm_framework.explain.source import EvidenceSource

    histories = finished.dataset.interactions.histories()
    chosen = np.random.default_rng(0).choice(len(histories), min(n, len(histories)), replace=False)
    histories = histories.take(np.sort(chosen))
    source_of = {name: EvidenceSource({name: one}) for name, one in source.extractors.items()}
    asked = best(finished, histories)
    rows = []
    for name, some in {**source_of, "all": source}.items():
        some.find(histories.take(slice(0, 8)), asked[:8])  # warm up
        one = [
            milliseconds(lambda i=i, s=some: worded(s, histories.take(slice(i, i + 1)), asked[[i]]))
            for i in range(len(histories))
        ]
        many = [
            milliseconds(
                lambda i=i, s=some: worded(
                    s, histories.take(slice(i, i + TOGETHER)), asked[i : i + TOGETHER]
                )
            )
            / TOGETHER
            for i in range(0, len(histories) - TOGETHER + 1, TOGETHER)
        ]
        found = len(some.find(histories, asked)) / len(histories)
        rows.append(
            {
                "extractor": name,
                "ms a user": median(one),
                "95 % are below": float(np.quantile(one, 0.95)),
                f"ms a user, {TOGETHER} together": median(many),
                "records a user": found,
            }
        )
    return rows


def best(finished: Any, histories: Any) -> Any:
    """Returns the items that the run recommends first, ``(n, 20)``."""
    scores = np.array(np.asarray(finished.recommender().score(histories)))
    scores[histories.rows, histories.items] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :CANDIDATES].astype(np.int32)


def worded(source: Any, histories: Any, candidates: Any) -> None:
    """Finds evidence and says what it is."""
    source.facts(source.find(histories, candidates))


def milliseconds(work: Callable[[], object]) -> float:
    """Returns the processor's time of a call, the least of ten."""
    found = []
    for _ in range(10):
        started = time.process_time()
        work()
        found.append(1000 * (time.process_time() - started))
    return min(found)


def million(n: int) -> list[dict[str, Any]]:
    """Looks up the neighbours of many items, and says what that takes."""
    import pyarrow as pa

    from dynmm_framework.catalogue import load_catalogue
    from dynmm_framework.data.tables import Histories, Interactions, TrainingData
    from dynmm_framework.engine.context import RunContext, Surroundings
    from dynmm_framework.evaluation.efficiency import PeakMemory

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CENTRES, DIM)).astype(np.float32)
    vectors = centres[rng.integers(0, CENTRES, n)]
    for start in range(0, n, 65_536):
        part = vectors[start : start + 65_536]
        part += 0.5 * rng.normal(size=part.shape).astype(np.float32)

    class Base:
        def item_vectors(self) -> Any:
            return vectors

        def user_vectors(self, histories: Histories) -> Any:
            return centres[histories.items[histories.offsets[:-1]] % CENTRES]

    # Each user has 50 items of one centre or another; every item is somebody's.
    n_users = n // 50
    items = rng.permutation(n_users * 50).astype(np.int32)
    users = np.repeat(np.arange(n_users, dtype=np.int32), 50)
    titles = [f"Item {number:,}" for number in range(n)]
    table = pa.table({"id": titles, "title": titles})
    data = TrainingData(Interactions(users, items, n_users, n), table)
    catalogue = load_catalogue()
    extractor = catalogue.create(catalogue.find("evidence", "cf_neighbours"), {})
    ctx = RunContext(Surroundings(catalogue), "benchmark")
    started = time.process_time()
    with PeakMemory("cpu") as peak:
        extractor.fit(data, Base(), ctx)
    seconds = time.process_time() - started
    state, units = extractor.get_state(), extractor._units
    met = []
    for item in rng.choice(n, 200, replace=False):
        cosines = units @ units[item]
        cosines[item] = -1
        near = np.argpartition(-cosines, 10)[:10]
        met.append(np.isin(near, state["nearest"][item]).mean())
    histories = data.histories.take(slice(0, 500))
    asked = rng.integers(0, n, (500, CANDIDATES)).astype(np.int32)
    one = [
        milliseconds(lambda i=i: extractor.extract(histories.take(slice(i, i + 1)), asked[[i]]))
        for i in range(500)
    ]
    return [
        {
            "extractor": f"cf_neighbours, {n:,} items",
            "ms a user": median(one),
            "95 % are below": float(np.quantile(one, 0.95)),
            "learning, s": seconds,
            "peak RSS of learning, MB": peak.rss_bytes / 1e6,
            "dictionary, MB": (state["nearest"].nbytes + state["cosines"].nbytes) / 1e6,
            "vectors, MB": units.nbytes / 1e6,
            "of the 10 nearest kept": float(np.mean(met)),
        }
    ]


if __name__ == "__main__":
    main()
