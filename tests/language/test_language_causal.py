"""The frozen model: padding, prefixes and generation, against the library's own."""

from __future__ import annotations

import pytest
import torch

from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.conversation import Completion
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.tokens import sentence_end
from dynmm_framework.testing.language_models import byte_tokenizer, tiny_network

TEXTS = ["a", "a much longer text than that", "something"]


def padded(llm: CausalLM, texts=TEXTS, *, side: str = "right"):
    rows = [llm.tokenizer(text)["input_ids"] for text in texts]
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), llm.pad_id)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[number, place], mask[number, place] = torch.tensor(row), True
    return ids, mask, rows


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_hidden_state(llm: CausalLM, side) -> None:
    ids, mask, rows = padded(llm, side=side)
    hidden = llm.forward(llm.embed(ids), mask=mask)
    for number, row in enumerate(rows):
        alone = llm.forward(llm.embed(torch.tensor([row])))[0]
        torch.testing.assert_close(hidden[number][mask[number]], alone, rtol=0, atol=1e-4)


def test_logits_are_the_library_s(llm: CausalLM) -> None:
    ids = torch.tensor([llm.tokenizer(TEXTS[1])["input_ids"]])
    found = llm.logits(llm.forward(llm.embed(ids)))
    torch.testing.assert_close(found, llm.network(input_ids=ids).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_a_prefix_of_one_row_or_of_each_continues_like_the_whole(llm: CausalLM, shared) -> None:
    start = TEXTS[2:] if shared else TEXTS
    ids, mask, heads = padded(llm, start)
    prefix = llm.prefill(llm.embed(ids), mask=mask)
    more, more_mask, rows = padded(llm, ["xyz", "q", "some more"])
    once = llm.forward(llm.embed(more), mask=more_mask, prefix=prefix)
    again = llm.forward(llm.embed(more), mask=more_mask, prefix=prefix)
    torch.testing.assert_close(once, again, rtol=0, atol=0)  # a prefix is not used up
    for number, row in enumerate(rows):
        head = heads[0 if shared else number]
        whole = llm.forward(llm.embed(torch.tensor([head + row])))[0, len(head) :]
        torch.testing.assert_close(once[number][more_mask[number]], whole, rtol=0, atol=1e-4)


def test_prefixes_are_prolonged_and_chosen_from(llm: CausalLM) -> None:
    ids, mask, rows = padded(llm)
    prefix = llm.prefill(llm.embed(ids), mask=mask)
    assert prefix.lengths.tolist() == [len(row) for row in rows]
    last = [llm.forward(llm.embed(torch.tensor([row])))[0, -1] for row in rows]
    torch.testing.assert_close(prefix.last, torch.stack(last), rtol=0, atol=1e-4)
    chosen = prefix.take(torch.tensor([2, 0]))
    assert (chosen.length, chosen.lengths.tolist()) == (9, [9, 1])
    longer = llm.prefill(llm.embed(ids[[1, 1]]), prefix=chosen)
    wanted = llm.forward(llm.embed(torch.tensor([rows[0] + rows[1]])))[0, -1]
    torch.testing.assert_close(longer.last[1], wanted, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="a prefix of 3 rows cannot precede 2 rows"):
        prefix.expanded(2)


def test_only_asked_places_are_returned(llama: CausalLM) -> None:
    ids, mask, _ = padded(llama)
    words = llama.embed(ids)
    at = torch.tensor([[0, -1], [5, 27], [8, 0]])
    found = llama.forward(words, mask=mask, at=at)
    everything = llama.forward(words, mask=mask)
    torch.testing.assert_close(found[1], everything[1, [5, 27]])
    assert found.shape == (3, 2, 32)


def test_generation_is_the_library_s_greedy_one_in_batches_and_after_prefixes(
    llm: CausalLM,
) -> None:
    ids, mask, rows = padded(llm)
    found = llm.generate(llm.embed(ids), mask=mask, max_new_tokens=12, stop="length")
    for row, said in zip(rows, found, strict=True):
        whole = llm.network.generate(torch.tensor([row]), max_new_tokens=12, do_sample=False)
        new = llm.tokenizer.decode(whole[0, len(row) :], skip_special_tokens=True)
        assert said.text == new.strip()
        assert said.cut == (whole[0, -1].item() != llm.tokenizer.eos_token_id)
    prefix = llm.prefill(llm.embed(torch.tensor([rows[1][:9]])))
    after = llm.generate(
        llm.embed(torch.tensor([rows[1][9:]])), prefix=prefix, max_new_tokens=12, stop="length"
    )
    assert after[0] == found[1]
    assert (
        llm.generate(llm.embed(ids), mask=mask, max_new_tokens=0) == [Completion("", cut=True)] * 3
    )


def test_generation_ends_with_the_first_sentence(llama: CausalLM, monkeypatch) -> None:
    said = iter(llama.tokenizer("It is 3.5 long. And more")["input_ids"])
    monkeypatch.setattr(llama, "logits", lambda hidden: torch.eye(260)[[next(said)]])
    ids = torch.tensor([[1, 2]])
    (said,) = llama.generate(llama.embed(ids), max_new_tokens=50)
    assert said == Completion("It is 3.5 long.", cut=False)


@pytest.mark.parametrize(
    ("bound", "text", "cut"), [(4, "12 3", True), (5, "12 34", True), (6, "12 34", False)]
)
def test_a_text_that_the_bound_ends_is_cut_off(
    llama: CausalLM, monkeypatch: pytest.MonkeyPatch, bound: int, text: str, cut: bool
) -> None:
    ids = [*llama.tokenizer("12 34", add_special_tokens=False)["input_ids"]]
    said = iter([*ids, llama.tokenizer.eos_token_id])
    monkeypatch.setattr(llama, "logits", lambda hidden: torch.eye(260)[[next(said)]])
    words = llama.embed(torch.tensor([[1, 2]]))
    found = llama.generate(words, max_new_tokens=bound, stop="length")
    assert found == [Completion(text, cut=cut)]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Hello there. And", 12), ("3.5 is fine", None), ("It is 3.", None), ("... so. x", 7),
        ("first line\nx", 11), ("“Yes!” he", 6), ("何ですか。 次", 5), ("", None), (" - ", None),
    ],
)  # fmt: skip
def test_sentences_end_where_readers_see_it(text, end) -> None:
    assert sentence_end(text) == end


def test_nothing_learns_or_drops_and_a_missing_pad_token_is_made_up_for() -> None:
    llm = CausalLM(tiny_network(architecture="opt"), byte_tokenizer())
    assert llm.tokenizer.pad_token_id is None
    assert llm.pad_id == llm.tokenizer.eos_token_id
    assert CausalLM(tiny_network(), byte_tokenizer(pad=True)).pad_id == 259
    ids = torch.tensor([[1, 2, 3]])
    before = llm.forward(llm.embed(ids))
    llm.network.train()
    torch.testing.assert_close(llm.forward(llm.embed(ids)), before, rtol=0, atol=0)
    assert llm.embedding_norm() == pytest.approx(
        float(llm.embed(torch.arange(260)).norm(dim=1).mean()), rel=1e-5
    )


def test_a_digest_notices_any_change_of_weights() -> None:
    llm = CausalLM(tiny_network(), byte_tokenizer())
    before = llm.weights_digest()
    assert llm.weights_digest() == before
    with torch.no_grad():
        next(llm.network.parameters()).view(-1)[3] += 1e-6
    assert llm.weights_digest() != before


def test_what_cannot_be_served_is_refused_in_words() -> None:
    with pytest.raises(StageError, match="context_length 5000 is more than the 1024 tokens"):
        CausalLM(tiny_network(), byte_tokenizer(), context_length=5000)
    network = tiny_network()
    plain = network.forward

    def capped(*args, **settings):
        out = plain(*args, **settings)
        out.logits = 3 * torch.tanh(out.logits / 3)
        return out

    network.forward = capped
    with pytest.raises(ArtifactError, match="does more after its last hidden state"):
        CausalLM(network, byte_tokenizer())


def test_an_empty_prefix_of_a_row_keeps_its_place(llama: CausalLM) -> None:
    head = llama.prefill(llama.embed(torch.tensor([[5, 6, 7]])))
    mask = torch.tensor([[True, True], [False, False]])
    longer = llama.prefill(llama.embed(torch.tensor([[8, 9], [0, 0]])), mask=mask, prefix=head)
    assert isinstance(longer, Prefix)
    torch.testing.assert_close(longer.last[1], head.last[0])
    assert longer.lengths.tolist() == [5, 3]
