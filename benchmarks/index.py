"""An index over a million generated items: bytes, recall and the time of a query.

python benchmarks/index.py [--items 1000000] [--dim 256] [--queries 200] [--json]

Items lie around 2,000 centres, all vectors have length 1, and each query is an item with noise, so
that the ten best are of one cluster, as they are in a catalogue. Recall is of the ten best of the
exact search, before and after the 50 best are scored again by the exact vectors. Resident memory is
what a process of its own grows by as it reads the index, the exact vectors left aside.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from measure import report

from dynmm_framework.latents.index import INDEX_FILE, ItemIndex

CENTRES, K, ROWS = 2000, 10, 65_536
TRAINING = 20_000
KINDS: tuple[dict[str, Any], ...] = (
    {"compression": "none"},
    {"compression": "sq8"},
    {"compression": "ivfpq", "ratio": 16},
    {"compression": "pq", "ratio": 16},
    {"compression": "ivfpq", "ratio": 16, "kind": "ivf"},
)
READ = """
import os, sys, faiss
def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
before = resident()
index = faiss.read_index(sys.argv[1])
print(resident() - before)
"""


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def generated(items: int, dim: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns item vectors ``(items, dim)`` and queries ``(queries, dim)``, float32, length 1."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CENTRES, dim)).astype(np.float32)
    vectors = np.empty((items, dim), np.float32)
    for start in range(0, items, ROWS):
        part = vectors[start : start + ROWS]
        noise = rng.standard_normal(part.shape, dtype=np.float32)
        part[:] = unit(centres[rng.integers(CENTRES, size=len(part))] + noise)
    chosen = vectors[rng.choice(items, queries, replace=False)]
    noise = rng.standard_normal(chosen.shape, dtype=np.float32) / np.sqrt(dim) / 2
    return vectors, unit(chosen + noise)


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    """Share of the wanted items that were found, both ``(queries, k)``."""
    return float(
        np.mean([len(np.intersect1d(*pair)) / K for pair in zip(found, wanted, strict=True)])
    )


def measured(
    settings: dict[str, Any], vectors: np.ndarray, queries: np.ndarray, wanted: np.ndarray | None
) -> tuple[dict[str, Any], np.ndarray]:
    start = time.process_time()
    index = ItemIndex.build(vectors, training_rows=TRAINING, **settings)
    building = time.process_time() - start
    start = time.process_time()
    found, _ = index.search(queries, K, rerank=0)
    searching = time.process_time() - start
    wanted = found if wanted is None else wanted
    again, _ = index.search(queries, K)
    with tempfile.TemporaryDirectory() as folder:
        index.exact = None
        index.save(Path(folder) / "index")
        size = (Path(folder) / "index" / INDEX_FILE).stat().st_size
        command = [sys.executable, "-c", READ, str(Path(folder) / "index" / INDEX_FILE)]
        resident = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    row = {
        "index": f"{settings['compression']}{', lists' if 'kind' in settings else ''}",
        "asked": f"{settings.get('ratio', {'none': 1, 'sq8': 4}.get(settings['compression']))}x",
        "MB written": round(size / 1e6, 1),
        "MB resident": round(resident / 1e6, 1),
        f"recall@{K}": round(recall(found, wanted), 3),
        "re-ranked": round(recall(again, wanted), 3),
        "built, s": round(building, 1),
        "ms a query": round(1000 * searching / len(queries), 2),
    }
    return row, wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    vectors, queries = generated(options.items, options.dim, options.queries)
    rows, wanted = [], None
    for settings in KINDS:
        row, wanted = measured(settings, vectors, queries, wanted)
        rows.append(row)
        print(row["index"], row["asked"], file=sys.stderr)
    notes = [
        f"{options.items:,} items x {options.dim}, {options.queries:,} queries at once, trained on "
        f"{TRAINING:,} vectors, one thread, processor time. With `lists` an eighth of the inverted "
        "lists is visited, else all.",
    ]
    report("An index over generated items", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
