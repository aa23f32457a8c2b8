r"""Training and full ranking side by side with RecBole 1.2.1: the same data, split and sizes.

RecBole needs an environment of its own. None of its code is part of this project; make one by

    python3.11 -m venv /tmp/recbole
    /tmp/recbole/bin/pip install torch==2.13.0 numpy==1.26.4 scipy==1.12.0 pandas==2.1.4 \
        'scikit-learn<1.6' tqdm colorlog==4.7.2 colorama==0.4.4 pyyaml tensorboard thop tabulate \
        plotly texttable psutil 'setuptools<80'
    /tmp/recbole/bin/pip install --no-deps recbole==1.2.1
    python benchmarks/recbole_peer.py --peer-python /tmp/recbole/bin/python

Every measurement is a process with one thread; ours and theirs alternate, and ratios are medians
over the repetitions. RecBole's SASRec trains one padded sequence for each target: its throughput
is measured on a few batches of an epoch, its other figures on whole passes.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import alternate, median, read, report, skip, worker

DATA_SETS = ("ml-100k", "amazon-beauty")
SASREC = {"hidden_size": 64, "n_layers": 2, "n_heads": 1, "inner_size": 256}
PEERS: dict[str, dict[str, Any]] = {
    "SASRec": {
        "settings": {
            **SASREC,
            "MAX_ITEM_LIST_LENGTH": 50,
            "loss_type": "CE",
            "train_neg_sample_args": None,
        },
        "batches": 3,
    },
    "LightGCN": {
        "settings": {"embedding_size": 64, "n_layers": 3, "reg_weight": 1e-4},
        "batches": 0,
    },
}
"""What RecBole runs; ``batches`` 0 is a whole epoch."""

OURS_SASREC = {
    "hidden_size": 64,
    "layers": 2,
    "heads": 1,
    "feed_forward_size": 256,
    "max_length": 50,
    "windows": "all",
    "batch_size": 128,
    "epochs": 3,
}
OURS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "SASRec": {
        "full cross-entropy": ("sasrec", {**OURS_SASREC, "loss": "ce"}),
        "one negative": ("sasrec", {**OURS_SASREC, "loss": "bce"}),
    },
    "LightGCN": {
        "": (
            "lightgcn",
            {"dim": 64, "layers": 3, "regularisation": 1e-4, "batch_size": 2048, "epochs": 5},
        )
    },
}


def write_atomic_file(name: str, folder: Path) -> None:
    """Writes a data set in RecBole's format, users' rows in the order of our reader."""
    interactions = read(name).interactions
    if interactions.timestamps is None:
        times = np.arange(len(interactions))
    else:
        times = interactions.timestamps
    rows = zip(interactions.users, interactions.items, times, strict=True)
    lines = [f"{user}\t{item}\t{int(time)}\n" for user, item, time in rows]
    (folder / name).mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    (folder / name / f"{name}.inter").write_text(header + "".join(lines))


def compare(model: str, data: str, folder: Path, options: argparse.Namespace) -> list[dict]:
    peer = {"model": model, "data": data, "folder": str(folder), **PEERS[model]}
    runs = {"RecBole": partial(worker, options.peer_python, "recbole_worker.py", peer, threads=1)}
    for variant, (name, settings) in OURS[model].items():
        request = {"model": name, "data": data, "settings": settings}
        label = f"dynmm, {variant}" if variant else "dynmm"
        runs[label] = partial(worker, options.python, "dynmm_worker.py", request, threads=1)
    measured = alternate(runs, options.repeats)

    def middle(name: str, figure: str) -> float:
        return median([results[name][figure] for results in measured])

    def ratio(name: str, figure: str, *, of_peer: bool) -> float:
        """Median over the repetitions; ``of_peer`` where less is better."""
        pairs = [(results[name][figure], results["RecBole"][figure]) for results in measured]
        return median([theirs / own if of_peer else own / theirs for own, theirs in pairs])

    return [
        {
            "model": model,
            "data": data,
            "system": name,
            "training, targets/s": middle(name, "targets_per_second"),
            "× RecBole, training": ratio(name, "targets_per_second", of_peer=False),
            "epoch, s": measured[0][name]["targets_in_epoch"] / middle(name, "targets_per_second"),
            "full ranking, s": middle(name, "evaluation_seconds"),
            "× RecBole, ranking": ratio(name, "evaluation_seconds", of_peer=True),
            "peak memory, MB": middle(name, "peak_mb"),
        }
        for name in runs
    ]


def main() -> None:
    import sys

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", help="Python of an environment with RecBole")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.python = sys.executable
    if not options.peer_python or not Path(options.peer_python).exists():
        skip(f"no Python with RecBole was named\n{__doc__}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for data in options.data:
            write_atomic_file(data, Path(folder))
            for model in options.models:
                rows += compare(model, data, Path(folder), options)
    batches = PEERS["SASRec"]["batches"]
    notes = [
        f"Leave-one-out, one thread, {options.repeats} repetitions in turn. RecBole's SASRec: "
        f"targets/s from {batches} batches of 2,048 sequences after one to warm up, epoch "
        "extrapolated from them. Rankings are of the whole catalogue for all test users; RecBole "
        "leaves a sequential model's history unmasked, ours is masked. Memory is the peak of the "
        "whole process, libraries included."
    ]
    report("RecBole 1.2.1", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
