r"""SASRec side by side with pmixer's SASRec.pytorch: speed, accuracy for the same time, and cost.

None of the peer's code is part of this project; it runs unmodified, in our environment, from

    git clone https://github.com/pmixer/SASRec.pytorch /tmp/pmixer
    git -C /tmp/pmixer checkout fde8a9c
    python benchmarks/pmixer_peer.py speed --peer-checkout /tmp/pmixer

``speed`` measures epochs, full rankings and memory; ``accuracy`` trains all systems for the same
seconds and has our evaluator judge them; ``length`` measures epochs on users with histories of
like length. Hidden size 64, 2 layers, 1 head, length 50, batches of 128 users, learning rate 1e-3
and binary cross-entropy everywhere; the peer has its other defaults, and we ours, or in a further
row settings like the peer's. Every measurement is a process with one torch thread; systems
alternate. The peer draws batches in three processes beside that, which ours has not. Targets are
real positions, never padding: an epoch has the newest 50 of every user.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import alternate, median, report, skip, worker

if TYPE_CHECKING:
    from dynmm_framework.data.splits import Split

PEER_ARGS: dict[str, Any] = {
    "batch_size": 128,
    "lr": 1e-3,
    "maxlen": 50,
    "hidden_units": 64,
    "num_blocks": 2,
    "num_heads": 1,
    "dropout_rate": 0.2,
    "l2_emb": 0.0,
    "norm_first": False,
    "device": "cpu",
}
SHARED = {
    "batch_size": 128,
    "learning_rate": 1e-3,
    "max_length": 50,
    "hidden_size": 64,
    "layers": 2,
    "heads": 1,
    "loss": "bce",
}
LIKE_PEER = {
    "feed_forward_size": 64,
    "dropout": 0.2,
    "attention_dropout": 0.2,
    "activation": "relu",
    "scale_embedding": True,
    "initialisation": "xavier",
    "beta2": 0.98,
    "average": 0,
    "clip_norm": 0,
}
OURS: dict[str, dict[str, Any]] = {
    "dynmm": SHARED,
    "dynmm, settings like pmixer's": {**SHARED, **LIKE_PEER},
}
EPOCHS = {"ml-100k": (16, 16), "amazon-beauty": (3, 6)}
"""Measured epochs in one process: the peer's, ours."""
SECONDS = {"ml-100k": 60.0, "amazon-beauty": 150.0}
"""Training time of the comparison of accuracy; models are also judged at a quarter and a half."""
GROUPS = ((2, 2), (3, 4), (5, 8), (9, 16), (17, 10_000))
"""Training targets of the users of one measurement of cost."""
MOST_USERS = 1024

Rows = list[dict[str, Any]]


def write_sequences(split: Split, path: Path, users: np.ndarray | None = None) -> None:
    """Writes ``user item`` lines, ids from 1; users are numbered anew, items are not."""
    rows = split.rows
    chosen = np.arange(split.n_users) if users is None else users
    rows = rows.take(np.isin(rows.users, chosen))
    numbers = np.searchsorted(chosen, rows.users) + 1
    lines = [f"{user} {item + 1}\n" for user, item in zip(numbers, rows.items, strict=True)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(lines))


class Systems:
    """Makes the runs of the peer and of ours on one data set.

    Args:
        options: The command line.
        data: Name of the data set.
        folder: Scratch folder.
    """

    def __init__(self, options: argparse.Namespace, data: str, folder: Path) -> None:
        from protocol import leave_one_out

        self.options = options
        self.data = data
        self.folder = folder
        _, self.split = leave_one_out(data)

    def peer(self, **request: Any) -> Callable[[], dict[str, Any]]:
        users = request.pop("users", None)
        name = f"{self.data}-{len(list(self.folder.glob('data/*')))}"
        write_sequences(self.split, self.folder / "data" / f"{name}.txt", users)
        asked = {
            "checkout": str(self.options.peer_checkout),
            "folder": str(self.folder),
            "name": name,
            "data": self.data,
            "n_items": self.split.n_items,
            "args": PEER_ARGS,
            "seed": 1,
            "rank": True,
            **request,
        }
        return partial(worker, sys.executable, "pmixer_worker.py", asked, threads=1)

    def ours(self, settings: dict[str, Any], **request: Any) -> Callable[[], dict[str, Any]]:
        asked = {"model": "sasrec", "data": self.data, "settings": settings, **request}
        return partial(worker, sys.executable, "dynmm_worker.py", asked, threads=1)


def speed(systems: Systems) -> Iterator[dict[str, Any]]:
    options = systems.options
    theirs, our_epochs = (options.epochs,) * 2 if options.epochs else EPOCHS[systems.data]
    runs = {"pmixer": systems.peer(epochs=theirs)}
    for name, settings in OURS.items():
        runs[name] = systems.ours({**settings, "epochs": our_epochs})
    measured = alternate(runs, options.repeats)

    def middle(name: str, figure: str) -> float:
        return median([results[name][figure] for results in measured])

    def ratio(name: str, figure: str) -> float:
        """How many times less than the peer, median over the repetitions."""
        return median([results["pmixer"][figure] / results[name][figure] for results in measured])

    for name in runs:
        per_target = median(
            [
                results[name]["targets_per_second"] / results["pmixer"]["targets_per_second"]
                for results in measured
            ]
        )
        yield {
            "data": systems.data,
            "system": name,
            "training, targets/s": middle(name, "targets_per_second"),
            "× pmixer, training": per_target,
            "epoch, s": middle(name, "epoch_seconds"),
            "targets an epoch": round(middle(name, "targets_in_epoch")),
            "full ranking, s": middle(name, "evaluation_seconds"),
            "× pmixer, ranking": ratio(name, "evaluation_seconds"),
            "peak memory of training, MB": middle(name, "training_peak_mb"),
        }


def accuracy(systems: Systems) -> Iterator[dict[str, Any]]:
    seconds = systems.options.seconds or SECONDS[systems.data]
    moments = [seconds / 4, seconds / 2, seconds]
    found: dict[str, list[list[dict[str, float]]]] = {}
    for seed in range(1, systems.options.repeats + 1):
        runs = {"pmixer": systems.peer(moments=moments, seed=seed)}
        for name, settings in OURS.items():
            endless = {**settings, "epochs": 1_000_000}
            runs[name] = systems.ours(endless, moments=moments, seed=seed)
        for name, run in runs.items():
            found.setdefault(name, []).append(run()["moments"])
    for index, moment in enumerate(moments):
        for name, seeds in found.items():
            at = [judged[index] for judged in seeds]
            means = {key: float(np.mean([values[key] for values in at])) for key in at[0]}
            yield {
                "data": systems.data,
                "after, s": moment,
                "system": name,
                "trained, s": means["seconds"],
                "epochs": means["epochs"],
                "HR@10": means["hit@10"],
                "NDCG@10": means["ndcg@10"],
                "NDCG@10 of each seed": [values["ndcg@10"] for values in at],
            }


def length(systems: Systems) -> Iterator[dict[str, Any]]:
    from protocol import users_with

    epochs = systems.options.epochs or 24
    for group in GROUPS:
        users = users_with(systems.split, group, MOST_USERS)
        subset = {"targets": group, "most_users": MOST_USERS}
        runs = {
            "pmixer": systems.peer(users=users, epochs=min(epochs, 16), rank=False),
            "dynmm": systems.ours({**SHARED, "epochs": epochs}, **subset),
        }
        measured = alternate(runs, systems.options.repeats)
        row: dict[str, Any] = {
            "targets of a user": "–".join(map(str, sorted({*group} - {10_000})))
            + (" and more" if group[1] == 10_000 else ""),
            "users": len(users),
            "batches": -(-len(users) // SHARED["batch_size"]),
            "real positions": measured[0]["dynmm"]["targets_in_epoch"],
        }
        for name in ("dynmm", "pmixer"):
            seconds = median([results[name]["epoch_seconds"] for results in measured])
            row[f"{name}, ms an epoch"] = seconds * 1e3
            row[f"{name}, µs a position"] = seconds * 1e6 / row["real positions"]
        yield row


def straight_line(rows: Rows, name: str) -> str:
    """Says how an epoch's time follows from its real positions."""
    positions = np.array([row["real positions"] for row in rows], dtype=float)
    times = np.array([row[f"{name}, ms an epoch"] for row in rows])
    slope, start = np.polyfit(positions, times, 1)
    off = np.abs(start + slope * positions - times) / times
    return (
        f"{name}: {start:.0f} ms + {slope * 1e3:.1f} µs a real position, "
        f"at most {off.max():.0%} off"
    )


NOTES = {
    "speed": "Leave-one-out, one torch thread, medians of {repeats} repetitions in turn; the "
    "first quarter of the epochs is left out. Targets are real positions, the newest 50 of each "
    "user; pmixer fills its last batch with users once more. It draws batches in three more "
    "processes. It has no full ranking of its own: its encoder and one matrix product, in our "
    "evaluator, both masked. Memory is the peak of the "
    "training process, libraries included, samplers not.",
    "accuracy": "Leave-one-out, all items, history masked, our evaluator for all; means of "
    "{repeats} seeds; last weights, no early stopping. Ours is judged after the last epoch that "
    "ends in time.",
    "length": "Amazon-Beauty, medians of {repeats} repetitions in turn.",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    works = {"speed": speed, "accuracy": accuracy, "length": length}
    parser.add_argument("work", choices=list(works))
    parser.add_argument("--peer-checkout", type=Path, help="folder of the peer's repository")
    parser.add_argument("--data", nargs="+", choices=list(EPOCHS))
    parser.add_argument("--repeats", type=int, default=2, help="of accuracy: seeds")
    parser.add_argument("--epochs", type=int, help="epochs of one measurement of time")
    parser.add_argument("--seconds", type=float, help="training time of accuracy")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.peer_checkout is None or not (options.peer_checkout / "python/model.py").is_file():
        skip(f"no checkout of SASRec.pytorch was named\n{__doc__}")
    names = ["amazon-beauty"] if options.work == "length" else options.data or list(EPOCHS)
    rows: Rows = []
    for data in names:
        with tempfile.TemporaryDirectory() as folder:
            rows += works[options.work](Systems(options, data, Path(folder)))
    notes = [NOTES[options.work].format(repeats=options.repeats)]
    if options.work == "length":
        lines = "; ".join(straight_line(rows, name) for name in ("dynmm", "pmixer"))
        notes.append(f"Straight lines through these: {lines}.")
    title = f"pmixer's SASRec.pytorch: {options.work}"
    report(title, rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
