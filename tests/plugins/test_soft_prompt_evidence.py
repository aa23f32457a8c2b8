"""Evidence in soft prompts, on a tiny language model with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prompt_cases import DATA, SMALL, SPLIT, Fixed, context, histories_of, with_weights
from pydantic import ValidationError

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.data.tables import Histories
from dynmm_framework.engine.context import Surroundings
from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.testing.language_models import write_tiny_random
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.mixing import Mixture
from dynmm_plugins.soft_prompt.model import SoftPrompt
from dynmm_plugins.soft_prompt.network import EvidenceHead, EvidenceTokens
from dynmm_plugins.soft_prompt.records import Records, best_of_each, gather, places_of
from dynmm_plugins.soft_prompt.task import PromptTask

WIDTH = 8


class Toy:
    """Evidence of a made-up kind: items of the history that are near the candidate."""

    def __init__(self, *, limit: int = 3, silent: bool = False, cites: bool = True) -> None:
        self.items = Fixed(WIDTH).items
        self.limit, self.silent, self.cites = limit, silent, cites

    def extract(self, histories: Histories, candidates: np.ndarray) -> EvidenceTable:
        rows, columns, references, scores = [], [], [], []
        for row in range(0 if self.silent else len(histories)):
            own = np.unique(histories[row])
            for column, item in enumerate(candidates[row]):
                others = own[own != item]
                near = np.exp(-np.linalg.norm(self.items[others] - self.items[item], axis=1))
                for place in np.argsort(-near, kind="stable")[: self.limit]:
                    rows.append(row)
                    columns.append(column)
                    references.append(others[place])
                    scores.append(near[place])
        return EvidenceTable.of(rows, columns, references, scores, np.ones(len(rows)))

    def facts(self, references: np.ndarray) -> Sequence[Fact]:
        kind: Any = "neighbour" if self.cites else "trend"
        return [Fact(kind, item=int(i) if self.cites else -1) for i in references]

    def vectors(self, references: np.ndarray) -> np.ndarray:
        return self.items[references]


def source(**toys: Any) -> EvidenceSource:
    found: Any = toys or {"near": Toy(), "trend": Toy(limit=1, cites=False)}
    return EvidenceSource(found)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_tiny_random(tmp_path_factory.mktemp("llm"))
    return {"name": "hf_causal", "config": {"model": str(folder)}}


@pytest.fixture(scope="module")
def surroundings() -> Surroundings:
    return Surroundings(load_catalogue())


def fitted(ctx: Any, llm: Any, evidence: EvidenceSource | None, **changed: Any) -> SoftPrompt:
    settings = {**SMALL, "evidence_tokens": 4, "evidence_width": 8, "evidence_examples": 200}
    adapter = SoftPrompt(SoftPromptConfig(**{**settings, "llm": llm, "epochs": 1, **changed}))
    adapter.connect(ctx)
    adapter.fit(SPLIT.training_data(DATA.items), Fixed(), ctx, evidence=evidence)
    return adapter


@pytest.fixture(scope="module")
def trained(
    surroundings: Surroundings, llm: Any, tmp_path_factory: pytest.TempPathFactory
) -> SoftPrompt:
    return fitted(context(surroundings, tmp_path_factory.mktemp("work")), llm, source())


def some(n: int = 5, width: int = 6) -> tuple[Histories, np.ndarray]:
    rng = np.random.default_rng(1)
    histories = SPLIT.evaluation("test").histories.take(slice(0, n))
    candidates = np.stack([rng.permutation(DATA.n_items)[:width] for _ in range(n)])
    return histories, candidates.astype(np.int32)


class Counted(Toy):
    """Notes which pairs it is asked to leave itself out of."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[tuple[Histories, np.ndarray, np.ndarray]] = []

    def extract_without_own(
        self, histories: Histories, candidates: np.ndarray, own: np.ndarray
    ) -> EvidenceTable:
        self.left_out.append((histories, candidates, own))
        return self.extract(histories, candidates)


def test_training_examples_are_asked_about_without_themselves(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    counted = Counted()
    ctx = context(surroundings, tmp_path / "work")
    fitted(ctx, llm, source(near=counted), scorer="direct")
    assert len(counted.left_out) == 2  # the evidence's own head, and the prompt
    training = SPLIT.train.histories()
    ever = [set(training[row].tolist()) for row in range(len(training))]
    for histories, candidates, own in counted.left_out:
        assert own.any(axis=1).all()  # the item that follows is among them
        for row in range(len(histories)):
            prefix = histories[row].tolist()
            users = [
                u for u in range(len(training)) if training[u][: len(prefix)].tolist() == prefix
            ]
            chosen = candidates[row][own[row]].tolist()
            assert any(set(chosen) == (ever[u] - set(prefix)) & set(candidates[row]) for u in users)


# Records.


def test_records_are_gathered_as_they_are() -> None:
    histories = histories_of([[3, 7, 3, 9], []], DATA.n_items)
    table = EvidenceTable.of([0, 0, 0], [1, 1, 0], [3, 9, 20], [0.2, 0.9, 0.5], [1, 2, 0])
    evidence = Evidence(table, np.zeros(3, np.int16))
    records = gather(
        source(near=Toy()), evidence, histories,
        candidates=2, dim=WIDTH, standardise=lambda vectors: 2 * vectors,
    )  # fmt: skip
    assert records.places.shape == (2, 2, 2)
    np.testing.assert_array_equal(
        records.present, [[[True, False], [True, True]], [[False, False]] * 2]
    )
    np.testing.assert_allclose(records.vectors[0, 1], 2 * Fixed(WIDTH).items[[9, 3]])
    assert not records.vectors[1].any()
    # score, log of support, in the history, log of the items chosen since: 3 is newest at 1.
    expected = [[0.9, np.log1p(2), 1, 0], [0.2, np.log1p(1), 1, np.log1p(1)]]
    np.testing.assert_allclose(records.numbers[0, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(records.numbers[0, 0, 0], [0.5, 0, 0, 0])
    turned = records.reordered(np.array([[1, 0], [0, 1]]))
    np.testing.assert_array_equal(turned.numbers[0, 0], records.numbers[0, 1])
    left = records.without(np.array([1, 0]))
    assert not left.present[0, 1].any()
    assert left.present[0, 0].any()


def test_of_each_extractor_the_best_records_of_a_pair_are_read() -> None:
    table = EvidenceTable.of([0] * 6, [0] * 6, range(6), [0.1, 0.9, 0.5, 0.8, 0.7, 0.2])
    owners = np.array([0, 0, 1, 1, 0, 1], np.int16)  # by falling score
    evidence = best_of_each(Evidence(table, owners), 2)
    assert evidence.table.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.5])
    assert evidence.extractors.tolist() == [0, 0, 1, 1]
    assert places_of(evidence).tolist() == [0, 1, 2, 3]


def test_evidence_of_other_users_is_refused() -> None:
    table = EvidenceTable.of([3], [0], [1], [0.5])
    with pytest.raises(ValueError, match="beyond 1 and 2"):
        gather(
            source(near=Toy()), Evidence(table, np.zeros(1, np.int16)),
            histories_of([[1]], DATA.n_items),
            candidates=2, dim=WIDTH, standardise=lambda vectors: vectors,
        )  # fmt: skip


def random_records(rng: np.random.Generator, *shape: int) -> Records:
    return Records(
        rng.normal(size=(9, WIDTH)).astype(np.float32),
        rng.integers(-1, 9, shape).astype(np.int32),
        rng.normal(size=(*shape, 4)).astype(np.float32),
        rng.integers(0, 2, shape).astype(np.int16),
    )


def test_the_head_is_a_sum_in_which_no_record_speaks_against_its_candidate() -> None:
    rng = np.random.default_rng(0)
    head = EvidenceHead(WIDTH, 2, 16)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    records = random_records(rng, 3, 4, 5)
    latents = rng.normal(size=(3, 4, WIDTH)).astype(np.float32)
    parts = head.all_parts(records, latents)
    assert (parts >= 0).all()
    assert not parts[~records.present].any()
    left = head.all_parts(records.without(np.array([0, 1, 3])), latents)
    kept = np.ones((3, 4), bool)
    kept[np.arange(3), [0, 1, 3]] = False
    np.testing.assert_allclose(left[kept], parts[kept], rtol=1e-6)
    assert not left[~kept].any()


def test_tokens_are_as_many_with_more_records_fewer_or_none(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    model = context(surroundings, tmp_path / "work").component(SoftPromptConfig(llm=llm).llm)
    tokens = EvidenceTokens(8, 5, 16, model)
    encoded = torch.randn(2, 3, 40, 8)
    present = torch.zeros(2, 3, 40, dtype=torch.bool)
    present[0, 1] = True
    found = tokens(encoded, present)
    assert found.shape == (2, 5, model.hidden_size)
    torch.testing.assert_close(
        found.norm(dim=-1), torch.full((2, 5), model.embedding_norm()), rtol=1e-4, atol=0
    )
    other = tokens(torch.randn(2, 3, 40, 8) + encoded * present[..., None], present)
    assert not torch.allclose(other[0], found[0])
    torch.testing.assert_close(other[1], found[1])  # what is absent is not read
    shuffled = torch.randperm(40)
    torch.testing.assert_close(tokens(encoded[:, :, shuffled], present[:, :, shuffled]), found)


def test_the_loss_of_sentences_is_lowered_and_their_evidence_can_be_read(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    ctx = context(surroundings, tmp_path / "work", validate=False)
    adapter = fitted(ctx, llm, source(near=Toy()), nlp_weight=1.0, faith_weight=0.0)
    histories, candidates = some(4, 3)
    asked = replace(adapter._stands().given(histories, candidates), targets=np.array([2, 0, 1, 1]))
    scorer: Any = adapter._ready()
    assert adapter._grounds is not None
    targets = candidates[np.arange(4), asked.targets].astype(np.int64)
    texts = adapter._grounds.sentences(histories, targets, DATA.items)
    titles = DATA.items["title"].to_pylist()
    assert all(
        titles[item].split(" (")[0] in text for item, text in zip(targets, texts, strict=True)
    )
    found = tuple(map(scorer.sentence, texts))
    question = replace(adapter._grounds.question(asked), texts=found)
    search = torch.optim.Adam(scorer.parts.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        search.zero_grad()
        loss = scorer.text_loss(question)
        loss.backward()
        search.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    evidence = adapter.evidence_for(histories, candidates)
    tokens: Any = adapter.evidence_embeddings(histories, candidates, evidence)
    assert tokens.shape == (4, 4, scorer.llm.hidden_size)


# The adapter.


@pytest.mark.parametrize(
    "changed",
    [
        {"scorer": "slots"},
        {"scorer": "slots", "slots": "after", "evidence_at": "candidates"},
        {"scorer": "slots", "evidence_at": "segment", "evidence_head": False},
        {"scorer": "log_prob"},
        {"scorer": "direct"},
        {"scorer": "direct", "faith": "as_printed"},
    ],
)
def test_evidence_is_learned_from_and_no_weight_of_the_model_changes(
    surroundings: Surroundings, llm: Any, tmp_path: Path, changed: dict[str, Any]
) -> None:
    ctx = context(surroundings, tmp_path / "work")
    model = ctx.component(SoftPromptConfig(llm=llm).llm)
    before = model.weights_digest()
    adapter = fitted(ctx, llm, source(), **changed)
    assert model.weights_digest() == before
    head = changed.get("evidence_head", True)
    assert ("evidence_head" in ctx.records) == head
    assert ("training_evidence" in ctx.records) == head
    with_weights(adapter, 1.0, eta=float(head))
    histories, candidates = some()
    evidence = adapter.evidence_for(histories, candidates)
    own = adapter.score_with(histories, candidates, evidence)
    assert np.isfinite(own).all()
    np.testing.assert_array_equal(own, adapter.score_with(histories, candidates, evidence))
    none = adapter.score_with(histories, candidates, None)
    empty = adapter.score_with(histories, candidates, evidence.take(np.empty(0, np.int64)))
    np.testing.assert_allclose(none, empty, atol=1e-5)
    scorer: Any = adapter._ready()
    if head or scorer.llm is not None:
        assert not np.allclose(own, none)
    counts = adapter._ready().segment_tokens(adapter._stands().given(histories, candidates))
    segment = changed.get("scorer") != "direct" and changed.get("evidence_at") != "candidates"
    opening = 0 if not segment else len(scorer.writer.text.literal("\nEvidence:"))
    assert counts.get("evidence", 0) == (4 + opening if segment else 0)


def test_records_of_a_candidate_speak_for_it_alone_by_the_head(trained: SoftPrompt) -> None:
    with_weights(trained, 0.0, eta=2.0)
    histories, candidates = some()
    evidence = trained.evidence_for(histories, candidates)
    scores = trained.score_with(histories, candidates, evidence)
    parts = trained.evidence_parts(histories, candidates, evidence)
    gone = (evidence.table.rows == 1) & (evidence.table.columns == 2)
    assert gone.any()
    left = trained.score_with(histories, candidates, evidence.take(~gone))
    expected = scores.copy()
    expected[1, 2] -= parts[gone].sum()
    np.testing.assert_allclose(left, expected, atol=1e-5)


def test_a_candidate_s_own_evidence_moves_its_own_slot(trained: SoftPrompt) -> None:
    with_weights(trained, 1.0)
    scorer: Any = trained._ready()
    torch.nn.init.normal_(scorer.parts.head.score.weight)
    histories, candidates = some()
    evidence = trained.evidence_for(histories, candidates)
    whole = trained.score_with(histories, candidates, evidence)
    left = trained.score_with(histories, candidates, evidence.take(evidence.table.rows != 1))
    np.testing.assert_allclose(whole[[0, 2, 3, 4]], left[[0, 2, 3, 4]], atol=1e-4)
    assert not np.allclose(whole[1], left[1], atol=1e-4)


def test_the_ranking_is_that_of_the_scores_with_the_evidence_found(trained: SoftPrompt) -> None:
    with_weights(trained, 0.7, eta=1.3)
    histories, candidates = some()
    ranked = trained.score(histories, candidates)
    mixed = trained.score_with(histories, candidates, trained.evidence_for(histories, candidates))
    np.testing.assert_array_equal(np.argsort(-ranked, axis=1), np.argsort(-mixed, axis=1))


def test_the_order_of_candidates_does_not_matter(trained: SoftPrompt) -> None:
    with_weights(trained, 1.0, eta=1.0)
    histories, candidates = some()
    turned = candidates[:, ::-1].copy()
    np.testing.assert_allclose(
        trained.score(histories, candidates), trained.score(histories, turned)[:, ::-1], atol=1e-4
    )


def test_users_and_items_without_evidence_are_ranked(
    trained: SoftPrompt, surroundings: Surroundings, tmp_path: Path
) -> None:
    with_weights(trained, 1.0, eta=1.0)
    odd = histories_of([[], [3], [5] * 40, list(range(DATA.n_items))], DATA.n_items)
    assert np.isfinite(trained.score(odd)).all()
    other = SoftPrompt(trained.config)
    other.connect(context(surroundings, tmp_path / "work"))
    other.load_state(trained.get_state())
    silent = source(near=Toy(silent=True), trend=Toy(silent=True))
    other.attach(Fixed(), evidence=silent)
    histories, candidates = some()
    np.testing.assert_allclose(
        other.score_with(histories, candidates, other.evidence_for(histories, candidates)),
        trained.score_with(histories, candidates, None),
        atol=1e-5,
    )


def test_extractors_that_find_nothing_leave_retrieval_s_order(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    ctx = context(surroundings, tmp_path / "work")
    adapter = fitted(ctx, llm, source(near=Toy(silent=True)), scorer="direct")
    assert adapter._weights.evidence == 0
    assert np.isfinite(adapter.score(some()[0])).all()


def test_more_records_than_tokens_are_all_read(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    ctx = context(surroundings, tmp_path / "work", validate=False)
    many = source(near=Toy(limit=30))
    adapter = fitted(ctx, llm, many, evidence_tokens=2, evidence_per_item=30)
    histories, candidates = some(2)
    evidence = adapter.evidence_for(histories, candidates)
    assert len(evidence) > 6 * 2 * 2
    with_weights(adapter, 1.0, eta=1.0)
    parts = adapter.evidence_parts(histories, candidates, evidence)
    assert (parts > 0).all()
    assert np.isfinite(adapter.score_with(histories, candidates, evidence)).all()


def test_a_restored_adapter_scores_the_same(
    trained: SoftPrompt, surroundings: Surroundings, tmp_path: Path
) -> None:
    with_weights(trained, 0.5, eta=1.5)
    state = trained.get_state()
    other = SoftPrompt(trained.config)
    other.connect(context(surroundings, tmp_path / "work"))
    other.load_state(state)
    other.attach(Fixed(), evidence=source())
    assert other._weights == Mixture(1.0, 1.5, 0.5)
    histories, candidates = some()
    np.testing.assert_allclose(other.score(histories), trained.score(histories), atol=1e-5)
    evidence = trained.evidence_for(histories, candidates)
    np.testing.assert_allclose(
        other.score_with(histories, candidates, evidence),
        trained.score_with(histories, candidates, evidence),
        atol=1e-5,
    )
    assert set(other.get_state()) == set(state)
    np.testing.assert_array_equal(other.get_state()["weights/values"], state["weights/values"])


@pytest.mark.parametrize("given", [None, "other", "fewer"])
def test_other_evidence_than_it_was_trained_with_is_refused(
    trained: SoftPrompt, given: str | None
) -> None:
    with_weights(trained, 0.0)
    other = SoftPrompt(trained.config)
    other.load_state(trained.get_state())
    found = {
        None: None,
        "other": source(near=Toy(), far=Toy()),
        "fewer": source(near=Toy()),
    }[given]
    with pytest.raises(StageError, match="trained with evidence of near, trend") as caught:
        other.attach(Fixed(), evidence=found)
    assert "same order" in str(caught.value.hint)


def test_no_tokens_are_no_evidence_at_all(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    states = []
    for number, (evidence, tokens) in enumerate([(source(), 0), (None, 4)]):
        ctx = context(surroundings, tmp_path / str(number))
        adapter = fitted(ctx, llm, evidence, evidence_tokens=tokens, scorer="direct")
        assert not len(adapter.evidence_for(*some()))
        states.append(adapter.get_state())
    assert set(states[0]) == set(states[1])
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])


def test_more_than_32_tokens_are_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 32"):
        SoftPromptConfig(evidence_tokens=33)


def test_micro_batches_add_up(trained: SoftPrompt) -> None:
    histories = SPLIT.evaluation("test").histories.take(slice(0, 7))
    asked = replace(trained._stands().asked(histories, 5), targets=np.arange(7) % 5)
    scorer: Any = trained._ready()
    task = PromptTask(scorer, trained._question(asked), trained.score)
    gradients = []
    for parts in ([(task.examples, 1.0)], task.divided(task.examples)):
        task.module.zero_grad()
        for part, share in parts:
            (share * task.loss(part)).backward()
        gradients.append([p.grad.clone() for p in task.module.parameters()])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-3, atol=1e-5)


def test_gradients_reach_the_encoder_of_evidence_through_the_model(trained: SoftPrompt) -> None:
    histories, candidates = some(3, 4)
    scorer: Any = trained._ready()
    torch.nn.init.normal_(scorer.parts.head.score.weight)
    scorer.parts.zero_grad()
    question = trained._question(trained._stands().given(histories, candidates))
    scorer.scores(question).std().backward()
    parts = scorer.parts
    for parameter in (parts.records.numbers.weight, parts.evidence.queries, parts.pairs.weight):
        assert parameter.grad.norm() > 0
