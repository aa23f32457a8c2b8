"""A tiny language model, made on the spot, that all tests of the room share."""

from __future__ import annotations

import pytest
import torch

from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.template import PromptWriter
from dynmm_framework.language.wording import PromptTemplate
from dynmm_framework.testing.language_models import byte_tokenizer, tiny_network


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["llama", "opt"])
def llm(request: pytest.FixtureRequest) -> CausalLM:
    return CausalLM(tiny_network(architecture=request.param), byte_tokenizer(), name="tiny")


@pytest.fixture(scope="module")
def llama() -> CausalLM:
    return CausalLM(tiny_network(), byte_tokenizer(), name="tiny")


@pytest.fixture
def writer(llama: CausalLM) -> PromptWriter:
    return PromptWriter(PromptTemplate(), llama)
