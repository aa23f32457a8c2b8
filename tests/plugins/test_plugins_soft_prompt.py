"""Soft prompts on a tiny language model with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prompt_cases import DATA, SMALL, SPLIT, Fixed, context, fitted, histories_of, with_weights

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import StageError
from dynmm_framework.language.retrieval import Asked, Retrieval
from dynmm_framework.testing.language_models import write_tiny_random
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.mixing import Mixture, PromptLength, add_language_model
from dynmm_plugins.soft_prompt.model import SoftPrompt
from dynmm_plugins.soft_prompt.records import Question
from dynmm_plugins.soft_prompt.task import PromptTask


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_tiny_random(tmp_path_factory.mktemp("llm"))
    return {"name": "hf_causal", "config": {"model": str(folder)}}


@pytest.fixture(scope="module")
def surroundings() -> Surroundings:
    return Surroundings(load_catalogue())


@pytest.fixture(scope="module")
def trained(
    surroundings: Surroundings, llm: Any, tmp_path_factory: pytest.TempPathFactory
) -> SoftPrompt:
    ctx = context(surroundings, tmp_path_factory.mktemp("work"))
    return fitted(ctx, llm, Fixed())


def test_noise_gets_no_weight_most_of_the_time(surroundings: Surroundings, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    accepted = 0
    for turn in range(20):
        base = rng.normal(size=(100, 8)).astype(np.float32)
        targets = (base + rng.gumbel(size=base.shape)).argmax(axis=1)
        noise = rng.normal(size=base.shape).astype(np.float32)
        histories = histories_of([[1]] * 100, DATA.n_items)
        none = np.zeros((100, 8))
        asked = Asked(histories, none.astype(np.float32), none.astype(np.int32), base, targets)
        ctx = context(surroundings, tmp_path / str(turn))
        found = add_language_model(
            Mixture(),
            asked,
            before=base,
            scores=noise,
            rng=ctx.rng("folds"),
            ctx=ctx,
            length=PromptLength(0, 0, {}, batch=8, seconds_a_batch=0.5),
        )
        accepted += found.language_model != 0
        assert found.language_model >= 0
        assert found == Mixture() or ctx.records["prompt"]["gamma"] == found.language_model
    assert accepted <= 5


def test_an_item_that_is_twice_among_the_candidates_has_one_score(trained: SoftPrompt) -> None:
    with_weights(trained, 5.0)
    histories = SPLIT.evaluation("test").histories.take(slice(0, 2))
    candidates = np.array([[4, 2, 3, 4, 9], [1, 1, 1, 5, 6]], np.int32)
    scores = trained.score(histories, candidates)
    assert scores[0, 0] == scores[0, 3]
    assert scores[1, 0] == scores[1, 1] == scores[1, 2]


def test_a_single_candidate_is_scored_by_the_mixture(trained: SoftPrompt) -> None:
    histories = SPLIT.evaluation("test").histories.take(slice(0, 3))
    alone = [
        with_weights(trained, gamma).score(histories, np.array([[4]] * 3, np.int32))
        for gamma in (0.0, 5.0)
    ]
    assert not np.allclose(*alone)


@pytest.mark.parametrize("scorer", ["slots", "log_prob", "direct"])
def test_what_is_learned_lowers_the_loss_and_changes_no_weight_of_the_model(
    surroundings: Surroundings, llm: Any, tmp_path: Path, scorer: str
) -> None:
    ctx = context(surroundings, tmp_path / "work")
    config = SoftPromptConfig(**{**SMALL, "llm": llm, "scorer": scorer, "epochs": 4})
    model = ctx.component(config.llm)
    before = model.weights_digest()
    adapter = SoftPrompt(config)
    adapter.fit(SPLIT.training_data(DATA.items), Fixed(), ctx)
    assert model.weights_digest() == before
    assert adapter.training_log is not None
    losses = [epoch["loss"] for epoch in adapter.training_log.epochs]
    assert losses[-1] < losses[0]
    told = ctx.records["prompt"]
    gain = told["ndcg_held_out"] - told["ndcg_before"]
    assert (adapter._weights.language_model > 0) == (told["gamma"] > 0)
    assert told["gamma"] == 0 or gain > told["standard_error_of_the_gain"]
    assert 20 <= told["validation_targets"] <= 40
    soft = 0 if scorer == "direct" else 4  # there is no prompt without a language model
    assert told["soft_tokens"] == {"history": soft, "evidence": 0}
    assert told["tokens_of_a_prompt"].get("history", 0) >= soft
    assert told["batch"] == 8
    assert told["seconds_a_batch"] > 0


def test_it_learns_from_items_that_are_retrieved_alone(
    surroundings: Surroundings, llm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An item that is put among what was retrieved is known by retrieval's low opinion of it.
    said: list[str] = []
    monkeypatch.setattr(RunContext, "log", lambda self, message: said.append(message))
    ctx = context(surroundings, tmp_path / "work")
    adapter = fitted(ctx, llm, Fixed(), scorer="direct", examples=12)
    drawn, asked = adapter._examples(SPLIT.training_data(DATA.items), ctx)
    assert len(asked) == len(drawn.targets) == 12
    np.testing.assert_array_equal(asked.candidates[np.arange(12), asked.targets], drawn.targets)
    again = adapter._stands().asked(drawn.histories, 6, targets=drawn.targets)
    np.testing.assert_array_equal(again.candidates, asked.candidates)
    assert any(line.endswith("have their item retrieved, 12 of which are learned") for line in said)


def test_without_anything_to_learn_from_the_order_is_retrieval_s(
    surroundings: Surroundings, llm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(RunContext, "log", lambda self, message: said.append(message))
    asked = Retrieval.asked

    def none(self: Retrieval, *given: Any, **more: Any) -> Asked:
        found = asked(self, *given, **more)
        return replace(found, targets=np.full(len(found), -1, np.int64))

    monkeypatch.setattr(Retrieval, "asked", none)
    adapter = fitted(context(surroundings, tmp_path / "work"), llm, Fixed())
    assert said[-1] == "nothing to learn: γ is 0 and the language model is not asked"
    assert adapter._weights == Mixture()
    assert adapter.training_log is None
    assert adapter.get_state()
    histories = SPLIT.evaluation("test").histories
    scores = adapter.score(histories)
    np.testing.assert_allclose(scores, Fixed().user_vectors(histories) @ Fixed().items.T, rtol=1e-5)


def test_the_length_of_a_prompt_is_told_with_what_it_gave(
    surroundings: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(RunContext, "log", lambda self, message: said.append(message))
    base = np.tile(np.array([[1.0, 0.0]], np.float32), (30, 1))
    items = np.tile(np.arange(2, dtype=np.int32), (30, 1))
    asked = Asked(
        histories_of([[1]] * 30, DATA.n_items),
        np.zeros((30, 2), np.float32),
        items,
        base,
        np.zeros(30, np.int64),
    )
    ctx = context(surroundings, tmp_path / "work")
    add_language_model(
        Mixture(),
        asked,
        before=base,
        scores=-base,
        rng=ctx.rng("folds"),
        ctx=ctx,
        length=PromptLength(50, 16, {"history": 61.5, "evidence": 18}, 16, 2.275),
    )
    assert said[0] == (
        "L = 50, E = 16: 80 tokens a prompt, 2.27 s for 16 prompts; NDCG among the retrieved: "
        "retrieval 1.0000, with the language model 1.0000, the language model alone 0.6309"
    )
    assert said[1].startswith("γ is 0, as the fitted weight is not positive: the score would count")


def test_without_gamma_the_order_is_retrieval_s_and_the_model_is_not_read(
    trained: SoftPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_weights(trained, 0.0)
    monkeypatch.setattr(trained, "_ready", lambda: pytest.fail("the language model was asked"))
    histories = SPLIT.evaluation("test").histories
    base = Fixed()
    expected = base.user_vectors(histories) @ base.items.T
    np.testing.assert_allclose(trained.score(histories), expected, rtol=1e-5, atol=1e-6)


def test_the_retrieved_are_reordered_and_the_others_stay_below(trained: SoftPrompt) -> None:
    with_weights(trained, 5.0)
    histories = SPLIT.evaluation("test").histories.take(slice(0, 12))
    scores = trained.score(histories)
    base = Fixed()
    plain = base.user_vectors(histories) @ base.items.T
    np.testing.assert_allclose(np.sort(scores), np.sort(plain), rtol=1e-5, atol=1e-6)
    changed = 0
    for row in range(len(histories)):
        plain[row, histories[row]] = scores[row, histories[row]] = -np.inf
        top = set(np.argsort(-plain[row])[:6])
        assert set(np.argsort(-scores[row])[:6]) == top
        changed += list(np.argsort(-scores[row])[:6]) != list(np.argsort(-plain[row])[:6])
    assert changed


def test_the_order_of_candidates_does_not_matter(trained: SoftPrompt) -> None:
    with_weights(trained, 1.0)
    histories = SPLIT.evaluation("test").histories.take(slice(0, 5))
    rng = np.random.default_rng(0)
    candidates = np.stack([rng.permutation(DATA.n_items)[:9] for _ in range(5)]).astype(np.int32)
    turned = candidates[:, ::-1].copy()
    np.testing.assert_allclose(
        trained.score(histories, candidates), trained.score(histories, turned)[:, ::-1], atol=1e-4
    )


def test_users_do_not_see_each_other(trained: SoftPrompt) -> None:
    with_weights(trained, 1.0)
    histories = SPLIT.evaluation("test").histories.take(slice(0, 6))
    together = trained.score(histories)
    alone = np.concatenate([trained.score(histories.take(slice(i, i + 1))) for i in range(6)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_restored_adapter_scores_the_same(
    trained: SoftPrompt, surroundings: Surroundings, tmp_path: Path
) -> None:
    with_weights(trained, 1.0)
    histories = SPLIT.evaluation("test").histories.take(slice(0, 6))
    other = SoftPrompt(trained.config)
    other.connect(context(surroundings, tmp_path))
    other.load_state(trained.get_state())
    other.attach(Fixed())
    np.testing.assert_allclose(other.score(histories), trained.score(histories), atol=1e-5)
    assert set(other.get_state()) == set(trained.get_state())


def test_histories_of_any_kind_are_ranked(trained: SoftPrompt) -> None:
    with_weights(trained, 1.0)
    odd = histories_of([[], [3], [5] * 40, list(range(DATA.n_items))], DATA.n_items)
    scores = trained.score(odd)
    assert scores.shape == (4, DATA.n_items)
    assert np.isfinite(scores).all()


def test_without_validation_users_gamma_stays_zero(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    ctx = context(surroundings, tmp_path / "work", validate=False)
    adapter = fitted(ctx, llm, Fixed(), epochs=1)
    assert adapter._weights == Mixture()


def test_micro_batches_add_up(trained: SoftPrompt) -> None:
    histories = SPLIT.evaluation("test").histories.take(slice(0, 7))
    asked = replace(trained._stands().asked(histories, 5), targets=np.arange(7) % 5)
    scorer: Any = trained._scorer
    question = Question(asked)
    task = PromptTask(scorer, question, trained.score)
    gradients = []
    for parts in ([(question, 1.0)], task.divided(question)):
        task.module.zero_grad()
        for part, share in parts:
            (share * task.loss(part)).backward()
        gradients.append([p.grad.clone() for p in task.module.parameters()])
    assert [len(part) for part, _ in task.divided(question)] == [4, 3]
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-6)


def test_an_adapter_without_its_parts_says_what_to_do(llm: Any) -> None:
    adapter = SoftPrompt(SoftPromptConfig(llm=llm))
    with pytest.raises(StageError, match="attached to nothing"):
        adapter.score(histories_of([[1]], 4))
    with pytest.raises(StageError, match="not fitted"):
        adapter.attach(Fixed())
    assert adapter.get_state() == {}


def test_gradients_reach_the_projectors_through_the_model(
    surroundings: Surroundings, llm: Any, tmp_path: Path
) -> None:
    ctx = context(surroundings, tmp_path / "work", validate=False)
    adapter = fitted(ctx, llm, Fixed(), epochs=1)
    scorer: Any = adapter._scorer
    histories = SPLIT.evaluation("test").histories.take(slice(0, 3))
    asked = adapter._stands().asked(histories, 4)
    torch.nn.init.normal_(scorer.parts.head.score.weight)
    scorer.parts.zero_grad()
    scorer.scores(Question(asked)).std().backward()
    for name in ("users", "items"):
        norm = getattr(scorer.parts, name).layers[0].weight.grad.norm()
        assert norm > 0
