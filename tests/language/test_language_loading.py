"""Loading: from folders as they are, in words where something is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.parts import LanguageModelRef
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.language.config import CausalLMConfig
from dynmm_framework.language.loading import load_causal_lm
from dynmm_framework.protocols import LanguageModel
from dynmm_framework.testing.language_models import tiny_network, write_tiny_random

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_random(tmp_path_factory.mktemp("llm"))


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "llm"))


@pytest.fixture
def ctx(dynmm_catalogue: Catalogue) -> RunContext:
    return RunContext(Surroundings(dynmm_catalogue, offline=True), stage="fit/x")


def load(model: Path | str, ctx: RunContext, **settings):
    return load_causal_lm(CausalLMConfig(model=str(model), **settings), ctx)


def test_a_folder_gives_the_model_that_was_saved(folder: Path, ctx: RunContext) -> None:
    llm = load(folder, ctx, context_length=100)
    ids = torch.tensor([llm.tokenizer("Héllo <s>")["input_ids"]])
    assert ids[0, -1] == llm.tokenizer.bos_token_id
    torch.testing.assert_close(
        llm.logits(llm.forward(llm.embed(ids))), tiny_network().eval()(input_ids=ids).logits
    )
    assert (llm.context_length, llm.hidden_size) == (100, 32)
    half = load(folder, ctx, dtype="bf16")
    assert half.dtype == torch.bfloat16
    assert half.logits(half.forward(half.embed(ids))).dtype == torch.float32


def test_a_component_of_the_kind_is_loaded_shared_and_one_at_a_time(
    folder: Path, ctx: RunContext
) -> None:
    ref = LanguageModelRef(name="hf_causal", config={"model": str(folder)})
    one = ctx.component(ref)
    assert isinstance(one, LanguageModel)
    assert one.hidden_size == 32
    assert ctx.part("retrieval").component(ref) is one
    other = ctx.component(LanguageModelRef(name="tiny_random"))
    assert other is not one
    assert ctx.component(ref) is not one  # it was let go


def test_weights_or_a_tokenizer_that_are_missing_are_named(folder: Path, ctx: RunContext) -> None:
    (folder / "tokenizer.json").rename(folder / "kept")
    with pytest.raises(ArtifactError, match=r"has no tokenizer: none of tokenizer\.json"):
        load(folder, ctx)
    (folder / "kept").rename(folder / "tokenizer.json")
    (folder / "config.json").rename(folder / "kept")
    with pytest.raises(ArtifactError, match=r"has no config.json"):
        load(folder, ctx)
    (folder / "kept").rename(folder / "config.json")
    (folder / "model.safetensors").write_bytes(POINTER)
    with pytest.raises(ArtifactError, match="Git LFS pointer"):
        load(folder, ctx)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ArtifactError, match="is a pickled checkpoint"):
        load(folder, ctx)
    with pytest.raises(ArtifactError, match="there are no weights at"):
        load(folder / "nowhere", ctx)


def test_weights_that_are_cut_off_or_of_another_shape_are_refused(
    folder: Path, ctx: RunContext
) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        load(folder, ctx)
    weights.write_bytes(whole)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 3}))
    with pytest.raises(ArtifactError, match="of another architecture than"):
        load(folder, ctx)


def test_a_tokenizer_of_another_model_is_refused(folder: Path, ctx: RunContext) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    last = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"] += [
        {**last, "id": 259 + n, "content": f"<extra{n}>"} for n in range(5)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ArtifactError, match="has 264 tokens and its model 260"):
        load(folder, ctx)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "it is a Git LFS pointer"),
        (b"", "is no GGUF file: it begins with b''"),
        (b"PK\x03\x04 zip", r"is no GGUF file: it begins with b'PK\\x03\\x04'"),
        (b"GGUF\x03\x00\x00\x00" + b"\x01" + b"\x00" * 20, "cannot be read"),
        (b"GGUF\x03", "it is damaged, cut off"),
    ],
)
def test_a_gguf_file_that_is_none_or_cut_off_is_named(
    tmp_path: Path, ctx: RunContext, content, message
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    for place in (file, tmp_path):
        with pytest.raises(ArtifactError, match=message):
            load(place, ctx)


def test_a_folder_of_several_gguf_files_or_another_file_asks_for_one(
    tmp_path: Path, ctx: RunContext
) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ArtifactError, match=r"several models: a.gguf, b.gguf"):
        load(tmp_path, ctx)
    (tmp_path / "model.safetensors.txt").write_text("x")
    with pytest.raises(ArtifactError, match="is neither a folder nor a GGUF file"):
        load(tmp_path / "model.safetensors.txt", ctx)


def test_few_bits_need_a_gpu(folder: Path, ctx: RunContext) -> None:
    with pytest.raises(StageError, match="quantise: 8 needs a GPU, and the device is cpu"):
        load(folder, ctx, quantise=8)
