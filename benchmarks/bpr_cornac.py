"""BPR on MovieLens-100K against Cornac's published table, under Cornac's protocol.

Cornac splits all ratings 80/20 at random and trains on every training rating, high or low. A
test item counts if rated 4 or more; it is ranked among all items of the training set except the
user's training items rated 4 or more. Low-rated training items thus stay among the candidates.
The split is the one of its seed 123, drawn over the rows of the original file.

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
from dynmm_framework.engine.context import RunContext, Surroundings, bare_context
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


def original_rows(dataset: Dataset) -> Interactions:
    """Returns the ratings in the order of the original file, which readers do not keep."""
    folder = bare_context(load_catalogue()).fetch("movielens_100k")
    path = next(path for path in folder.rglob("*") if path.name in ("ml-100k.inter", "u.data"))
    raw = np.loadtxt(path, skiprows=int(path.suffix == ".inter"), usecols=(0, 1, 2), dtype=np.int64)
    columns = []
    for table, ids in ((dataset.users, raw[:, 0]), (dataset.items, raw[:, 1])):
        known = table["id"].to_numpy(zero_copy_only=False).astype(np.int64)
        order = np.argsort(known)
        columns.append(order[np.searchsorted(known, ids, sorter=order)].astype(np.int32))
    users, items = columns
    ratings = raw[:, 2].astype(np.float32)
    return Interactions(users, items, dataset.n_users, dataset.n_items, ratings=ratings)


def divide(dataset: Dataset) -> tuple[Interactions, EvaluationSet]:
    """Returns training interactions, and test users, over the items of the training set."""
    rows = original_rows(dataset)
    test = np.zeros(len(rows), dtype=bool)
    # Only NumPy's old generator draws Cornac's split.
    test[np.random.RandomState(123).permutation(len(rows))[-len(rows) // 5 :]] = True
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
    train, evaluation = divide(dataset)
    for seed in options.seeds:
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
    notes = [f"Seeds of the models: {', '.join(map(str, options.seeds))}; figures are means."]
    report("BPR, MovieLens-100K, Cornac's protocol", rows, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
