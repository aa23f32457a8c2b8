"""Measures RecBole in an environment of its own; started by recbole_peer.py, which says how to
make that environment. Reads one JSON request from the command line, prints one JSON line.

    python recbole_worker.py '{"model": "SASRec", "data": "ml-100k", "folder": ..., "settings":
                               {...}, "batches": 3}'
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import warnings

import numpy as np

# RecBole 1.2.1 uses names that NumPy 2 dropped; they are its own, so they are given back here.
for _name, _type in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
    if not hasattr(np, _name):
        setattr(np, _name, _type)


def measure(request: dict) -> dict:
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    torch.set_num_threads(request["threads"])
    config = Config(
        model=request["model"],
        dataset=request["data"],
        config_dict={
            "data_path": request["folder"],
            "use_gpu": False,
            "show_progress": False,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {
                "split": {"LS": "valid_and_test"},
                "group_by": "user",
                "order": "TO",
                "mode": "full",
            },
            "metrics": ["Hit", "NDCG"],
            "topk": [10],
            "valid_metric": "NDCG@10",
            "train_batch_size": 2048,
            "eval_batch_size": 4096,
            "learning_rate": 1e-3,
            "checkpoint_dir": request["folder"],
            **request["settings"],
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, test = data_preparation(config, dataset)
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    train_seconds, targets = training(model, trainer, train, request["batches"])
    for _ in range(2):  # the first ranking warms up, the second counts
        started = time.perf_counter()
        result = trainer.evaluate(test, load_best_model=False, show_progress=False)
        ranking_seconds = time.perf_counter() - started
    return {
        "targets_per_second": targets / train_seconds,
        "targets_in_epoch": len(train.dataset),
        "evaluation_seconds": ranking_seconds,
        "evaluated_users": int(test.dataset.user_num - 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "metrics": {name: float(value) for name, value in result.items()},
        "torch": torch.__version__,
    }


def training(model, trainer, batches, limit: int) -> tuple[float, int]:
    """Trains on one batch unmeasured, then on ``limit`` (0: all of the epoch) measured."""
    model.train()
    seconds, targets, last = 0.0, 0, time.perf_counter()
    for number, batch in enumerate(batches):
        trainer.optimizer.zero_grad()
        loss = model.calculate_loss(batch)
        (sum(loss) if isinstance(loss, tuple) else loss).backward()
        trainer.optimizer.step()
        now = time.perf_counter()
        if number:  # the loader's own time counts, the first batch's warming up does not
            seconds += now - last
            targets += len(batch)
        last = now
        if limit and number >= limit:
            break
    return seconds, targets


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print(json.dumps(measure(json.loads(sys.argv[1]))))
