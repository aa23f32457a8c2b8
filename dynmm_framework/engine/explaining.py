"""The stage that explains recommendations, and explanations of a finished run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from dynmm_framework.artifacts.atomic import write_json
from dynmm_framework.artifacts.store import StageWriter
from dynmm_framework.config.explain import ExplainBlock
from dynmm_framework.config.parts import LanguageModelRef
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.engine.device import guess_device
from dynmm_framework.engine.plan import PlannedStage
from dynmm_framework.engine.seeds import spawn_rng
from dynmm_framework.errors import ArtifactError, DataError, StageError
from dynmm_framework.explain.explanations import EXPLANATIONS_FILE, Explainer, to_table
from dynmm_framework.explain.writers import LanguageModelWriter, Writer
from dynmm_framework.protocols import Context, IntArray
from dynmm_framework.specs import did_you_mean

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run
    from dynmm_framework.engine.stages import Workbench
    from dynmm_framework.engine.vectors import Known

RESULT_FILE = "result.json"
LLM = "explain/llm"
"""Label of the language model that writes."""
CANDIDATES = 20
"""Best items of a user among which evidence is timed and taken away."""


def explain(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Explains the best recommendations of a sample of test users, and measures what came of it."""
    from dynmm_framework.evaluation.ranking import as_recommender, recommend
    from dynmm_framework.explain.faithfulness import reads_evidence
    from dynmm_framework.explain.measures import (
        consistency,
        evidence_ms,
        faithful,
        summary,
        told,
        too_few,
    )

    block = bench.loaded.pipeline.explain
    source = bench.evidence(stage.label, stage.model_seed)
    assert block is not None  # the stage is planned only with both
    assert source is not None
    ctx = bench.context(stage, writer)
    people = _some(bench.test, block.users, bench.loaded.pipeline.seed)
    fitted = bench.fitted(stage.label, stage.model_seed)
    recommender = as_recommender(fitted)
    ranking = recommend(recommender, people.histories, max(CANDIDATES, block.items))
    items, scores = ranking.items[:, : block.items], ranking.scores[:, : block.items]
    explainer = Explainer(source, bench.dataset.items, block, fitted)
    who = make_writer(block, explainer, ctx, fitted, people.histories, items)
    started = time.perf_counter()
    explanations = explainer.explain(people.histories, items, scores, writer=who)
    seconds = time.perf_counter() - started
    users = bench.dataset.users["id"].to_pylist()
    table = to_table(
        explainer.record(found, users[people.users[found.case.row]]) for found in explanations
    )
    pq.write_table(table, writer.folder / EXPLANATIONS_FILE)
    results: dict[str, Any] = {
        "users": len(people),
        "writer": who.name,
        **summary(explanations, explainer),
        "consistency": consistency(
            explainer, who, people.histories, items, explanations, rng=ctx.rng("consistency")
        ),
        "evidence_ms": evidence_ms(source, people.histories, np.maximum(ranking.items, 0)),
        "writing_ms": 1000 * seconds / max(len(explanations), 1),
        "faithfulness": None,
        "notes": [],
    }
    for line in told(results):
        ctx.log(line)
    if not reads_evidence(fitted):
        note = "no faithfulness: no prompt reads the evidence, so no score can rest on it"
        results["notes"].append(note)
    elif block.faithfulness_users:
        few = people.take(slice(block.faithfulness_users))
        kept = slice(len(few))
        whole = np.flatnonzero((ranking.items[kept] >= 0).all(axis=1))
        few, candidates = few.take(whole), ranking.items[kept][whole]
        results["faithfulness"] = faithful(
            fitted,
            source,
            few.histories,
            candidates,
            [int(few.targets[row][-1]) for row in range(len(few))],
            rng=ctx.rng("faithfulness"),
            shown=explainer.shown,
        )
        best = results["faithfulness"]["recommended"]
        if best is None:
            results["notes"].append("no faithfulness: the prompt reads no record of these items")
        elif not best["gain"] and not best["comprehensiveness"]:
            note = "the prompt gives evidence no weight, so taking it away changes no score"
            results["notes"].append(note)
        results["notes"] += too_few(results["faithfulness"])
    results["texts"] = _compared_with_reviews(bench, people, explainer, who, results["notes"])
    write_json(writer.folder / RESULT_FILE, {"schema_version": 1, **results})
    return {"explanations": len(explanations), "writing_seconds": seconds, "device": bench.device}


def make_writer(
    block: ExplainBlock,
    explainer: Explainer,
    ctx: Context,
    fitted: Any = None,
    histories: Histories | None = None,
    items: IntArray | None = None,
) -> Writer:
    """Returns who writes.

    Args:
        block: Settings.
        explainer: Has the templates and the checker.
        ctx: Gives the language model.
        fitted: The recommender; if it is a prompt with soft evidence on the same language model,
            the writer reads that too.
        histories: The users that will be written to.
        items: What is recommended to them.
    """
    if block.writer == "template" or block.llm is None:
        return explainer.template
    from dynmm_framework.language.chat import as_chat_model

    ref = LanguageModelRef(name=block.llm.name, config=block.llm.config)
    chat = as_chat_model(ctx.component(ref), log=ctx.log)
    return LanguageModelWriter(
        chat,
        explainer.template,
        instructions=block.instructions,
        max_new_tokens=block.max_new_tokens,
        attempts=block.attempts,
        soft=_soft_evidence(block, explainer, fitted, histories, items, ctx),
    )


def _soft_evidence(
    block: ExplainBlock,
    explainer: Explainer,
    fitted: Any,
    histories: Histories | None,
    items: IntArray | None,
    ctx: Context,
) -> Any:
    """Returns what gives soft tokens of cases' evidence; ``None`` if no prompt has any to give.

    They are made for one language model, so only that one can read them.
    """
    from dynmm_framework.explain.faithfulness import evidence_of

    made = getattr(fitted, "evidence_embeddings", None)
    config = getattr(fitted, "config", None)
    own = getattr(config, "llm", None)
    if not callable(made) or histories is None or items is None or block.llm is None:
        return None
    if not getattr(config, "evidence_tokens", 1):
        return None
    if own is None or own.name != block.llm.name or own.config != block.llm.config:
        ctx.log("the prompt's language model is another: sentences rest on words alone")
        return None

    def soft(cases: Sequence[Any]) -> Any:
        rows = np.array([case.row for case in cases])
        one = np.array([[case.item] for case in cases], np.int32)
        few = histories.take(rows)
        return made(few, one, evidence_of(fitted, explainer.source, few, one))

    return soft


def _some(people: EvaluationSet, limit: int, seed: int) -> EvaluationSet:
    if limit >= len(people):
        return people
    rng = spawn_rng(seed, "users/explain")
    return people.take(np.sort(rng.choice(len(people), limit, replace=False)))


def _compared_with_reviews(
    bench: Workbench,
    people: EvaluationSet,
    explainer: Explainer,
    who: Writer,
    notes: list[str],
) -> dict[str, Any] | None:
    """Compares sentences about what users chose in the test with what they wrote of it."""
    from dynmm_framework.evaluation.explanation import text_metrics

    reviews = bench.split.test.reviews
    if reviews is None:
        notes.append("no BLEU and ROUGE: the data has no reviews to compare sentences with")
        return None
    test = bench.split.test
    pairs = zip(test.users.tolist(), test.items.tolist(), strict=True)
    written = {pair: text for pair, text in zip(pairs, reviews.to_pylist(), strict=True) if text}
    rows, targets, references = [], [], []
    for row in range(len(people)):
        target = int(people.targets[row][-1])
        if text := written.get((int(people.users[row]), target)):
            rows.append(row)
            targets.append([target])
            references.append(text)
    if not rows:
        notes.append("no BLEU and ROUGE: no explained user wrote a review of a test item")
        return None
    asked = people.histories.take(np.array(rows))
    cases = explainer.cases(asked, np.array(targets, np.int32))
    cases = [replace(case, row=rows[case.row]) for case in cases]  # soft evidence goes by users
    sentences = [rationale.sentence for rationale in who.write(cases)]
    try:
        return text_metrics(sentences, references, written_by="people")
    except StageError as error:
        notes.append(f"no BLEU and ROUGE: {error.message}")
        return None


# A finished run.


def explain_run(
    run: Run,
    user: str,
    items: Iterable[str] | None = None,
    *,
    k: int = 3,
    seed: int | None = None,
    known: Known = "all",
) -> list[dict[str, Any]]:
    """Explains recommendations of a finished run; see :meth:`Run.explain`."""
    from dynmm_framework.evaluation.ranking import recommend

    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    if not pipeline.extractors:
        raise ArtifactError(
            f"run {run.id} has no evidence: its pipeline names no extractors",
            hint="Add them, such as evidence: [cf_neighbours, trend], and run it again.",
        )
    histories = _history(run, user, known)
    source = run.evidence(seed=seed)
    assert source is not None
    block = pipeline.explain or ExplainBlock()
    recommender = run.recommender(seed=seed)
    explainer = Explainer(source, run.dataset.items, block, recommender)
    wanted = None if items is None else _places(run, explainer.ids, items, histories, user)
    depth = k if wanted is None else run.dataset.n_items
    ranking = recommend(recommender, histories, depth)
    if wanted is None:
        chosen = np.arange(k)[ranking.items[0] >= 0]
    else:
        place_of = {int(item): place for place, item in enumerate(ranking.items[0].tolist())}
        chosen = np.array([place_of[item] for item in wanted])
    asked, scores = ranking.items[:, chosen], ranking.scores[:, chosen]
    device = guess_device(pipeline.compute.device)
    ctx = RunContext(Surroundings(run.components), "explain", device=device)
    who = make_writer(block, explainer, ctx, recommender, histories, asked)
    found = explainer.explain(
        histories, asked, scores, writer=who, ranks=[int(place) + 1 for place in chosen]
    )
    return [explainer.record(explanation, user) for explanation in found]


def _history(run: Run, user: str, known: Known) -> Histories:
    """Returns what is taken as known of a user: at least one item."""
    from dynmm_framework.engine.vectors import known_histories

    histories = run.known_history(user)
    ever = bool(histories.lengths[0])
    if known != "all":
        row = run.dataset.users["id"].to_pylist().index(str(user))
        histories = known_histories(run.dataset, run.manifest, known).take(np.array([row]))
    if not histories.lengths[0]:
        before = {"all": "", "test": " before the test", "train": " in the training part"}[known]
        raise DataError(
            f"user {user!r} has no history in dataset {run.dataset.name}{before}: there is nothing "
            "that a recommendation could rest on",
            hint="Take all that is known of the user (known: all)."
            if ever
            else "Name a user with interactions.",
        )
    return histories


def _places(
    run: Run, ids: Sequence[str], items: Iterable[str], histories: Histories, user: str
) -> list[int]:
    """Returns the numbers of items that can be recommended to a user."""
    numbers = {given: number for number, given in enumerate(ids)}
    wanted = list(dict.fromkeys(str(item) for item in items))
    missing = [item for item in wanted if item not in numbers]
    if missing or not wanted:
        names = ", ".join(repr(item) for item in missing[:5]) or "named"
        guess = did_you_mean(missing[0], ids) if missing else ""
        raise DataError(
            f"dataset {run.dataset.name} has no item {names}{guess}",
            hint=f"Item ids are listed in {run.folder / 'data' / 'items.parquet'}.",
        )
    known = set(histories[0].tolist())
    if again := [item for item in wanted if numbers[item] in known]:
        raise DataError(
            f"user {user!r} has chosen item {again[0]!r} already: it is not recommended",
            hint="Name an item that the user does not have; if it is one of the test, take what "
            "was known before (known: test).",
        )
    return [numbers[item] for item in wanted]
