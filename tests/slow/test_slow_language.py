"""SmolLM2 as it is: from its GGUF file, from its conversion, scored in both ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import ArtifactError
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.config import CausalLMConfig
from dynmm_framework.language.loading import load_causal_lm
from dynmm_framework.language.scoring import log_prob, log_prob_of_full_sequences, read_head
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.language.wording import PromptTemplate

pytestmark = pytest.mark.slow

FILMS = ["Toy Story (1995)", "Babe (1995)", "Alien (1979)", "Heat (1995)", "Fargo (1996)"]


@pytest.fixture(scope="module")
def ctx() -> RunContext:
    return RunContext(Surroundings(load_catalogue()), stage="slow")


@pytest.fixture(scope="module")
def file(ctx: RunContext) -> Path:
    try:
        folder = ctx.fetch("smollm2_135m")
    except ArtifactError as error:
        pytest.skip(f"SmolLM2 cannot be fetched: {error}")
    (found,) = folder.glob("*.gguf")
    return found


@pytest.fixture(scope="module")
def llm(file: Path, ctx: RunContext) -> CausalLM:
    return load_causal_lm(CausalLMConfig(), ctx)


def test_the_conversion_of_the_record_is_the_file(
    llm: CausalLM, file: Path, ctx: RunContext
) -> None:
    direct = load_causal_lm(CausalLMConfig(model=str(file)), ctx)
    assert direct.weights_digest() == llm.weights_digest()
    text = "I watched Heat (1995).\nThen  Fargo…"
    assert direct.tokenizer(text)["input_ids"] == llm.tokenizer(text)["input_ids"]
    assert llm.tokenizer.decode(llm.tokenizer(text)["input_ids"]) == text
    assert (llm.hidden_size, llm.context_length) == (576, 8192)


def test_a_file_that_is_cut_off_is_named(file: Path, ctx: RunContext, tmp_path: Path) -> None:
    cut = tmp_path / "model.gguf"
    cut.write_bytes(file.read_bytes()[:50_000_000])
    with pytest.raises(ArtifactError, match=r"model\.gguf cannot be read .*damaged, cut off"):
        load_causal_lm(CausalLMConfig(model=str(cut)), ctx)


def test_the_language_is_known_and_both_ways_of_scoring_agree(llm: CausalLM) -> None:
    (said,) = llm.generate(
        llm.embed(torch.tensor([llm.tokenizer("The capital of France is")["input_ids"]])),
        max_new_tokens=12,
    )
    assert "Paris" in said.text
    writer = PromptWriter(PromptTemplate(), llm)
    titles = [writer.title(film) for film in [*FILMS, "qx zzv kk (0031)"]]
    prompts = [writer.write(history=[Entry(title) for title in titles[:n]]) for n in (1, 3)]
    answers = [[writer.answer(title) for title in titles[3:]]] * 2
    found = log_prob(llm, prompts, answers, head=read_head(llm, writer.head))
    wanted = log_prob_of_full_sequences(llm, prompts, answers)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
        assert one.argmin() == 2  # letters that are no title
