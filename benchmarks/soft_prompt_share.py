"""What soft prompts add to the latency of a language model that reads a prompt of the same length.

Each user's prompt is scored one user at a time, as a request is, in two ways that alternate:

- words: the prompt is written and read, and a linear head scores the candidates' places. Where a
  soft token would stand there is a word, whose embedding is looked up.
- soft: the same prompt by ``soft_prompt``: projectors of users and items and, with ``--tokens``,
  the encoder of ``--records`` records of evidence a candidate.

    python benchmarks/soft_prompt_share.py [--users 8] [--history 50] [--tokens 16] [--json]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from evidence_tokens import DIM, Drawn
from measure import alternate, median, read, report, skip

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.parts import LanguageModelRef
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import DynmmError
from dynmm_framework.explain.records import EvidenceTable
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.language.retrieval import Asked
from dynmm_framework.language.scoring import slot_states
from dynmm_framework.language.soft import collate


def main() -> None:
    from dynmm_plugins.soft_prompt.config import SoftPromptConfig
    from dynmm_plugins.soft_prompt.records import Question, gather
    from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2_135m", help="a language model's name")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--history", type=int, default=50)
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
        settings = {"dtype": options.dtype}
        llm = ctx.component(LanguageModelRef(name=options.model, config=settings))
    except DynmmError as error:
        skip(f"{options.model} cannot be loaded: {error}")
    rng = np.random.default_rng(0)
    n, width, records = options.users, options.candidates, options.records
    histories = dataset.interactions.histories()
    long = np.flatnonzero(histories.lengths >= options.history)
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
    source: Any = EvidenceSource({"drawn": Drawn(items)})  # type: ignore[dict-item]
    columns = np.repeat(np.arange(width), records)
    evidence = []
    for row in range(n):
        cited = rng.choice(histories[row], len(columns))
        table = EvidenceTable.of(
            np.zeros(len(columns)), columns, cited, rng.random(len(columns)), np.ones(len(columns))
        )
        evidence.append(Evidence(table, np.zeros(len(table), np.int16)))
    titles = dataset.items["title"].to_pylist()
    rows = []
    for tokens in (0, options.tokens):
        config = SoftPromptConfig(history=options.history, candidates=width, evidence_tokens=tokens)
        parts = Parts(config, (DIM, DIM), llm, owners=1 if tokens else 0).eval()
        scorer = PromptScorer(config, titles, items, parts, llm, ctx)
        head = torch.nn.Linear(llm.hidden_size, 1)

        @torch.no_grad()
        def words(row: int, scorer: Any = scorer, head: Any = head) -> None:
            prompt = scorer._prompt(asked.take(np.array([row])), 0)
            batch = collate([prompt], pad_id=llm.pad_id, skip=scorer.head.length)
            states = slot_states(llm, batch, llm.embed(batch.ids), prefix=scorer.head)
            head(states.float()).numpy()

        def soft(row: int, scorer: Any = scorer, tokens: int = tokens) -> None:
            one = asked.take(np.array([row]))
            found = None
            if tokens:
                found = gather(
                    source,
                    evidence[row],
                    one.histories,
                    candidates=width,
                    dim=DIM,
                    standardise=lambda vectors: vectors,
                )
            scorer.score_all(Question(one, found))

        seconds = _seconds({"words": words, "soft": soft}, users=n, repeats=options.repeats)
        shares = seconds["soft"] / seconds["words"] - 1
        together = seconds["soft"].sum() / seconds["words"].sum() - 1
        rows.append(
            {
                "prompt": f"L = {options.history}, E = {tokens}",
                "tokens": sum(scorer.segment_tokens(asked).values()),
                "words, CPU seconds a user": float(seconds["words"].mean()),
                "soft, CPU seconds a user": float(seconds["soft"].mean()),
                "soft tokens add": f"{median(shares):+.1%}",
                "of all users together": f"{together:+.1%}",
            }
        )
    report(
        "What soft prompts add to reading a prompt",
        rows,
        notes=[
            f"{options.model}, {options.dtype}, {options.threads} thread(s), {width} candidates "
            f"with {records} records each, {n} users one at a time, the fastest of "
            f"{options.repeats} repetitions in turn, median over users.",
        ],
        as_json=options.json,
    )


def _seconds(
    ways: dict[str, Callable[[int], None]], *, users: int, repeats: int
) -> dict[str, np.ndarray]:
    """Returns the fastest CPU seconds of each way for each user, ``(users,)``."""

    def timed(way: Callable[[int], None], row: int) -> float:
        started = time.process_time()
        way(row)
        return time.process_time() - started

    for way in ways.values():
        way(0)  # warm up
    found: dict[str, list[float]] = {name: [] for name in ways}
    for row in range(users):
        turns = alternate(
            {name: lambda way=way, row=row: timed(way, row) for name, way in ways.items()}, repeats
        )
        for name in ways:
            found[name].append(min(turn[name] for turn in turns))
    return {name: np.array(values) for name, values in found.items()}


if __name__ == "__main__":
    main()
