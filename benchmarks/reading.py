"""Reading and splitting MovieLens-1M in its official format: seconds and peak memory.

The official files are made from the development data (see measure.DATA); what it lacks in
ratings and times is filled in, which changes neither their number nor their size by much.

    python benchmarks/reading.py [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from measure import DATA, alternate, median, report, skip, worker


def write_official_files(folder: Path) -> int:
    """Writes ``ratings.dat``, ``movies.dat`` and ``users.dat``; returns the number of ratings."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(DATA / "ml-1m" / "ml1m_sequences.parquet")
    column = {name: table[name].to_numpy() for name in table.column_names}
    rating = np.where(column["rating_or_0"] > 0, column["rating_or_0"], 3)
    time = column["timestamp_or_0"]
    time = np.where(time > 0, time, 956_703_932 + column["position"].astype(np.int64))
    rows = zip(column["user_id"], column["movie_id"], rating, time, strict=True)
    lines = [f"{user}::{movie}::{int(value)}::{int(when)}\n" for user, movie, value, when in rows]
    (folder / "ratings.dat").write_text("".join(lines))
    for name in ("movies.dat", "users.dat"):
        shutil.copy(DATA / "ml-1m" / name, folder / name)
    return len(lines)


def measure(request: dict) -> dict:
    """Runs in a process of its own, so that its peak memory is that of this work alone."""
    import resource
    import time

    if request["reader"] == "pandas":
        started = time.perf_counter()
        import pandas as pd

        names = ["user", "item", "rating", "timestamp"]
        path = Path(request["folder"]) / "ratings.dat"
        frame = pd.read_csv(path, sep="::", engine="python", names=names)
        frame = frame.sort_values(["user", "timestamp"], kind="stable")
        back = frame.groupby("user").cumcount(ascending=False)
        parts = [frame[back == 0], frame[back == 1], frame[back > 1]]
        assert sum(map(len, parts)) == len(frame)
    else:
        from dynmm_framework.catalogue import load_catalogue
        from dynmm_framework.config.pipeline import Filters, LeaveOneOut
        from dynmm_framework.data.filters import apply_filters
        from dynmm_framework.data.splits import make_split
        from dynmm_framework.engine.context import bare_context

        started = time.perf_counter()
        catalogue = load_catalogue()
        component = catalogue.find("dataset", "movielens_1m")
        reader = catalogue.create(component, {"path": request["folder"]})
        dataset = apply_filters(reader.read(bare_context(catalogue)), Filters())
        split = make_split(dataset, LeaveOneOut(strategy="leave_one_out"), seed=0)
        assert len(split.train)
    return {
        "seconds": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (DATA / "ml-1m" / "ml1m_sequences.parquet").is_file():
        skip(f"{DATA / 'ml-1m'} is not here; set DYNMM_DATA")
    with tempfile.TemporaryDirectory() as folder:
        n_ratings = write_official_files(Path(folder))

        def run(reader: str) -> dict:
            request = {"reader": reader, "folder": folder}
            return worker(sys.executable, "reading.py", request, threads=1)

        readers = ["dynmm"]
        try:
            import pandas  # noqa: F401

            readers.append("pandas")
        except ImportError:
            print("pandas is not installed: no comparison with it", file=sys.stderr)
        measured = alternate({name: partial(run, name) for name in readers}, options.repeats)
    rows = [
        {
            "reader": name,
            "median, s": median([times[name]["seconds"] for times in measured]),
            "peak memory of the process, MB": median(
                [times[name]["peak_mb"] for times in measured]
            ),
            "median ratio of time to dynmm": median(
                [times[name]["seconds"] / times["dynmm"]["seconds"] for times in measured]
            ),
        }
        for name in readers
    ]
    notes = [
        f"{n_ratings:,} ratings; processes each: {options.repeats}, in turn; read, filtered and "
        "split leave-one-out. dynmm checks every row and reads movies.dat and users.dat too; "
        "pandas reads ratings.dat by its own engine for '::'. Wanted: under 5 s and 1 GB."
    ]
    report("Reading and splitting MovieLens-1M", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
