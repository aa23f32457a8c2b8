"""What a set of explanations is worth: measured from what was written and what it cites."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dynmm_framework.config.explain import Instructions
from dynmm_framework.data.tables import Histories
from dynmm_framework.evaluation.explanation import (
    counted,
    coverage,
    diversity,
    faithfulness,
    hallucination,
    jaccard,
)
from dynmm_framework.evaluation.significance import holm
from dynmm_framework.explain.cases import Case, Titles
from dynmm_framework.explain.claims import ids_of, unsupported
from dynmm_framework.explain.explanations import Explainer, Explanation
from dynmm_framework.explain.faithfulness import (
    ReadsEvidence,
    Shown,
    evidence_of,
    measure_among_own,
    measure_removals,
)
from dynmm_framework.explain.rationale import Rationale
from dynmm_framework.explain.source import EvidenceSource
from dynmm_framework.explain.writers import LanguageModelWriter, Writer
from dynmm_framework.protocols import IntArray

REPEATED = 60
"""Most explanations that are written again to see whether they cite the same."""
TIMED = 50
"""Most users for whom the time to find evidence is taken."""
PARAPHRASED = Instructions(
    system=(
        "Tell someone in a single plain sentence why they are shown something. Use the reasons that"
        " you are given and nothing else. Do not praise."
    ),
    item="Shown:",
    facts="Reasons:",
    task="Give these reasons in one sentence that begins with “We recommend”.",
)
"""The default instructions in other words."""

Thing = tuple[str, str, int, str]


def summary(explanations: Sequence[Explanation], explainer: Explainer) -> dict[str, Any]:
    """Returns what can be told of explanations as they stand.

    Args:
        explanations: The explanations.
        explainer: Its checker reads every sentence once more.
    """
    written = [explanation.rationale for explanation in explanations]
    cited = [things_of(e.case, e.rationale, explainer.titles) for e in explanations]
    after = [
        len(unsupported(explainer.checker.check(e.rationale.sentence, e.case)))
        for e in explanations
    ]
    before = [len(rationale.found) for rationale in written]
    fallbacks = [rationale.fallback for rationale in written]
    records = Counter(c.extractor for e in explanations for c in e.case.evidence)
    return {
        "explanations": len(explanations),
        "forms": dict(Counter(rationale.form for rationale in written)),
        "writers": dict(Counter(rationale.writer for rationale in written)),
        "coverage": coverage(cited),
        "diversity": diversity(cited),
        "records": {name: count / max(len(explanations), 1) for name, count in records.items()},
        "hallucination": hallucination(before, after),
        "fallbacks": {
            "rate": float(np.mean([bool(reason) for reason in fallbacks])) if fallbacks else None,
            "reasons": dict(counted(fallbacks)),
            "asked_again": sum(bool(r.draft and not r.fallback) for r in written),
        },
    }


def things_of(case: Case, rationale: Rationale, titles: Titles) -> list[Thing]:
    """Returns what a sentence cites, named alike wherever it is the same thing."""
    used = set(ids_of(rationale.claims))
    return [
        # What names nothing, as a trend, is of the recommended item.
        (c.fact.kind, c.fact.group, c.fact.item, name)
        if (name := titles.of(c.fact) or c.fact.passage)
        else (c.fact.kind, c.fact.group, case.item, "")
        for c in case.evidence
        if c.id in used
    ]


def consistency(
    explainer: Explainer,
    writer: Writer,
    histories: Histories,
    items: IntArray,
    explanations: Sequence[Explanation],
    *,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Writes explanations again, with items in another order and instructions in other words.

    Args:
        explainer: Finds the evidence.
        writer: Who wrote them.
        histories: The users.
        items: What is recommended to each, ``(len(histories), k)``.
        explanations: What was written.
        rng: Draws the order.

    Returns:
        Mean Jaccard overlap of what is cited then and before.
    """
    chosen = list(explanations[:REPEATED])
    first = {(e.case.row, e.case.item): e for e in chosen}
    rows = 1 + max((row for row, _ in first), default=-1)
    order = rng.permuted(np.tile(np.arange(items.shape[1]), (rows, 1)), axis=1)
    moved = np.take_along_axis(items[:rows], order, axis=1)
    again = explainer.cases(histories.take(slice(rows)), moved)
    cases = [
        replace(case, rank=first[case.row, case.item].case.rank)
        for case in again
        if (case.row, case.item) in first
    ]
    other = writer
    if isinstance(writer, LanguageModelWriter):
        other = LanguageModelWriter(
            writer.chat,
            writer.template,
            instructions=PARAPHRASED,
            max_new_tokens=writer.max_new_tokens,
            batch=writer.batch,
            attempts=writer.attempts,
            soft=writer.soft,
        )
    overlaps = []
    for case, rationale in zip(cases, other.write(cases), strict=True):
        before = first[case.row, case.item]
        overlaps.append(
            jaccard(
                things_of(case, rationale, explainer.titles),
                things_of(before.case, before.rationale, explainer.titles),
            )
        )
    return {
        "jaccard": float(np.mean(overlaps)) if overlaps else None,
        "n": len(overlaps),
        "varied": "order of the items, words of the instructions"
        if isinstance(writer, LanguageModelWriter)
        else "order of the items",
    }


def faithful(
    recommender: ReadsEvidence,
    source: EvidenceSource,
    histories: Histories,
    candidates: IntArray,
    targets: Sequence[int],
    *,
    rng: np.random.Generator,
    shown: Shown | None = None,
) -> dict[str, Any]:
    """Measures whether a prompt's scores rest on the evidence.

    Args:
        recommender: The prompt.
        source: The extractors.
        histories: The users.
        candidates: The best items of each, best first, ``(len(histories), C)``.
        targets: What each chose in the test; -1 where nothing.
        rng: Draws random evidence.
        shown: Gives what explanations show, for the stricter control; without it there is none.

    Returns:
        For the best recommendation of each user (``recommended``), and for the item that the user
        did choose where it is among the candidates (``target``), each with what came of it among
        the item's own records (``among_own``); and the time that it takes to score a user with and
        without evidence.
    """
    best = [(row, 0) for row in range(len(histories))]
    hits = candidates == np.asarray(targets)[:, None]
    asked = [(int(row), int(hits[row].argmax())) for row in np.flatnonzero(hits.any(axis=1))]
    out: dict[str, Any] = {}
    for name, pairs in (("recommended", best), ("target", asked)):
        removals = measure_removals(recommender, source, histories, candidates, pairs, rng=rng)
        out[name] = faithfulness(removals) if len(removals) else None
        if shown is not None and out[name] is not None:
            own = measure_among_own(
                recommender, source, histories, candidates, pairs, shown=shown, rng=rng
            )
            out[name]["among_own"] = {
                **(faithfulness(own.removals) if len(own.removals) else {"pairs": 0}),
                "shortened": own.shortened,
                "left_out": own.left_out,
            }
    evidence = evidence_of(recommender, source, histories, candidates)
    nothing = evidence.take(np.zeros(len(evidence), np.bool_))
    with_it = _milliseconds(lambda: recommender.score_with(histories, candidates, evidence))
    without = _milliseconds(lambda: recommender.score_with(histories, candidates, nothing))
    users = max(len(histories), 1)
    _correct(out)
    return {**out, "ms_with_evidence": with_it / users, "ms_without": without / users}


def _correct(found: Mapping[str, Any]) -> None:
    """Adds to each test its p-value corrected for the number of all of them (Holm)."""
    parts = [part for whole in found.values() if whole for part in (whole, whole.get("among_own"))]
    tests = [test for part in parts if part and part["pairs"] for test in part["tests"].values()]
    raw = [math.nan if test["t_p"] is None else test["t_p"] for test in tests]
    for test, corrected in zip(tests, holm(raw), strict=True):
        test["t_p_holm"] = None if math.isnan(corrected) else corrected


def too_few(found: Mapping[str, Any]) -> list[str]:
    """Returns notes on items that have too little evidence besides what explanations show.

    Args:
        found: What :func:`faithful` returned.
    """
    notes = []
    for name in ("recommended", "target"):
        own = (found[name] or {}).get("among_own", {"left_out": 0, "shortened": 0})
        of = f"faithfulness among an item's own records, {name}:"
        if own["left_out"]:
            notes.append(
                f"{of} left out where all that the prompt reads is shown, {own['left_out']:,}"
            )
        if own["shortened"]:
            notes.append(
                f"{of} with fewer others than are shown, so that only as many of those shown were"
                f" taken, {own['shortened']:,}"
            )
    return notes


def evidence_ms(source: EvidenceSource, histories: Histories, candidates: IntArray) -> float | None:
    """Returns the median milliseconds to find the evidence of one user and its candidates."""
    times = []
    for row in range(min(len(histories), TIMED)):
        one, asked = histories.take(slice(row, row + 1)), candidates[row : row + 1]
        times.append(_milliseconds(partial(source.find, one, asked)))
    return float(np.median(times)) if times else None


def told(results: Mapping[str, Any]) -> list[str]:
    """Returns what a log says of a result."""
    share = results["hallucination"]
    lines = [
        f"{results['explanations']:,} explanations; {results['coverage'] or 0:.0%} rest on evidence"
    ]
    if again := results["fallbacks"]["asked_again"]:
        lines.append(f"{again:,} were written when asked again, with one reason")
    if results["fallbacks"]["rate"]:
        reasons = ", ".join(f"{n:,} {why}" for why, n in results["fallbacks"]["reasons"].items())
        lines.append(f"{results['fallbacks']['rate']:.0%} gave way to a template's: {reasons}")
    if share["after_checking"]:
        lines.append(f"{share['after_checking']:.0%} still say what the evidence does not")
    return lines


def _milliseconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)
