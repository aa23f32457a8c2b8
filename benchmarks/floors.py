"""How near LightGCN's propagation and full ranking come to what the machine can do.

Floors: torch's CSR product on the same graph, and the bare matrix product and top-k of a full
ranking. Amazon-Beauty, width 64, one thread.

    python benchmarks/floors.py [--repeats 15] [--json]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from measure import alternate, median, read, report

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.pipeline import LeaveOneOut
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.data.tables import Histories
from dynmm_framework.evaluation.evaluate import evaluate, expand
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_plugins.lightgcn.network import Graph

DIM = 64


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


class RandomVectors:
    """A backbone with vectors that cost nothing to compute."""

    def __init__(self, n_users: int, n_items: int) -> None:
        self.users = torch.randn(n_users, DIM)
        self.items = torch.randn(n_items, DIM)

    def item_vectors(self) -> torch.Tensor:
        return self.items

    def user_vectors(self, histories: Histories) -> torch.Tensor:
        return self.users[torch.from_numpy(histories.users.astype(np.int64))]

    def fit(self, data: object, ctx: object) -> None: ...
    def get_state(self) -> dict: ...
    def load_state(self, state: dict) -> None: ...


def propagation(split: Split) -> dict[str, Callable[[], object]]:
    graph = Graph(split.train.histories())
    embeddings = torch.randn(graph.n_users + graph.n_items, DIM)
    ends = torch.cat([graph.offsets, torch.tensor([len(graph.neighbours)])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR support a beta
        csr = torch.sparse_csr_tensor(
            ends, graph.neighbours, graph.weights, size=(len(embeddings), len(embeddings))
        )
    torch.testing.assert_close(csr @ embeddings, graph.multiply(embeddings))
    return {
        "torch CSR product": lambda: csr @ embeddings,
        "dynmm's propagation step": lambda: graph.multiply(embeddings),
    }


def ranking(split: Split, chunk: int = 1024, k: int = 20) -> dict[str, Callable[[], object]]:
    model = RandomVectors(split.n_users, split.n_items)
    evaluation = split.evaluation("test")
    catalogue = load_catalogue()
    requests = expand([catalogue.metric(name) for name in ("hit", "ndcg")], [10, k])

    def floor() -> None:
        for start in range(0, split.n_users, chunk):
            torch.topk(model.users[start : start + chunk] @ model.items.T, k)

    return {
        "matrix product and top-k": floor,
        "dynmm's full ranking": lambda: evaluate(
            as_recommender(model), evaluation, requests, latency_users=0
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = make_split(read("amazon-beauty"), LeaveOneOut(strategy="leave_one_out"), seed=0)
    rows = []
    for works in (propagation(split), ranking(split)):
        runs = {name: lambda work=work: milliseconds(work) for name, work in works.items()}
        alternate(runs, 2)
        measured = alternate(runs, options.repeats)
        floor = next(iter(works))
        rows += [
            {
                "work": name,
                "median, ms": median([times[name] for times in measured]),
                "median ratio to the floor": median(
                    [times[name] / times[floor] for times in measured]
                ),
            }
            for name in works
        ]
    notes = ["Wanted: propagation within 1.5, full ranking within 2 of the floor."]
    report("Floors, Amazon-Beauty", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
