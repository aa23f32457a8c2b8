"""Continuations side by side, against reading each as a text of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynmm_framework.language import continuations
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.continuations import next_logits
from dynmm_framework.language.scoring import read_head

PROMPTS = [[65, 66, 67, 68, 69], [70, 71], [72] * 11, [73]]
AFTER = [[[80, 81], [82], [83, 84, 85, 86]], [[87, 88]], [], [[89], [90, 91]]]
WANTED = (78, 89, 110)


def one_by_one(llm: CausalLM, head: list[int]) -> list[list[list[float]]]:
    found = []
    for prompt, row in zip(PROMPTS, AFTER, strict=True):
        found.append([])
        for tokens in row:
            ids = torch.tensor([[*head, *prompt, *tokens]])
            with torch.no_grad():
                logits = llm.logits(llm.forward(llm.embed(ids))[0, -1])
            found[-1].append(logits[list(WANTED)].tolist())
    return found


@pytest.mark.parametrize("head", [[], [97, 98, 99]])
@pytest.mark.parametrize("max_tokens", [10, 4096])
def test_it_reads_the_same_as_each_text_alone(
    llm: CausalLM, head: list[int], max_tokens: int
) -> None:
    prefix = read_head(llm, head)
    found = next_logits(llm, PROMPTS, AFTER, WANTED, head=prefix, max_tokens=max_tokens)
    for got, wanted in zip(found, one_by_one(llm, head), strict=True):
        assert got.shape == (len(wanted), 3)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, np.array(wanted).reshape(-1, 3), atol=2e-4)


def test_long_rows_are_read_in_parts(llama: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = next_logits(llama, PROMPTS, AFTER, WANTED)
    monkeypatch.setattr(continuations, "SIDE_BY_SIDE", 2)
    for a, b in zip(whole, next_logits(llama, PROMPTS, AFTER, WANTED), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_a_continuation_without_a_token_is_refused(llama: CausalLM) -> None:
    with pytest.raises(ValueError, match="without a token"):
        next_logits(llama, [[65]], [[[]]], WANTED)
