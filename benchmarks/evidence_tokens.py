"""What evidence adds to the latency of a prompt: its segment, its encoder, looking records up.

The same users and candidates are scored one user at a time, as a request is: without evidence, with
``--tokens`` soft tokens in the prompt's segment, and with each candidate's own evidence in its soft
token besides. Every candidate has ``--records`` records.

    python benchmarks/evidence_tokens.py [--users 8] [--tokens 16] [--repeats 5] [--json]
"""

from __future__ import annotations

from typing import Any

from measure import median, report
from prompts import DIM, draw_users, fastest, load, options

WITHOUT = "without evidence"


def main() -> None:
    from dynmm_plugins.soft_prompt.config import SoftPromptConfig
    from dynmm_plugins.soft_prompt.records import Question
    from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer

    given = options(__doc__, users=8, history=20, repeats=5, tokens=16, records=8)
    ctx, llm, dataset = load(given)
    users = draw_users(dataset, given, records=given.records)
    titles = dataset.items["title"].to_pylist()

    def scorer(place: str | None) -> PromptScorer:
        settings: dict[str, Any] = {"history": given.history, "candidates": given.candidates}
        if place is not None:
            settings |= {"evidence_tokens": given.tokens, "evidence_at": place}
        config = SoftPromptConfig(**settings)
        parts = Parts(config, (DIM, DIM), llm, owners=0 if place is None else 1)
        return PromptScorer(config, titles, users.items, parts.eval(), llm, ctx)

    scorers = {
        WITHOUT: scorer(None),
        f"segment of {given.tokens} tokens": scorer("segment"),
        "segment, and each candidate's own": scorer("both"),
    }

    def score(name: str, row: int) -> None:
        records = None if name == WITHOUT else users.records(row)
        scorers[name].score_all(Question(users.one(row), records))

    ways = {name: lambda row, name=name: score(name, row) for name in scorers}
    best = fastest(ways, users=given.users, repeats=given.repeats)
    tokens = {name: sum(s.segment_tokens(users.asked).values()) for name, s in scorers.items()}
    head = len(scorers[WITHOUT].writer.head)
    report(
        "What evidence adds to a prompt",
        [
            {
                "prompt": name,
                "CPU seconds a user": float(best[name].mean()),
                "more": f"{median(best[name] / best[WITHOUT] - 1):+.1%}",
                "tokens read a user": tokens[name] - head,
            }
            for name in scorers
        ],
        notes=[
            f"{given.model}, {given.dtype}, {given.threads} thread(s), histories of "
            f"{given.history}, {given.candidates} candidates with {given.records} records each, "
            f"{given.users} users one at a time, the fastest of {given.repeats} repetitions in "
            "turn, median over users.",
        ],
        as_json=given.json,
    )


if __name__ == "__main__":
    main()
