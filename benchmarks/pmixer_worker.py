"""Measures pmixer's SASRec.pytorch, unmodified; started by pmixer_peer.py, which says how to get
it. Reads one JSON request from the command line, prints one JSON line.

The network, the sampler and the division of the data are imported from the checkout; the loop
below does what its ``main.py`` does, without printing. Ids are those of our split plus 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from dynmm_framework.data.tables import Histories

SAMPLERS = 3
"""Processes that draw batches, as in ``main.py``."""


class Vectors:
    """The trained network, as user and item vectors for our evaluator."""

    def __init__(self, model: Any, maxlen: int, n_items: int) -> None:
        self.model = model
        self.maxlen = maxlen
        self.n_items = n_items

    def item_vectors(self) -> torch.Tensor:
        vectors = self.model.item_emb.weight.detach()[1:]
        assert len(vectors) == self.n_items
        return vectors

    def user_vectors(self, histories: Histories) -> torch.Tensor:
        sequences = np.zeros((len(histories), self.maxlen), dtype=np.int32)
        for row in range(len(histories)):
            newest = histories[row][-self.maxlen :]
            sequences[row, self.maxlen - len(newest) :] = newest + 1
        import torch

        self.model.eval()
        with torch.no_grad():
            vectors = self.model.log2feats(sequences)[:, -1]
        self.model.train()
        return vectors

    def fit(self, data: object, ctx: object) -> None: ...
    def get_state(self) -> dict: ...
    def load_state(self, state: dict) -> None: ...


def steps(model: Any, sampler: Any, args: argparse.Namespace) -> Any:
    """Trains without end, as ``main.py`` does; yields the real positions of each batch."""
    import torch

    criterion = torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.98))
    while True:
        u, seq, pos, neg = sampler.next_batch()
        u, seq, pos, neg = np.array(u), np.array(seq), np.array(pos), np.array(neg)
        pos_logits, neg_logits = model(u, seq, pos, neg)
        pos_labels, neg_labels = torch.ones(pos_logits.shape), torch.zeros(neg_logits.shape)
        optimizer.zero_grad()
        indices = np.where(pos != 0)
        loss = criterion(pos_logits[indices], pos_labels[indices])
        loss += criterion(neg_logits[indices], neg_labels[indices])
        for parameter in model.item_emb.parameters():
            loss += args.l2_emb * torch.sum(parameter**2)
        loss.backward()
        optimizer.step()
        loss.item()
        yield len(indices[0])


def make_model(network: Any, n_users: int, n_items: int, args: argparse.Namespace) -> Any:
    import torch

    model = network(n_users, n_items, args)
    for _, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_normal_(parameter.data)
    model.pos_emb.weight.data[0, :] = 0
    model.item_emb.weight.data[0, :] = 0
    return model.train()


def measure(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    np.random.seed(request["seed"])  # noqa: NPY002 (what its sampler draws its seeds from)
    sys.path.insert(0, str(Path(request["checkout"]).resolve() / "python"))
    from model import SASRec
    from utils import WarpSampler, data_partition

    os.chdir(request["folder"])  # it reads data/<name>.txt
    args = argparse.Namespace(**request["args"])
    train, _, _, n_users, _ = data_partition(request["name"])
    n_items = request["n_items"]  # of the whole catalogue, though a subset may lack some
    n_batches = (len(train) - 1) // args.batch_size + 1
    if "moments" in request:
        from protocol import Clock, TimeIsUp, leave_one_out

        _, split = leave_one_out(request["data"])
        clock = Clock(request["moments"], split.evaluation("test"))
    sampler = WarpSampler(
        train, n_users, n_items, batch_size=args.batch_size, maxlen=args.maxlen, n_workers=SAMPLERS
    )
    try:
        model = make_model(SASRec, n_users, n_items, args)
        vectors = Vectors(model, args.maxlen, n_items)
        training = steps(model, sampler, args)
        if "moments" in request:
            for number, _ in enumerate(training, start=1):
                try:
                    clock.check(vectors, epochs=number / n_batches)
                except TimeIsUp:
                    return {"moments": clock.found}
        seconds, targets = [], []
        for _ in range(request["epochs"]):
            started = time.perf_counter()
            targets.append(sum(next(training) for _ in range(n_batches)))
            seconds.append(time.perf_counter() - started)
    finally:
        sampler.close()
    # The first quarter of the epochs warms up and uses up what the samplers drew ahead.
    counted = slice(-(-len(seconds) // 4) if len(seconds) > 1 else 0, None)
    epoch_seconds = float(np.median(seconds[counted]))
    n_targets = float(np.median(targets[counted]))
    measured = {
        "targets_per_second": n_targets / epoch_seconds,
        "targets_in_epoch": n_targets,
        "epoch_seconds": epoch_seconds,
        "training_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "torch": torch.__version__,
    }
    if not request["rank"]:
        return measured
    from protocol import full_ranking, leave_one_out

    _, split = leave_one_out(request["data"])
    evaluation = split.evaluation("test")
    full_ranking(vectors, evaluation)  # the first warms up, the second counts
    values, ranking_seconds = full_ranking(vectors, evaluation)
    return {
        **measured,
        "evaluation_seconds": ranking_seconds,
        "evaluated_users": len(evaluation),
        "metrics": values,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
