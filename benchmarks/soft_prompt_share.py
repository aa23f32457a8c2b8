"""What soft prompts add to the latency of a language model that reads a prompt of the same length.

Each user's prompt is scored one user at a time, as a request is, in two ways that alternate:

- words: the prompt is written and read, and a linear head scores the candidates' places. Where a
  soft token would stand there is a word, whose embedding is looked up.
- soft: the same prompt by ``soft_prompt``: projectors of users and items and, with ``--tokens``,
  the encoder of ``--records`` records of evidence a candidate.

    python benchmarks/soft_prompt_share.py [--users 8] [--history 50] [--tokens 16] [--json]
"""

from __future__ import annotations

from typing import Any

import torch
from measure import median, report
from prompts import DIM, draw_users, fastest, load, options

from dynmm_framework.language.scoring import slot_states
from dynmm_framework.language.soft import collate


def main() -> None:
    from dynmm_plugins.soft_prompt.config import SoftPromptConfig
    from dynmm_plugins.soft_prompt.records import Question
    from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer

    given = options(__doc__, users=8, history=50, repeats=5, tokens=16, records=8)
    ctx, llm, dataset = load(given)
    users = draw_users(dataset, given, records=given.records, least=given.history)
    titles = dataset.items["title"].to_pylist()
    rows = []
    for tokens in dict.fromkeys((0, given.tokens)):
        config = SoftPromptConfig(
            history=given.history, candidates=given.candidates, evidence_tokens=tokens
        )
        parts = Parts(config, (DIM, DIM), llm, owners=1 if tokens else 0).eval()
        scorer = PromptScorer(config, titles, users.items, parts, llm, ctx)
        head = torch.nn.Linear(llm.hidden_size, 1)

        @torch.no_grad()
        def words(row: int, scorer: Any = scorer, head: Any = head) -> None:
            prompt = scorer._prompt(users.one(row), 0)
            batch = collate([prompt], pad_id=llm.pad_id, skip=scorer.head.length)
            states = slot_states(llm, batch, llm.embed(batch.ids), prefix=scorer.head)
            head(states.float()).numpy()

        def soft(row: int, scorer: Any = scorer, tokens: int = tokens) -> None:
            found = users.records(row) if tokens else None
            scorer.score_all(Question(users.one(row), found))

        seconds = fastest({"words": words, "soft": soft}, users=given.users, repeats=given.repeats)
        shares = seconds["soft"] / seconds["words"] - 1
        together = seconds["soft"].sum() / seconds["words"].sum() - 1
        rows.append(
            {
                "prompt": f"L = {given.history}, E = {tokens}",
                "tokens": sum(scorer.segment_tokens(users.asked).values()),
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
            f"{given.model}, {given.dtype}, {given.threads} thread(s), {given.candidates} "
            f"candidates with {given.records} records each, {given.users} users one at a time, "
            f"the fastest of {given.repeats} repetitions in turn, median over users.",
        ],
        as_json=given.json,
    )


if __name__ == "__main__":
    main()
