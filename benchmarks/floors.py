"""How near propagation on a graph and full ranking come to what the machine can do.

Floors: torch's CSR product on the same graph, and the bare matrix product and top-k of a full
ranking. Amazon-Beauty, width 64, one thread. Ranking's memory is what it adds to a process of its
own at its peak, for random users with 5 known items each, whose vectors are made when asked for.
While chunks of users are scored it must not depend on the number of users; at the end there are a
rank, a list and metrics for each of them.

    python benchmarks/floors.py [--repeats 15] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from measure import alternate, median, read, report, worker

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.pipeline import LeaveOneOut
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.evaluation.evaluate import evaluate, expand
from dynmm_framework.evaluation.ranking import as_recommender, rank
from dynmm_framework.training.folding import distinct_items
from dynmm_framework.training.graphs import BipartiteGraph

DIM = 64
DEPTH = 20
FEW, MANY = 22_000, 220_000
"""Users of whom ranking's memory is measured; Amazon-Beauty has 22,363."""
N_ITEMS = 12_101
"""Items for that; as many as Amazon-Beauty has."""

Works = dict[str, Callable[[], object]]


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


class RandomVectors:
    """A backbone with vectors that cost nothing to compute, or are made when asked for."""

    def __init__(self, n_items: int, n_users: int = 0) -> None:
        self.items = torch.randn(n_items, DIM)
        self.users = torch.randn(n_users, DIM)

    def item_vectors(self) -> torch.Tensor:
        return self.items

    def user_vectors(self, histories: Histories) -> torch.Tensor:
        if not len(self.users):
            return torch.randn(len(histories), DIM)
        return self.users[torch.from_numpy(histories.users.astype(np.int64))]

    def fit(self, data: object, ctx: object) -> None: ...
    def get_state(self) -> dict: ...
    def load_state(self, state: dict) -> None: ...


def ranked(model: RandomVectors, evaluation: EvaluationSet) -> object:
    catalogue = load_catalogue()
    requests = expand([catalogue.metric(name) for name in ("hit", "ndcg")], [10, DEPTH])
    return evaluate(as_recommender(model), evaluation, requests, depth=DEPTH, latency_users=0)


def propagation(split: Split) -> tuple[Works, Callable[[], object]]:
    """Returns the floors, and our product."""
    graph = BipartiteGraph.of(distinct_items(split.train.histories()))
    embeddings = torch.randn(graph.n_nodes, DIM)
    floors: Works = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR support a beta
        for dtype in (torch.int32, torch.int64):
            csr = torch.sparse_csr_tensor(
                graph.offsets.to(dtype),
                graph.neighbours.to(dtype),
                graph.weights,
                size=(graph.n_nodes, graph.n_nodes),
            )
            torch.testing.assert_close(csr @ embeddings, graph.multiply(embeddings))
            floors[str(dtype)] = lambda csr=csr: csr @ embeddings
    return floors, lambda: graph.multiply(embeddings)


def ranking(split: Split, chunk: int = 1024) -> tuple[Works, Callable[[], object]]:
    model = RandomVectors(split.n_items, split.n_users)
    evaluation = split.evaluation("test")

    def floor() -> None:
        for start in range(0, split.n_users, chunk):
            torch.topk(model.users[start : start + chunk] @ model.items.T, DEPTH)

    return {"floor": floor}, lambda: ranked(model, evaluation)


def timed(
    work: str, floor: str, made: tuple[Works, Callable[[], object]], repeats: int, wanted: str
) -> dict[str, Any]:
    """Measures in turn; where there are several floors, each round's lowest counts."""
    floors, ours = made
    runs = {name: lambda run=run: milliseconds(run) for name, run in floors.items()}
    runs["ours"] = lambda: milliseconds(ours)
    alternate(runs, 2)
    rounds = alternate(runs, repeats)
    lowest = [min(times[name] for name in floors) for times in rounds]
    return {
        "work": f"{work}, ms",
        "floor": floor,
        "median of the floor": median(lowest),
        "median of dynmm": median([times["ours"] for times in rounds]),
        "median ratio": median(
            [times["ours"] / least for times, least in zip(rounds, lowest, strict=True)]
        ),
        "remark": f"wanted: at most {wanted}",
    }


def peak(request: Mapping[str, Any]) -> dict[str, float]:
    """Returns what ranking adds to this process's memory at its peak, in MB."""
    import resource

    import psutil

    torch.set_num_threads(request["threads"])
    n, rng = request["users"], np.random.default_rng(0)

    def lists(length: int) -> Histories:
        return Histories(
            offsets=np.arange(n + 1, dtype=np.int64) * length,
            items=rng.integers(0, N_ITEMS, n * length, dtype=np.int32),
            n_items=N_ITEMS,
            users=np.arange(n, dtype=np.int32),
        )

    evaluation = EvaluationSet(np.arange(n, dtype=np.int32), lists(5), lists(1))
    model = RandomVectors(N_ITEMS)
    ranked(model, evaluation.take(slice(0, 10)))  # libraries are there
    process, seen = psutil.Process(), [0]
    before = process.memory_info().rss
    if request["what"] == "scoring":
        rank(
            as_recommender(model),
            evaluation,
            depth=0,
            progress=lambda users: seen.append(process.memory_info().rss),
        )
        return {"mb": (max(seen) - before) / 2**20}
    ranked(model, evaluation)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"mb": (after - before) / 2**20}


def memory(what: str, told: str, repeats: int) -> dict[str, Any]:
    """Compares the memory of ranking with that of ten times the users."""
    runs = {
        users: lambda users=users: worker(
            sys.executable, "floors.py", {"users": users, "what": what}, threads=1
        )["mb"]
        for users in (FEW, MANY)
    }
    rounds = alternate(runs, repeats)
    few, many = (median([times[users] for times in rounds]) for users in (FEW, MANY))
    each = (many - few) * 2**20 / (MANY - FEW)
    return {
        "work": f"memory for {MANY:,} users, {told}, MB",
        "floor": f"for {FEW:,} users",
        "median of the floor": few,
        "median of dynmm": many,
        "median ratio": median([times[MANY] / times[FEW] for times in rounds]),
        "remark": f"{each:.0f} bytes a further user",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = make_split(read("amazon-beauty"), LeaveOneOut(strategy="leave_one_out"), seed=0)
    few = min(options.repeats, 3)
    rows = [
        timed("graph product", "torch's CSR product", propagation(split), options.repeats, "1.5"),
        timed("full ranking", "matrix product, top-k", ranking(split), options.repeats, "2"),
        memory("scoring", "while they are scored", few),
        memory("peak", f"at the end, with lists of {DEPTH} and metrics", few),
    ]
    matrix = MANY * N_ITEMS * 4 / 2**20
    notes = [
        f"A row of scores takes {N_ITEMS * 4:,} bytes, all of {MANY:,} users {matrix:,.0f} MB; "
        f"memory is measured {few} times, in processes of its own."
    ]
    report("Floors, Amazon-Beauty", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(peak(json.loads(sys.argv[1]))))
    else:
        main()
