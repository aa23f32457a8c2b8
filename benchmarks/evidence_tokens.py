"""What evidence adds to the latency of a prompt: its segment, its encoder, looking records up.

The same users and candidates are scored one user at a time, as a request is: without evidence, with
``--tokens`` soft tokens in the prompt's segment, and with each candidate's own evidence in its soft
token besides. Every candidate has ``--records`` records.

    python benchmarks/evidence_tokens.py [--users 8] [--tokens 16] [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from measure import alternate, median, read, report, skip

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.parts import LanguageModelRef
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import DynmmError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.language.retrieval import Asked

DIM = 64
"""Width of latents."""


class Drawn:
    """Records that are there already: extractors have a benchmark of their own."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def facts(self, references: np.ndarray) -> list[Fact]:
        return [Fact("neighbour", item=int(item)) for item in references]

    def vectors(self, references: np.ndarray) -> np.ndarray:
        return self._vectors[references]


def main() -> None:
    from dynmm_plugins.soft_prompt.config import SoftPromptConfig
    from dynmm_plugins.soft_prompt.records import Question, gather
    from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2_135m", help="a language model's name")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--history", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--records", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dataset = read("ml-100k")
    try:
        ctx = RunContext(Surroundings(load_catalogue()), stage="benchmark")
        llm = ctx.component(LanguageModelRef(name=options.model))
    except DynmmError as error:
        skip(f"{options.model} cannot be loaded: {error}")
    rng = np.random.default_rng(0)
    n, width = options.users, options.candidates
    users = rng.choice(dataset.n_users, n, replace=False)
    histories = dataset.interactions.histories().take(users)
    items = rng.normal(size=(dataset.n_items, DIM)).astype(np.float32)
    candidates = np.stack([rng.permutation(dataset.n_items)[:width] for _ in users])
    asked = Asked(
        histories,
        rng.normal(size=(n, DIM)).astype(np.float32),
        candidates.astype(np.int32),
        np.zeros((n, width), np.float32),
        np.full(n, -1, np.int64),
    )
    source: Any = EvidenceSource({"drawn": Drawn(items)})  # type: ignore[dict-item]
    rows, columns, _ = (a.ravel() for a in np.indices((n, width, options.records)))
    cited = np.concatenate(
        [rng.choice(histories[row], options.records) for row in np.repeat(np.arange(n), width)]
    )
    table = EvidenceTable.of(rows, columns, cited, rng.random(len(cited)), np.ones(len(cited)))
    evidence = Evidence(table, np.zeros(len(table), np.int16))
    titles = dataset.items["title"].to_pylist()

    def scorer(place: str | None) -> PromptScorer:
        settings = {"history": options.history, "candidates": width}
        if place is not None:
            settings |= {"evidence_tokens": options.tokens, "evidence_at": place}
        config = SoftPromptConfig(**settings)
        parts = Parts(config, (DIM, DIM), llm, owners=0 if place is None else 1)
        return PromptScorer(config, titles, items, parts.eval(), llm, ctx)

    scorers = {
        "without evidence": scorer(None),
        f"segment of {options.tokens} tokens": scorer("segment"),
        "segment, and each candidate's own": scorer("both"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in scorers}

    def score(name: str, row: int) -> None:
        started = time.process_time()
        one = asked.take(np.array([row]))
        records = None
        if name != "without evidence":
            own = evidence.of(row)
            moved = EvidenceTable.of(
                np.zeros(len(own)), own.table.columns, own.table.references, own.table.scores
            )
            records = gather(
                source,
                Evidence(moved, own.extractors),
                one.histories,
                candidates=width,
                dim=DIM,
                standardise=lambda vectors: vectors,
            )
        scorers[name].score_all(Question(one, records))
        seconds[name].append(time.process_time() - started)

    for name in scorers:
        score(name, 0)  # warm up
        seconds[name].clear()
    for row in range(n):
        alternate(
            {name: lambda name=name, row=row: score(name, row) for name in scorers},
            options.repeats,
        )
    best = {name: np.reshape(found, (n, -1)).min(axis=1) for name, found in seconds.items()}
    tokens = {name: sum(s.segment_tokens(asked).values()) for name, s in scorers.items()}
    head = len(scorers["without evidence"].writer.head)
    report(
        "What evidence adds to a prompt",
        [
            {
                "prompt": name,
                "CPU seconds a user": float(best[name].mean()),
                "more": f"{median(best[name] / best['without evidence'] - 1):+.1%}",
                "tokens read a user": tokens[name] - head,
            }
            for name in scorers
        ],
        notes=[
            f"{options.model}, fp32, {options.threads} thread(s), histories of {options.history}, "
            f"{width} candidates with {options.records} records each, {n} users one at a time, "
            f"the fastest of {options.repeats} repetitions in turn, median over users.",
        ],
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
