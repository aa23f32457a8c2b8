"""A folder of records around a tiny dataset: for tests of what reads and verifies records."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

PIPELINE = """\
version: 1
data: {name: sequence_file, config: {record: toy, path: toy.txt}}
split: {strategy: leave_one_out}
baseline: popularity
evaluate:
  protocols: [full, {sampled: 5}]
  at: [5, 10]
  compare_with: [item_knn]
"""
DATASET = """\
version: 1
kind: dataset
name: toy
summary: Sequences that a test made
homepage: https://example.org/toy
files:
  toy.txt: {{sha256: {sha256}, bytes: {size}}}
sources:
  - url: https://localhost:1/toy.txt
"""
RECORD = """\
version: 1
kind: pipeline
name: toy
summary: Popularity on the toy data
file: toy.pipeline.yaml
"""


def sequences(n_users: int = 30, n_items: int = 25) -> bytes:
    """Returns the file: every user's items, some of them far more popular than others."""
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, n_items + 1)
    lines = []
    for user in range(1, n_users + 1):
        items = 1 + rng.choice(n_items, 6, replace=False, p=weights / weights.sum())
        lines.append(" ".join(map(str, [user, *items])))
    return ("\n".join(lines) + "\n").encode()


def write_registry(folder: Path, *, content: bytes | None = None) -> Path:
    """Writes records of the dataset and the pipeline, and of a component without numbers."""
    content = sequences() if content is None else content
    digest = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(DATASET.format(**digest))
    (folder / "toy.yaml").write_text(RECORD)
    (folder / "toy.pipeline.yaml").write_text(PIPELINE)
    write_component(folder, "ease")
    return folder


def write_component(
    folder: Path, name: str, *numbers: tuple[str, str, float], more: str = ""
) -> None:
    """Writes the record of a component with numbers: protocol, metric, value."""
    text = (
        f"version: 1\nkind: component\nname: {name}\nsummary: s\nprovides: baseline\n"
        f"distribution: dynmm-framework\nmetrics:{'' if numbers else ' []'}\n"
    )
    for protocol, metric, value in numbers:
        text += (
            f"- {{pipeline: toy, dataset: toy, protocol: '{protocol}', metric: {metric},"
            f" value: {value!r}, source: somebody 2020{more}}}\n"
        )
    (folder / f"{name}.yaml").write_text(text)
