"""Sentence vectors, against transformers' own forward pass on one text at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from encoder_checkpoints import DAMAGE, context, spoil
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.testing import EncoderConformance
from dynmm_framework.testing.generated import WORDS
from dynmm_plugins.sentence_text.config import SentenceTextConfig
from dynmm_plugins.sentence_text.model import SentenceText

TEXTS = ["stars orbit rocket", "waves", "dunes caravan oasis heat mirage dunes", "", "owl " * 40]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, as a plain Hugging Face folder."""
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *" ".join(WORDS.values()).split()]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=24)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(
            BertConfig(
                vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, max_position_embeddings=24, initializer_range=0.5,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sentence_bert(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder of sentence-transformers that averages and normalises."""
    folder = tmp_path_factory.mktemp("sbert")
    shutil.copytree(bert, folder, dirs_exist_ok=True)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "2_Normalize").mkdir()
    return folder


class TestSentenceTextConformance(EncoderConformance):
    component: ClassVar[str] = "sentence_text"
    config: ClassVar[dict[str, Any]] = {}
    alike: ClassVar[tuple[float, float]] = (0.4, 0.8)  # random, but words differ

    @pytest.fixture
    def settings(self, sentence_bert: Path) -> Mapping[str, Any]:
        return {"model": str(sentence_bert)}


def loaded(folder: Path, **settings: Any) -> SentenceText:
    encoder = SentenceText(SentenceTextConfig(model=str(folder), **settings))
    encoder.load(context())
    return encoder


def mean_of_tokens(folder: Path, text: str, length: int) -> np.ndarray:
    """The oracle: one text, without padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer([text], truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state  # (1, length, 16)
    return hidden.mean(dim=1)[0].numpy()


def test_a_plain_encoder_s_vector_is_the_mean_of_its_tokens(bert: Path) -> None:
    encoder = loaded(bert)
    assert encoder.dim == 16
    expected = [mean_of_tokens(bert, text, 24) for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)


def test_the_model_s_own_modules_normalise_and_cut(sentence_bert: Path, bert: Path) -> None:
    expected = np.stack([mean_of_tokens(bert, text, 12) for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(loaded(sentence_bert).encode(TEXTS), expected, atol=1e-5)
    shorter = np.stack([mean_of_tokens(bert, text, 4) for text in TEXTS])
    shorter /= np.linalg.norm(shorter, axis=1, keepdims=True)
    found = loaded(sentence_bert, max_length=4).encode(TEXTS)
    np.testing.assert_allclose(found, shorter, atol=1e-5)


def test_more_tokens_than_the_model_takes_are_refused(sentence_bert: Path) -> None:
    with pytest.raises(StageError, match="max_length 99 is more than the 12 tokens"):
        loaded(sentence_bert, max_length=99)


def test_a_prompt_is_put_before_each_text(bert: Path) -> None:
    found = loaded(bert, prompt="stars ").encode(["orbit rocket"])
    np.testing.assert_allclose(found, loaded(bert).encode(["stars orbit rocket"]), atol=1e-6)


def test_bfloat16_is_close(sentence_bert: Path) -> None:
    exact = loaded(sentence_bert).encode(TEXTS)
    rough = loaded(sentence_bert, bf16=True).encode(TEXTS)
    assert rough.dtype == np.float32
    assert ((exact * rough).sum(axis=1) > 0.99).all()
    assert not np.array_equal(exact, rough)


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights_are_one_clear_error(bert: Path, tmp_path: Path, how: str) -> None:
    shutil.copytree(bert, tmp_path, dirs_exist_ok=True)
    spoil(tmp_path / "model.safetensors", how)
    with pytest.raises(ArtifactError, match=DAMAGE[how]) as caught:
        loaded(tmp_path)
    assert str(tmp_path / "model.safetensors") in caught.value.message


def test_folders_that_are_no_encoders_are_explained(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is a file; a sentence encoder is a folder"):
        loaded(bert / "model.safetensors")
    shutil.copytree(bert, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text('{"model_type": "no_such_model"}')
    with pytest.raises(ArtifactError, match=r"cannot be loaded.*no_such_model.*\n.*never run"):
        loaded(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        loaded(tmp_path)


def test_encoding_before_loading_says_what_to_do() -> None:
    with pytest.raises(StageError, match="sentence_text is not loaded\n  Call load first"):
        SentenceText(SentenceTextConfig()).encode(["a"])
