"""Scores do not depend on how they are computed: packed, batched, prefixed, or one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.scoring import (
    answer_loss,
    log_prob,
    log_prob_of_full_sequences,
    read_head,
    slot_states,
)
from dynmm_framework.language.soft import collate, inject, newest_items
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.language.wording import PromptTemplate
from dynmm_framework.testing.language_models import byte_tokenizer, tiny_network

TITLES = ["Alien", "Blade Runner (1982)", "Heat", "Über – “Ünïcode” 🎬 part 2", "X", "לילה לבן"]
CLOSE = {"rtol": 0, "atol": 1e-4}


def asked(llm: CausalLM, n_users: int = 4):
    writer = PromptWriter(PromptTemplate(), llm)
    titles = [writer.title(title) for title in TITLES]
    rng = np.random.default_rng(0)
    prompts, answers = [], []
    for user in range(n_users):
        history = [Entry(titles[i]) for i in rng.integers(0, len(titles), user * 2)]
        prompts.append(writer.write(history=history))
        chosen = rng.integers(0, len(titles), rng.integers(1, 7))
        answers.append([writer.answer(titles[i]) for i in chosen])
    return writer, prompts, answers


def test_packed_candidates_score_like_full_sequences(llm: CausalLM) -> None:
    writer, prompts, answers = asked(llm)
    wanted = log_prob_of_full_sequences(llm, prompts, answers)
    head = read_head(llm, writer.head)
    for options in ({}, {"head": head}, {"head": head, "max_tokens": 40}):
        found = log_prob(llm, prompts, answers, **options)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, **CLOSE)


def test_the_reference_is_what_the_library_says(llm: CausalLM) -> None:
    _, prompts, answers = asked(llm, 2)
    prompt, answer = prompts[1].ids.tolist(), list(answers[1][0])
    logits = llm.network(input_ids=torch.tensor([prompt + answer])).logits.log_softmax(-1)
    wanted = logits[0, len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None]).mean()
    (_, found) = log_prob_of_full_sequences(llm, prompts, [[], [answer]])
    assert float(found[0]) == pytest.approx(float(wanted), abs=1e-5)


def test_the_loss_of_answers_is_the_mean_over_their_tokens(llm: CausalLM) -> None:
    writer, prompts, answers = asked(llm)
    chosen = [row[0] for row in answers]
    alone = log_prob(llm, prompts, [[answer] for answer in chosen])
    sizes = np.array([len(answer) for answer in chosen])
    wanted = -sum(float(one[0]) * n for one, n in zip(alone, sizes, strict=True)) / sizes.sum()
    for head in (None, read_head(llm, writer.head)):
        found = answer_loss(
            llm, prompts, chosen, embeddings=lambda batch: llm.embed(batch.ids), head=head
        )
        assert float(found) == pytest.approx(wanted, abs=1e-4)
    nothing = answer_loss(
        llm, prompts, [()] * len(prompts), embeddings=lambda batch: llm.embed(batch.ids)
    )
    assert float(nothing) == 0


def test_a_history_s_soft_tokens_are_those_of_its_newest_items() -> None:
    histories = Histories.of([[1, 2, 3], [], [4]], 9)
    places = torch.tensor([[5, 9], [-1, -1], [3, -1]])
    assert newest_items(histories, places).tolist() == [[2, 3], [0, 0], [4, 0]]


def test_a_candidate_scores_the_same_whatever_stands_beside_it(llama: CausalLM) -> None:
    _, prompts, answers = asked(llama)
    row = answers[-1]
    (together,) = log_prob(llama, prompts[-1:], [row])
    alone = [log_prob(llama, prompts[-1:], [[answer]])[0][0] for answer in row]
    np.testing.assert_allclose(together, alone, **CLOSE)
    (backwards,) = log_prob(llama, prompts[-1:], [row[::-1]])
    np.testing.assert_allclose(together, backwards[::-1], **CLOSE)


def test_no_candidates_and_no_users_are_served(llama: CausalLM) -> None:
    _, prompts, _ = asked(llama, 1)
    assert log_prob(llama, [], []) == []
    (found,) = log_prob(llama, prompts, [[]])
    assert found.shape == (0,)
    with pytest.raises(ValueError, match="without a token has no probability"):
        log_prob(llama, prompts, [[()]])


def test_soft_tokens_change_scores_and_need_embeddings(llama: CausalLM) -> None:
    writer = PromptWriter(PromptTemplate(), llama)
    title = writer.title("Heat")
    prompts = [writer.write(user=1, history=[Entry(title, 1)] * n) for n in (1, 3)]
    answers = [[writer.answer(title)]] * 2
    with pytest.raises(ValueError, match="need embeddings"):
        log_prob(llama, prompts, answers)
    torch.manual_seed(0)
    soft = {"user": torch.randn(2, 1, 32), "history": torch.randn(2, 3, 32)}

    def embeddings(batch, rows):
        chosen = torch.from_numpy(rows)
        width = batch.soft["history"].shape[1]
        return inject(
            llama,
            batch,
            {"user": soft["user"][chosen], "history": soft["history"][chosen][:, :width]},
        )

    found = log_prob(
        llama, prompts, answers, embeddings=embeddings, head=read_head(llama, writer.head)
    )
    for row, prompt in enumerate(prompts):
        batch = collate([prompt], pad_id=llama.pad_id)
        one = {name: values[row : row + 1] for name, values in soft.items()}
        one["history"] = one["history"][:, : prompt.kept]
        words = inject(llama, batch, one)
        whole = torch.cat([words, llama.embed(torch.tensor([answers[row][0]]))], dim=1)
        hidden = llama.forward(whole)[0, len(prompt) - 1 : -1]
        wanted = llama.log_likelihood(hidden, torch.tensor(answers[row][0])).mean()
        assert float(found[row][0]) == pytest.approx(float(wanted), abs=1e-4)


@pytest.mark.parametrize("slots", ["inline", "after"])
def test_slots_are_read_in_one_pass(llm: CausalLM, slots) -> None:
    writer = PromptWriter(PromptTemplate(), llm)
    entries = [Entry(writer.title(title), 1) for title in TITLES]
    prompts = [
        writer.write(history=entries[:n], candidates=entries[: 2 + n], user=1, slots=slots)
        for n in (0, 2)
    ]
    head = read_head(llm, writer.head)
    batch = collate(prompts, pad_id=llm.pad_id, skip=len(writer.head))
    soft = {name: torch.randn(*places.shape, 32) for name, places in batch.soft.items()}
    states = slot_states(llm, batch, inject(llm, batch, soft), prefix=head)
    assert states.shape == (2, 4, 32)
    for row, prompt in enumerate(prompts):
        alone = collate([prompt], pad_id=llm.pad_id)
        mine = {
            name: soft[name][row : row + 1, : places.shape[1]]
            for name, places in alone.soft.items()
        }
        whole = llm.forward(inject(llm, alone, mine))[0]
        wanted = whole[torch.from_numpy(prompt.slots)]
        torch.testing.assert_close(states[row, : len(prompt.slots)], wanted, rtol=0, atol=1e-4)


def test_a_slot_after_the_task_sees_the_whole_prompt(llama: CausalLM) -> None:
    writer = PromptWriter(PromptTemplate(), llama)
    entries = [Entry(writer.title(title), 0) for title in TITLES[:3]]
    prompt = writer.write(candidates=entries, slots="after")
    task = prompt.spans["task"]
    assert (prompt.slots >= task[1]).all()
    assert prompt.soft["slots"].tolist() == prompt.slots.tolist()


@pytest.mark.parametrize("architecture", ["llama", "opt"])
@pytest.mark.parametrize("prefixed", [False, True])
def test_gradients_reach_soft_tokens_alone_and_checkpointing_changes_none(
    architecture, prefixed
) -> None:
    gradients = []
    for checkpointing in (False, True):
        llm = CausalLM(
            tiny_network(architecture=architecture), byte_tokenizer(), checkpointing=checkpointing
        )
        before = llm.weights_digest()
        writer = PromptWriter(PromptTemplate(), llm)
        entries = [Entry(writer.title(title), 1) for title in TITLES[:3]]
        prompts = [writer.write(history=entries[:n], candidates=entries) for n in (1, 3)]
        skip = len(writer.head) if prefixed else 0
        batch = collate(prompts, pad_id=llm.pad_id, skip=skip)
        torch.manual_seed(0)
        soft = {
            name: torch.randn(*places.shape, 32, requires_grad=True)
            for name, places in batch.soft.items()
        }
        prefix = read_head(llm, writer.head) if prefixed else None
        states = slot_states(llm, batch, inject(llm, batch, soft), prefix=prefix)
        states.square().sum().backward()
        gradients.append({name: values.grad for name, values in soft.items()})
        assert all(float(grad.abs().sum()) > 0 for grad in gradients[-1].values())
        # Where a row has fewer places, its values are not used.
        assert float(soft["history"].grad[0, 1:].abs().sum()) == 0
        assert all(p.grad is None and not p.requires_grad for p in llm.network.parameters())
        assert llm.weights_digest() == before
    for name, grad in gradients[0].items():
        torch.testing.assert_close(grad, gradients[1][name], rtol=1e-3, atol=1e-4)


def test_inject_names_what_does_not_fit(llama: CausalLM) -> None:
    writer = PromptWriter(PromptTemplate(), llama)
    batch = collate([writer.write(user=1)], pad_id=llama.pad_id)
    with pytest.raises(ValueError, match="differ in: user"):
        inject(llama, batch, {})
    with pytest.raises(ValueError, match=r"user needs soft tokens of shape \(1, 1, 32\)"):
        inject(llama, batch, {"user": torch.zeros(1, 2, 32)})
    with pytest.raises(ValueError, match="lies in the prefix"):
        collate([writer.write(user=1)], pad_id=0, skip=10_000)
