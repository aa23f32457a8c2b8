"""Adapters that learn on a model which nobody else sees change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from dynmm_framework.artifacts.arrays import save_arrays
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.lora import AdaptedLM, query_and_value_layers, read_adapter

IDS = torch.arange(60, 80)[None]


def output(model: CausalLM) -> torch.Tensor:
    with torch.no_grad():
        return model.forward(model.embed(IDS))


def disturbed(model: AdaptedLM) -> AdaptedLM:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in model.adapters.parameters():
            parameter.normal_(0, 0.3)
    return model


@pytest.fixture
def ctx(tmp_path: Path) -> RunContext:
    return RunContext(Surroundings(load_catalogue(only=())), workdir=tmp_path)


def test_untrained_adapters_change_nothing(llm: CausalLM) -> None:
    assert torch.equal(output(AdaptedLM(llm)), output(llm))


def test_training_changes_neither_the_shared_model_nor_its_outputs(llm: CausalLM) -> None:
    digest, before = llm.weights_digest(), output(llm)
    modules = [name for name, _ in llm.network.named_modules()]
    adapted = AdaptedLM(llm)
    optimizer = torch.optim.AdamW(adapted.adapters.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapted.adapters.train()
        adapted.forward(adapted.embed(IDS)).square().mean().backward()
        optimizer.step()
    assert not torch.allclose(output(adapted), before, atol=1e-2)
    assert torch.equal(output(llm), before)
    assert llm.weights_digest() == digest
    assert [name for name, _ in llm.network.named_modules()] == modules
    assert not any(parameter.requires_grad for parameter in llm.network.parameters())
    assert all(parameter.grad is None for parameter in llm.network.parameters())


def test_the_frozen_weights_are_shared_not_copied(llm: CausalLM) -> None:
    ours = {parameter.data_ptr() for parameter in llm.network.parameters()}
    adapted = AdaptedLM(llm)
    own = {p.data_ptr() for p in adapted.adapters.parameters()}
    assert {p.data_ptr() for p in adapted.network.parameters()} == ours | own


def test_two_adapted_models_know_nothing_of_each_other(llama: CausalLM) -> None:
    first, second = AdaptedLM(llama), AdaptedLM(llama)
    disturbed(first)
    assert torch.equal(output(second), output(llama))


def test_dropout_is_on_in_training_alone(llama: CausalLM) -> None:
    adapted = disturbed(AdaptedLM(llama, dropout=0.5))
    assert torch.equal(output(adapted), output(adapted))
    adapted.adapters.train()
    assert not torch.equal(output(adapted), output(adapted))
    adapted.adapters.eval()


def test_a_stored_state_is_restored_exactly(llm: CausalLM) -> None:
    trained = disturbed(AdaptedLM(llm))
    state = trained.adapter_state()
    assert all("lora_A" in name or "lora_B" in name for name in state)
    restored = AdaptedLM(llm)
    restored.load_adapter_state(state)
    assert torch.equal(output(restored), output(trained))


class _Fused(nn.Module):
    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("q_proj", "k_proj", "v_proj", "o_proj"), ("q_proj", "v_proj")),
        (("c_attn", "c_proj"), ("c_attn",)),
        (("query_key_value", "dense"), ("query_key_value",)),
    ],
)
def test_queries_and_values_are_found_by_looking(
    names: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert query_and_value_layers(_Fused(*names)) == found


def test_an_unknown_architecture_is_told_what_it_has() -> None:
    with pytest.raises(StageError, match="no layers known") as raised:
        query_and_value_layers(_Fused("mix", "gate"))
    assert "gate, mix" in str(raised.value)


def test_layers_that_are_not_there_are_refused(llama: CausalLM) -> None:
    with pytest.raises(StageError, match="no layers sideways that can be adapted"):
        AdaptedLM(llama, targets=["sideways"])


def test_a_model_without_weights_is_refused() -> None:
    class Served:
        tokenizer = None

    with pytest.raises(StageError, match="Served has no weights in this process") as raised:
        AdaptedLM(Served())  # type: ignore[arg-type]
    assert "smollm2_135m" in str(raised.value)


# Files.


def write(folder: Path, model: AdaptedLM, **settings: object) -> Path:
    arrays = {f"base_model.model.{name}": a for name, a in model.adapter_state().items()}
    folder.mkdir(exist_ok=True)
    copied = {name: np.array(a) for name, a in arrays.items()}
    save_file(copied, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16, **settings}))
    return folder


def test_an_adapter_of_peft_is_read(llama: CausalLM, ctx: RunContext, tmp_path: Path) -> None:
    trained = disturbed(AdaptedLM(llama))
    folder = write(tmp_path / "adapter", trained)
    for place in (folder, folder / "adapter_model.safetensors"):
        fresh = AdaptedLM(llama)
        read_adapter(str(place), fresh, ctx)
        assert torch.equal(output(fresh), output(trained))


def test_a_missing_adapter_is_an_error(llama: CausalLM, ctx: RunContext, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no weights at .*nowhere"):
        read_adapter(str(tmp_path / "nowhere"), AdaptedLM(llama), ctx)


def test_a_git_lfs_pointer_is_an_error(llama: CausalLM, ctx: RunContext, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 8\n"
    (folder / "adapter_model.safetensors").write_text(pointer)
    with pytest.raises(ArtifactError, match="Git LFS pointer"):
        read_adapter(str(folder), AdaptedLM(llama), ctx)


def test_a_pickled_adapter_is_an_error(llama: CausalLM, ctx: RunContext, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ArtifactError, match="pickle"):
        read_adapter(str(folder), AdaptedLM(llama), ctx)


@pytest.mark.parametrize("settings", [{"r": 4}, {"lora_alpha": 32}])
def test_an_adapter_of_another_scale_is_an_error(
    llama: CausalLM, ctx: RunContext, tmp_path: Path, settings: dict[str, int]
) -> None:
    folder = write(tmp_path / "adapter", AdaptedLM(llama), **settings)
    with pytest.raises(ArtifactError, match="scaled otherwise"):
        read_adapter(str(folder), AdaptedLM(llama), ctx)


def test_an_adapter_of_another_rank_is_an_error(
    llama: CausalLM, ctx: RunContext, tmp_path: Path
) -> None:
    file = tmp_path / "other.safetensors"
    save_arrays(file, AdaptedLM(llama, rank=4).adapter_state())
    model = AdaptedLM(llama)
    with pytest.raises(ArtifactError, match="does not fit tiny with adapters of rank 8"):
        read_adapter(str(file), model, ctx)
