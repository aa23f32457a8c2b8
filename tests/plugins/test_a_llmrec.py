"""A-LLMRec: its two stages, its scores, and its items without interactions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.data.features import Features
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.engine.run import run
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.ranking import recommend
from dynmm_framework.language.retrieval import ndcg_among
from dynmm_framework.testing import BaselineConformance, ContextFactory, generate_dataset
from dynmm_framework.testing.conformance.component import require
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.a_llmrec import scorer
from dynmm_plugins.a_llmrec.config import ALLMRecConfig, MatchingConfig
from dynmm_plugins.a_llmrec.inputs import Items, Questions
from dynmm_plugins.a_llmrec.network import JointSpace
from dynmm_plugins.a_llmrec.task import MatchingTask, TitleTask

N_ITEMS = 20
SHORT = {"history": "\nA:", "candidates": "\nB:", "task": "\nC:", "title_tokens": 9, "user": ""}
"""A token is a byte here."""
TINY: dict[str, Any] = {
    "llm": "tiny_random",
    "backbone": {"name": "bpr_mf", "config": {"dim": 8, "epochs": 1}},
    "encoder": {"name": "tfidf_text", "config": {"dim": 6}},
    "matching": {"dim": 8, "epochs": 2, "prefixes": 3, "batch_size": 32},
    "candidates": 5,
    "history": 3,
    "examples": 12,
    "validation_users": 6,
    "epochs": 3,
    "batch_size": 6,
    "learning_rate": 0.01,
    "template": {"system": "", **SHORT},
}


@pytest.fixture(scope="session")
def dynmm_dataset() -> Dataset:
    return generate_dataset(n_users=24, n_items=N_ITEMS, interactions_per_user=(4, 9))


class TestALLMRecConformance(BaselineConformance):
    component: ClassVar[str] = "a_llmrec"
    config: ClassVar[dict[str, Any]] = TINY

    def test_candidates_score_as_in_the_whole_catalogue(
        self, fitted: Any, histories: Histories
    ) -> None:
        # The prompt lists the candidates, so they are one question: asked for the same items, it
        # gives the same order, whichever way and order they come in.
        few = histories.take(slice(6))
        everything = self.scores(fitted, few)
        known = everything.copy()
        known[few.rows, few.items] = -np.inf
        top = np.argsort(-known, axis=1, kind="stable")[:, :5].astype(np.int32)
        listed = self.scores(fitted, few, top)
        require(bool((np.diff(listed, axis=1) <= 0).all()), "another order than in the catalogue")
        turned = self.scores(fitted, few, top[:, ::-1])[:, ::-1]
        np.testing.assert_allclose(turned, listed, rtol=1e-5)
        chosen = np.take_along_axis(everything, top.astype(int), axis=1)
        np.testing.assert_allclose(1 - 1 / chosen, listed, rtol=1e-4)

    def test_metrics_are_in_the_expected_range(self, fitted: Any, histories: Histories) -> None:
        # Random weights know nothing of anybody's taste; what is learned is tested below.
        scores = self.scores(fitted, histories)
        require(bool((scores.std(axis=1) > 0).all()), "all titles score the same")
        require(bool((scores.std(axis=0) > 0).any()), "all histories score the same")

    def test_training_on_a_gpu_scores_like_on_the_cpu(self) -> None:
        pytest.skip("random weights: scores say nothing")


@pytest.fixture
def make(dynmm_catalogue: Catalogue):
    component = dynmm_catalogue.find("baseline", "a_llmrec")
    return lambda **settings: dynmm_catalogue.create(component, {**TINY, **settings})


@pytest.fixture
def data(dynmm_split: Split, dynmm_dataset: Dataset) -> TrainingData:
    return dynmm_split.training_data(dynmm_dataset.items)


def with_titles(data: TrainingData, titles: list[str | None]) -> TrainingData:
    column = pa.array([titles[i % len(titles)] for i in range(len(data.items))], pa.string())
    place = data.items.column_names.index("title")
    items = data.items.set_column(place, "title", column)
    return TrainingData(data.train, items)


def test_training_finds_targets_and_changes_neither_model_nor_backbone(
    make, data: TrainingData, dynmm_context: ContextFactory
) -> None:
    ctx = dynmm_context(validate=False)
    model = make(epochs=15, examples=24)
    llm = ctx.component(model.config.llm)
    before = llm.weights_digest()
    model.fit(data, ctx)
    assert llm.weights_digest() == before
    for name, values in load_arrays(ctx.workdir / "backbone.safetensors").items():
        np.testing.assert_array_equal(model._backbone.get_state()[name], values)  # as it began
    first = [epoch["loss"] for epoch in ctx.records["matching"]["epochs"]]
    assert first[-1] < first[0]
    losses = [epoch["loss"] for epoch in model.training_log.epochs]
    assert losses[-1] < losses[0]
    questions = model._standing(model._examples(data, ctx))

    def ndcg(scorer: Any) -> float:
        found = []
        for seed in range(5):
            lists = questions.candidates(5, rng=np.random.default_rng(seed))
            scores = np.stack(scorer.scores(questions.histories, questions.users, list(lists)))
            places = (lists == questions.targets[:, None]).argmax(axis=1)
            found.append(ndcg_among(scores, places).mean())
        return float(np.mean(found))

    with seeded(ctx, "initialise"):
        untrained = model._read(ctx)
    assert ndcg(model._scorer) > ndcg(untrained) + 0.05


def test_titles_users_and_items_decide_the_scores(
    make, data: TrainingData, dynmm_context: ContextFactory
) -> None:
    model = make()
    model.fit(with_titles(data, ["Heat", None, " \u200b", "לילה", "a\nb"]), dynmm_context())
    asked = np.array([[0, 1, 2, 3, 4, 5, 3]], np.int32)
    (scores,) = model.score(Histories.of([[0, 1, 2]], N_ITEMS), asked)
    assert scores[1] == scores[2] == -10_000
    assert (scores[[0, 3, 4, 5]] > -1000).all()
    assert scores[3] == scores[6]  # one item, asked for twice
    assert scores[0] == pytest.approx(scores[5], rel=1e-5)  # the same title
    histories = Histories.of([[0, 1, 2], [9, 8, 7], []], N_ITEMS)
    found = model.score(histories, np.repeat(asked, 3, axis=0))
    assert (found[:, [0, 3, 4]].std(axis=0) > 0).all()


def test_a_score_is_that_of_the_whole_title_however_long(
    make, data: TrainingData, dynmm_context: ContextFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is listed are alternatives: by the mean of its tokens a long title would be copied best.
    model = make()
    model.fit(with_titles(data, ["A", "Long one"]), dynmm_context(validate=False))
    means = np.array([-3.0, -0.5], np.float32)
    monkeypatch.setattr(scorer, "log_prob", lambda *_, **__: [means])
    (scores,) = model.score(Histories.of([[2, 3]], N_ITEMS), np.array([[0, 1]], np.int32))
    lengths = [len(answer) for answer in model._scorer.answers[:2]]
    listed = np.argsort(model._places[[0, 1]], kind="stable")
    wanted = np.empty(2)
    wanted[listed] = means * np.array(lengths)[listed]
    np.testing.assert_allclose(scores, wanted)


def test_candidates_beyond_the_context_are_refused_in_words(
    make, data: TrainingData, dynmm_context: ContextFactory
) -> None:
    model = make(llm={"name": "tiny_random", "config": {"context_length": 120}})
    model.fit(data, dynmm_context(validate=False))
    histories = Histories.of([[0, 1]], N_ITEMS)
    assert np.isfinite(model.score(histories)).all()
    everything = np.arange(N_ITEMS, dtype=np.int32)[None]
    with pytest.raises(StageError, match="longer than the context of 120"):
        model.score(histories, everything)


def test_the_backbone_s_best_are_reranked_and_the_rest_stays_below(
    make, data: TrainingData, dynmm_context: ContextFactory
) -> None:
    model = make()
    model.fit(data, dynmm_context())
    histories = Histories.of([[0, 1], [], [3]], N_ITEMS)
    scores = model.score(histories)
    base = model._retrieval.users(histories) @ model._retrieval.items.T
    known = base.copy()
    known[histories.rows, histories.items] = -np.inf
    top = np.argsort(-known, axis=1, kind="stable")[:, :5]
    for row in range(3):
        others = np.setdiff1d(np.arange(N_ITEMS), top[row])
        assert scores[row][top[row]].min() > scores[row][others].max()
        by_base = others[np.argsort(-base[row][others], kind="stable")]
        assert (np.diff(scores[row][by_base]) <= 0).all()
    assert recommend(model, histories, 8).items.shape == (3, 8)  # any cut-off


def test_items_without_interactions_enter_by_their_texts(
    make, data: TrainingData, dynmm_context: ContextFactory
) -> None:
    model, ctx = make(), dynmm_context()
    model.fit(data, ctx)
    counts = data.train.item_counts()
    cold = np.flatnonzero(counts == 0)
    assert len(cold)
    np.testing.assert_array_equal(model._items.cold, cold)
    space = {k: torch.from_numpy(v.copy()) for k, v in model._space.items()}
    text = model._text(data, ctx)
    rows = text.vectors[text.present]
    standard = (text.vectors - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-6)
    for item in cold[text.present[cold]]:
        joint = torch.sigmoid(
            torch.from_numpy(standard[item]) @ space["text_in.weight"].T + space["text_in.bias"]
        )
        np.testing.assert_allclose(model._items.joint[item], joint.numpy(), atol=1e-5)
    own = np.asarray(model._backbone.item_vectors())
    np.testing.assert_array_equal(model._retrieval.items[counts > 0], own[counts > 0])
    assert not np.allclose(model._retrieval.items[cold], own[cold])


def matching(
    data: TrainingData, ctx: Any, vectors: np.ndarray, text: Features, **weights: float
) -> MatchingTask:
    class Fixed:
        def item_vectors(self) -> np.ndarray:
            return vectors

        def user_vectors(self, histories: Histories) -> np.ndarray:
            return np.ones((len(histories), vectors.shape[1]), np.float32)

    torch.manual_seed(0)
    return MatchingTask(
        JointSpace(vectors.shape[1], text.dim, 4), Fixed(), text, data.histories,
        Histories.of([[0], [1]], N_ITEMS), np.array([0, 1]), np.array([2, 3]),
        MatchingConfig(**weights), ctx,
    )  # fmt: skip


def test_the_first_stage_s_loss_is_the_paper_s(
    data: TrainingData, dynmm_context: ContextFactory
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(3, 2, (N_ITEMS, 5)).astype(np.float32)
    present = np.ones(N_ITEMS, bool)
    present[3] = False
    text = Features(
        np.where(present[:, None], rng.normal(size=(N_ITEMS, 6)), 0).astype(np.float32), present
    )
    task = matching(data, dynmm_context(), vectors, text)
    negatives = np.array([4, 5], np.int32)
    found = float(task.loss((np.array([0, 1]), negatives)).detach())

    warm = data.train.item_counts() > 0
    mean, std = vectors[warm].mean(axis=0), vectors[warm].std(axis=0)
    written = text.vectors[present]
    space = {k: v.numpy() for k, v in task.module.state_dict().items()}

    def layer(x: np.ndarray, name: str) -> np.ndarray:
        return x @ space[f"{name}.weight"].T + space[f"{name}.bias"]

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    items = np.array([2, 3, 4, 5])
    e = (vectors[items] - mean) / std
    t = (text.vectors[items] - written.mean(axis=0)) / written.std(axis=0)
    joint, texts = sigmoid(layer(e, "item_in")), sigmoid(layer(t, "text_in"))
    back = layer(joint, "item_out")
    logits = (back * std + mean).sum(axis=1)  # users are ones
    told = -np.log(sigmoid(logits[:2])).mean() - np.log(sigmoid(-logits[2:])).mean()
    has = present[items]
    expected = told + ((joint - texts)[has] ** 2).mean() + 0.5 * ((back - e) ** 2).mean()
    expected += 0.2 * ((layer(texts, "text_out") - t)[has] ** 2).mean()
    assert found == pytest.approx(expected, rel=1e-4)


def test_negatives_are_what_a_user_has_not_and_what_somebody_has(
    data: TrainingData, dynmm_context: ContextFactory
) -> None:
    vectors = np.random.default_rng(0).normal(size=(N_ITEMS, 5)).astype(np.float32)
    text = Features(vectors, np.ones(N_ITEMS, bool))
    task = matching(data, dynmm_context(), vectors, text)
    warm = set(np.flatnonzero(data.train.item_counts()))
    for seed in range(30):
        for rows, negatives in task.batches(np.random.default_rng(seed)):
            for row, negative in zip(rows, negatives, strict=True):
                assert negative in warm - set(data.histories[task.owners[row]])


def test_a_target_is_among_its_candidates_once_and_known_items_are_not() -> None:
    known = Histories.of([[0, 1, 2, 2], range(N_ITEMS), [5]], N_ITEMS)
    questions = Questions(known, np.zeros((3, 1), np.float32), known, np.array([2, 7, 5]))
    positions = set()
    for seed in range(40):
        drawn = questions.candidates(6, rng=np.random.default_rng(seed))
        assert drawn.shape == (3, 6)
        for row, target in enumerate(questions.targets):
            assert len(set(drawn[row])) == 6
            assert (drawn[row] == target).sum() == 1
        positions.add(int(np.flatnonzero(drawn[0] == 2)[0]))
        assert not set(drawn[0]) & {0, 1}
    assert positions == set(range(6))
    again = questions.candidates(6, rng=np.random.default_rng(39))
    np.testing.assert_array_equal(again, drawn)
    assert questions.candidates(99, rng=np.random.default_rng(0)).shape == (3, N_ITEMS)


def test_micro_batches_add_up(make, data: TrainingData, dynmm_context: ContextFactory) -> None:
    model = make(epochs=1, micro_batch=2)
    model.fit(data, dynmm_context(validate=False))
    questions = model._standing(model._examples(data, dynmm_context())).take(np.arange(5))
    task = TitleTask(model._scorer, questions, model.score)
    (batch,) = list(task.batches(np.random.default_rng(0)))
    gradients = []
    for parts in ([(batch, 1.0)], task.divided(batch)):
        task.module.zero_grad()
        for part, share in parts:
            (share * task.loss(part)).backward()
        gradients.append([p.grad.clone() for p in task.module.parameters()])
    assert [len(part[0]) for part, _ in task.divided(batch)] == [2, 2, 1]
    for whole, summed in zip(*gradients, strict=True):
        assert float(whole.abs().max()) > 0
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-6)


def test_data_without_titles_and_use_without_training_are_refused_in_words(
    make, data: TrainingData, dynmm_context: ContextFactory
) -> None:
    without = TrainingData(data.train, data.items.drop_columns(["title"]))
    with pytest.raises(StageError, match="a_llmrec reads titles, and no item has one"):
        make().fit(without, dynmm_context())
    with pytest.raises(StageError, match="ALLMRec is not fitted"):
        make().score(Histories.of([[]], 3))


def test_items_and_settings_survive_being_stored() -> None:
    items = Items(np.ones((3, 2), np.float32), np.array([], np.int64), np.ones((0, 4), np.float32))
    assert Items.restore(items.state()).decoded.shape == (0, 4)
    halves = ALLMRecConfig(batch_size=16).divided(2)
    assert (halves.batch_size, halves.matching.batch_size) == (8, 64)


def test_a_pipeline_names_all_parts_and_ranks_stored_candidates_and_the_catalogue(
    tmp_path: Path, dynmm_dataset: Dataset, dynmm_catalogue: Catalogue
) -> None:
    folder = dynmm_dataset.save(tmp_path / "data")
    settings = {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(folder)}},
        "split": {"strategy": "leave_one_out"},
        "baseline": {"name": "A-LLMRec", "config": {**TINY, "epochs": 1, "examples": 6}},
        "evaluate": {"protocols": ["full", {"sampled": 4}], "at": [1, 3, 10], "max_users": 8},
    }
    loaded = load_pipeline(settings, catalogue=dynmm_catalogue)
    done = run(loaded, runs_dir=tmp_path / "runs", offline=True)
    found = done.metrics["recommenders"]["a_llmrec"]
    assert {"hit@1", "ndcg@3", "hit@10"} <= set(found["full"])
    assert "hit@3" in found["sampled:4"]
    components = read_json(done.folder / "manifest.json")["components"]
    for part, name in (("llm", "tiny_random"), ("backbone", "bpr_mf"), ("encoder", "tfidf_text")):
        assert components[f"a_llmrec/{part}"].endswith(f"/{name}")
    assert len(done.recommend(history=["i0", "i1"], k=12)) == 12
