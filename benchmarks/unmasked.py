r"""A finished run's backbone, ranked with and without the items that users have already.

Some published figures of full ranking come from evaluators that leave the history of a sequential
model unmasked (RecBole's), so that items which a user has stand above the target. dynmm masks
them. To compare with such figures:

    python benchmarks/unmasked.py runs/sasrec_ce_beauty-8ed568f9
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import EvaluationSet
from dynmm_framework.engine.live import run_split
from dynmm_framework.engine.results import Run

CHUNK = 512


def target_ranks(model: Any, asked: EvaluationSet, *, mask: bool) -> NDArray[np.float64]:
    """Returns the rank of every user's only target, from 0, ties at their mean, ``(n,)``."""
    items = np.asarray(model.item_vectors())
    ranks = []
    for start in range(0, len(asked), CHUNK):
        part = asked.take(slice(start, start + CHUNK))
        scores = np.asarray(model.user_vectors(part.histories)) @ items.T
        rows, targets = np.arange(len(part)), part.targets.items
        target = scores[rows, targets][:, None]
        if mask:
            scores[part.histories.rows, part.histories.items] = -np.inf
            scores[rows, targets] = target[:, 0]
        tied = (scores == target).sum(axis=1) - 1
        ranks.append((scores > target).sum(axis=1) + tied / 2)
    return np.concatenate(ranks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run with a backbone, leave-one-out")
    run = Run.load(parser.parse_args().run)
    asked, model = run_split(run).evaluation("test"), run.backbone()
    for mask in (True, False):
        ranks = target_ranks(model, asked, mask=mask)
        hit = float((ranks < 10).mean())
        ndcg = float(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean())
        name = "history masked" if mask else "history unmasked"
        print(f"{name}: hit@10 {hit:.4f}, ndcg@10 {ndcg:.4f}, {len(ranks):,} users")


if __name__ == "__main__":
    main()
