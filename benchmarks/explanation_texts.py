"""Template sentences against XRec's references for Yelp, which a language model wrote.

    python benchmarks/explanation_texts.py xrec-yelp/yelp_test.jsonl [N]

XRec (Ma et al., 2024) gives users, businesses, summaries of both, and explanations, all written by
a language model from reviews. The evidence here is the business's summary, quoted by the template.
The control compares each sentence with the explanation of another pair: what is left of a figure
without it comes from the wording that explanations share. Nothing here is a human's judgement.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from dynmm_framework.config.explain import Wording
from dynmm_framework.evaluation.explanation import text_metrics
from dynmm_framework.explain.cases import Case, Cited, Titles
from dynmm_framework.explain.claims import Checker, unsupported
from dynmm_framework.explain.rationale import Phrasebook
from dynmm_framework.explain.records import Fact
from dynmm_framework.explain.vocabulary import Vocabulary
from dynmm_framework.explain.writers import TemplateWriter, words_allowed

WORDING = Wording(
    sentence="The user would enjoy {title} because {reasons}.",
    passage="it is said that “{passage}”",
    quotation=300,
)


def measure(path: Path, limit: int) -> dict[str, object]:
    """Writes a sentence for each pair and compares it with the reference, and with another's."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:limit]
    titles = Titles([row["title"] for row in rows], [str(row["iid"]) for row in rows], WORDING)
    checker = Checker(Vocabulary([*enumerate(titles)]), allowed=words_allowed(WORDING))
    writer = TemplateWriter(Phrasebook(WORDING, titles), checker)
    cases = [
        Case(
            row=number,
            item=number,
            title=titles[number],
            evidence=(Cited("e1", "summary", Fact("passage", passage=row["item_summary"]), 1.0),),
            rank=3,
        )
        for number, row in enumerate(rows)
    ]
    written = writer.write(cases)
    sentences = [rationale.sentence for rationale in written]
    references = [row["explanation"] for row in rows]
    others = list(np.roll(references, 1))
    wrong = sum(
        bool(unsupported(checker.check(text, case)))
        for text, case in zip(sentences, cases, strict=True)
    )
    return {
        "references": text_metrics(sentences, references, written_by="a language model"),
        "control: another pair's": text_metrics(sentences, others, written_by="a language model"),
        "unsupported after checking": wrong,
        "fallbacks": sum(bool(rationale.fallback) for rationale in written),
    }


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python benchmarks/explanation_texts.py yelp_test.jsonl [N]")
    found = measure(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10**9)
    print(json.dumps(found, indent=2))
