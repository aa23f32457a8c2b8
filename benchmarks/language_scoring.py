"""Scoring 20 candidates with a frozen language model: each anew, side by side, or from one state.

Against reading every candidate's whole sequence in one batch, as is usual:

- ``log_prob``: the prompt once, then all candidates side by side in one row; the same scores.
- ``slots``: the prompt with all candidates in it once, a hidden state for each.

    python benchmarks/language_scoring.py [--users 4] [--candidates 20] [--repeats 3] [--json]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from measure import alternate, median, report
from prompts import load, options, timed

from dynmm_framework.language.scoring import (
    log_prob,
    log_prob_of_full_sequences,
    read_head,
    slot_states,
)
from dynmm_framework.language.soft import collate, inject
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.language.wording import PromptTemplate


def main() -> None:
    given = options(__doc__, users=4, history=10, repeats=3)
    _, llm, dataset = load(given)
    writer = PromptWriter(PromptTemplate(), llm)
    titles = writer.text.items(dataset.items["title"].to_pylist(), limit=32)
    rng = np.random.default_rng(0)
    users = rng.choice(dataset.n_users, given.users, replace=False)
    histories = dataset.interactions.histories().take(users).last(given.history)
    prompts, answers, whole = [], [], []
    for row in range(len(histories)):
        history = [Entry(titles[item]) for item in histories[row]]
        items = rng.choice(dataset.n_items, given.candidates, replace=False)
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
        {name: lambda way=way: timed(way) for name, way in ways.items()}, given.repeats
    )
    seconds = {name: median([run[name][0] for run in runs]) / given.users for name in ways}
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
                "tokens a user": tokens[name] / given.users,
            }
            for name in ways
        ],
        notes=[
            f"{given.model}, {given.dtype}, {given.threads} thread(s), the newest {given.history} "
            f"titles of MovieLens-100K, {given.candidates} candidates, {given.users} users, "
            f"median of {given.repeats} repetitions in turn.",
            f"Largest difference of a log_prob score from full sequences: {difference:.1e}.",
        ],
        as_json=given.json,
    )


if __name__ == "__main__":
    main()
