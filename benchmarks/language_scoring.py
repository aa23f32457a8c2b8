"""Scoring 20 candidates with a frozen language model: each anew, side by side, or from one state.

Against reading every candidate's whole sequence in one batch, as is usual:

- ``log_prob``: the prompt once, then all candidates side by side in one row; the same scores.
- ``slots``: the prompt with all candidates in it once, a hidden state for each.

    python benchmarks/language_scoring.py [--users 4] [--candidates 20] [--repeats 3] [--json]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measure import alternate, median, read, report, skip

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.parts import LanguageModelRef
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import DynmmError
from dynmm_framework.language.scoring import (
    log_prob,
    log_prob_of_full_sequences,
    read_head,
    slot_states,
)
from dynmm_framework.language.soft import collate, inject
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.language.wording import PromptTemplate


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    found = compute()
    return time.process_time() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2_135m", help="a language model's name")
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--history", type=int, default=10)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = read("ml-100k")
    try:
        ctx = RunContext(Surroundings(load_catalogue()), stage="benchmark")
        llm = ctx.component(LanguageModelRef(name=options.model))
    except DynmmError as error:
        skip(f"{options.model} cannot be loaded: {error}")
    writer = PromptWriter(PromptTemplate(), llm)
    titles = writer.text.items(dataset.items["title"].to_pylist(), limit=32)
    rng = np.random.default_rng(0)
    users = rng.choice(dataset.n_users, options.users, replace=False)
    histories = dataset.interactions.histories().take(users).last(options.history)
    prompts, answers, whole = [], [], []
    for row in range(len(histories)):
        history = [Entry(titles[item]) for item in histories[row]]
        items = rng.choice(dataset.n_items, options.candidates, replace=False)
        prompts.append(writer.write(history=history))
        answers.append([writer.answer(titles[item]) for item in items])
        whole.append(
            writer.write(history=history, candidates=[Entry(titles[item], 1) for item in items])
        )
    head = read_head(llm, writer.head)

    def each_anew() -> list[Any]:
        # One user after another, the candidates of each in one batch.
        return [
            log_prob_of_full_sequences(llm, [prompt], [row], max_tokens=1 << 20)[0]
            for prompt, row in zip(prompts, answers, strict=True)
        ]

    def side_by_side() -> list[Any]:
        return [
            log_prob(llm, [prompt], [row], head=head)[0]
            for prompt, row in zip(prompts, answers, strict=True)
        ]

    @torch.no_grad()
    def slots() -> None:
        for prompt in whole:
            batch = collate([prompt], pad_id=llm.pad_id, skip=prompt.head)
            soft = {
                name: torch.zeros(*places.shape, llm.hidden_size)
                for name, places in batch.soft.items()
            }
            slot_states(llm, batch, inject(llm, batch, soft), prefix=head)

    ways = {"full sequences": each_anew, "log_prob": side_by_side, "slots": slots}
    log_prob(llm, prompts[:1], answers[:1])  # warm up
    runs = alternate(
        {name: lambda way=way: timed(way) for name, way in ways.items()}, options.repeats
    )
    seconds = {name: median([run[name][0] for run in runs]) / options.users for name in ways}
    pairs = zip(runs[0]["full sequences"][1], runs[0]["log_prob"][1], strict=True)
    difference = max(float(np.abs(one - other).max()) for one, other in pairs)
    tokens = {
        "full sequences": sum(
            len(p) + len(a) for p, row in zip(prompts, answers, strict=True) for a in row
        ),
        "log_prob": sum(
            len(p) - p.head + sum(map(len, row)) - len(row)
            for p, row in zip(prompts, answers, strict=True)
        ),
        "slots": sum(len(p) - p.head for p in whole),
    }
    report(
        "Scoring candidates with a frozen language model",
        [
            {
                "way": name,
                "CPU seconds a user": seconds[name],
                "× faster": seconds["full sequences"] / seconds[name],
                "tokens a user": tokens[name] / options.users,
            }
            for name in ways
        ],
        notes=[
            f"{options.model}, fp32, {options.threads} thread(s), the newest {options.history} "
            f"titles of MovieLens-100K, {options.candidates} candidates, {options.users} users, "
            f"median of {options.repeats} repetitions in turn.",
            f"Largest difference of a log_prob score from full sequences: {difference:.1e}.",
        ],
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
