"""BPR on MovieLens-100K against Cornac's published table, under Cornac's protocol.

Cornac splits all ratings 80/20 at random and trains on every training rating, high or low. A
test item counts if rated 4 or more; it is ranked among all items of the training set except the
user's training items rated 4 or more. Low-rated training items thus stay among the candidates.

    python benchmarks/bpr_cornac.py [--seeds 1 2 3] [--json]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import read, report

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.data.tables import Dataset, EvaluationSet, Interactions, TrainingData
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.evaluation.evaluate import evaluate, expand
from dynmm_framework.evaluation.ranking import as_recommender

PUBLISHED = {"auc": 0.8695, "ndcg@10": 0.1500, "recall@10": 0.1195}
LIKED = 4.0

AS_CORNAC: dict[str, Any] = {
    "dim": 50,
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "regularisation": 1e-2,
    "init_std": 0.0058,  # of Cornac's uniform draw from ±0.5 / dim
    "epochs": 200,
    "batch_size": 256,  # sums of gradients at this step size differ little from single steps
}
SYSTEMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dynmm, Cornac's settings": ("backbone", "bpr_mf", AS_CORNAC),
    "dynmm, own defaults, 100 epochs": ("backbone", "bpr_mf", {"epochs": 100}),
    "popularity": ("baseline", "popularity", {}),
}


def divide(dataset: Dataset, seed: int) -> tuple[Interactions, EvaluationSet]:
    """Returns training interactions, and test users, over the items of the training set."""
    rows = dataset.interactions
    test = np.zeros(len(rows), dtype=bool)
    test[np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 5]] = True
    known = np.unique(rows.items[~test])
    number = np.full(rows.n_items, -1, dtype=np.int32)
    number[known] = np.arange(len(known))
    rows = replace(rows, items=number[rows.items], n_items=len(known))
    train = rows.take(~test)
    liked = rows.ratings >= LIKED
    histories = rows.take(~test & liked).histories()
    targets = rows.take(test & liked & (rows.items >= 0)).histories()
    trained = np.bincount(train.users, minlength=rows.n_users) > 0
    users = np.flatnonzero((targets.lengths > 0) & trained)
    return train, EvaluationSet(
        users=users.astype(np.int32), histories=histories.take(users), targets=targets.take(users)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    dataset = read("ml-100k")
    catalogue = load_catalogue()
    requests = expand([catalogue.metric(name) for name in ("auc", "ndcg", "recall")], [10])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    for seed in options.seeds:
        train, evaluation = divide(dataset, seed)
        for name, (kind, component, settings) in SYSTEMS.items():
            model = catalogue.create(catalogue.find(kind, component), settings)
            with tempfile.TemporaryDirectory() as folder:
                context = RunContext(
                    Surroundings(catalogue), stage="benchmark", seed=seed, workdir=Path(folder)
                )
                model.fit(TrainingData(train, dataset.items), context)
            result = evaluate(as_recommender(model), evaluation, requests, latency_users=0)
            found[name].append(dict(result.values))
    rows: list[dict[str, Any]] = [{"system": "Cornac, published", **PUBLISHED}]
    for name, values in found.items():
        means = {key: float(np.mean([value[key] for value in values])) for key in PUBLISHED}
        rows.append({"system": name, **{key: round(value, 4) for key, value in means.items()}})
        off = max(abs(means[key] / PUBLISHED[key] - 1) for key in PUBLISHED)
        rows[-1]["largest difference, %"] = round(100 * off, 1)
    rows[0]["largest difference, %"] = 0
    notes = [f"Means over {len(options.seeds)} random splits; Cornac's is one split."]
    report("BPR, MovieLens-100K, Cornac's protocol", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
