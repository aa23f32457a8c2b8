"""What the benchmarks of language models share: options, the model, made-up users, the clock."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from measure import alternate, read, skip

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.parts import LanguageModelRef
from dynmm_framework.data.tables import Dataset, Histories
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import DynmmError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.language.retrieval import Asked

DIM = 64
"""Width of latents."""


def options(
    description: str | None, *, users: int, history: int, repeats: int, **further: int
) -> argparse.Namespace:
    """Reads the command line.

    Args:
        description: The script's docstring.
        users: Default number of users.
        history: Default length of histories.
        repeats: Default number of repetitions.
        further: Further numbers by name, with their defaults.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="smollm2_135m", help="a language model's name")
    parser.add_argument("--dtype", default="fp32")
    numbers = {"users": users, "history": history, "candidates": 20, "repeats": repeats}
    for name, value in {**numbers, "threads": 1, **further}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def load(given: argparse.Namespace) -> tuple[RunContext, Any, Dataset]:
    """Returns a context, the language model and MovieLens-100K, or skips the benchmark."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    dataset = read("ml-100k")
    try:
        ctx = RunContext(Surroundings(load_catalogue()), stage="benchmark")
        llm = ctx.component(LanguageModelRef(name=given.model, config={"dtype": given.dtype}))
    except DynmmError as error:
        skip(f"{given.model} cannot be loaded: {error}")
    return ctx, llm, dataset


class Drawn:
    """Records that are there already: extractors have a benchmark of their own."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def facts(self, references: np.ndarray) -> list[Fact]:
        return [Fact("neighbour", item=int(item)) for item in references]

    def vectors(self, references: np.ndarray) -> np.ndarray:
        return self._vectors[references]


@dataclass(frozen=True)
class Users:
    """Users of a data set with drawn latents, candidates, and records that cite their histories.

    Attributes:
        asked: The users and their candidates.
        items: Latents of all items, ``(n_items, DIM)``.
        evidence: Records of each user, on row 0 each.
    """

    asked: Asked
    items: np.ndarray
    evidence: list[Evidence]

    def one(self, row: int) -> Asked:
        """Returns one user, as a request asks for one."""
        return self.asked.take(np.array([row]))

    def records(self, row: int) -> Any:
        """Returns the records of one user as a prompt has them: putting them into arrays counts."""
        from dynmm_plugins.soft_prompt.records import gather

        return gather(
            EvidenceSource({"drawn": Drawn(self.items)}),  # type: ignore[dict-item]
            self.evidence[row],
            self.one(row).histories,
            candidates=self.asked.candidates.shape[1],
            dim=DIM,
            standardise=lambda vectors: vectors,
        )


def draw_users(
    dataset: Dataset, given: argparse.Namespace, *, records: int, least: int = 1
) -> Users:
    """Draws users whose histories are at least so long.

    Args:
        dataset: Where they come from.
        given: Numbers of users and candidates.
        records: Records of each candidate.
        least: Shortest history.
    """
    rng = np.random.default_rng(0)
    n, width = given.users, given.candidates
    histories: Histories = dataset.interactions.histories()
    long = np.flatnonzero(histories.lengths >= least)
    histories = histories.take(rng.choice(long, n, replace=False))
    items = rng.normal(size=(dataset.n_items, DIM)).astype(np.float32)
    candidates = np.stack([rng.permutation(dataset.n_items)[:width] for _ in range(n)])
    asked = Asked(
        histories,
        rng.normal(size=(n, DIM)).astype(np.float32),
        candidates.astype(np.int32),
        np.zeros((n, width), np.float32),
        np.full(n, -1, np.int64),
    )
    columns = np.repeat(np.arange(width), records)
    evidence = []
    for row in range(n):
        cited, scores = rng.choice(histories[row], len(columns)), rng.random(len(columns))
        table = EvidenceTable.of(
            np.zeros(len(columns)), columns, cited, scores, np.ones(len(columns))
        )
        evidence.append(Evidence(table, np.zeros(len(table), np.int16)))
    return Users(asked, items, evidence)


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Returns processor seconds, and what was computed."""
    started = time.process_time()
    found = compute()
    return time.process_time() - started, found


def fastest(
    ways: Mapping[str, Callable[[int], Any]], *, users: int, repeats: int
) -> dict[str, np.ndarray]:
    """Returns the fewest processor seconds of each way for each user, ``(users,)``.

    The ways alternate, so that what else the machine does hits all alike.
    """
    for way in ways.values():
        way(0)  # warm up
    found: dict[str, list[float]] = {name: [] for name in ways}
    for row in range(users):
        turns = alternate(
            {
                name: lambda way=way, row=row: timed(lambda: way(row))[0]
                for name, way in ways.items()
            },
            repeats,
        )
        for name in ways:
            found[name].append(min(turn[name] for turn in turns))
    return {name: np.array(values) for name, values in found.items()}
