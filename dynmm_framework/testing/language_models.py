"""A tiny language model with random weights and a tokenizer of bytes, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dynmm_framework.language.causal import CausalLM
from dynmm_framework.language.component import CausalLMComponent
from dynmm_framework.protocols import Context
from dynmm_framework.testing.tiny_random import TinyRandomConfig

SPECIAL = ("<s>", "</s>", "<|im_start|>")
"""Special tokens of the tokenizer; the first begins a text, the second ends it."""
WIDTH = 32
"""Width of hidden states."""


class TinyRandom(CausalLMComponent):
    """Two layers of random weights and a tokenizer of bytes; the kind is what is tested, not it."""

    def __init__(self, config: TinyRandomConfig) -> None:
        super().__init__(config)  # type: ignore[arg-type]  # it loads nothing
        self._tiny = config

    def read(self, ctx: Context) -> CausalLM:
        ctx.log("tiny_random has random weights: numbers made with it mean nothing")
        config = self._tiny
        network = tiny_network(
            architecture=config.architecture,
            context_length=config.context_length,
            seed=config.seed,
        )
        return CausalLM(
            network.to(ctx.device),
            byte_tokenizer(),
            name="tiny_random",
            checkpointing=config.checkpointing,
        )


def byte_tokenizer(*, pad: bool = False) -> Any:
    """Makes a tokenizer whose tokens are the 256 bytes, and :data:`SPECIAL`.

    Args:
        pad: Give it a token for padding, which many models lack.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer: Any = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*SPECIAL, *(["<pad>"] if pad else [])])
    factory: Any = PreTrainedTokenizerFast
    return factory(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=[SPECIAL[2]],
        **({"pad_token": "<pad>"} if pad else {}),
    )


def tiny_network(*, architecture: str = "llama", context_length: int = 1024, seed: int = 0) -> Any:
    """Makes a causal language model of two layers with random weights."""
    from transformers import AutoModelForCausalLM, LlamaConfig, OPTConfig

    shape: dict[str, Any] = {
        "vocab_size": 256 + len(SPECIAL) + 1,
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": context_length,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    config: Any
    if architecture == "llama":
        config = LlamaConfig(
            intermediate_size=2 * WIDTH, num_key_value_heads=2, initializer_range=0.2, **shape
        )
    else:
        config = OPTConfig(
            ffn_dim=2 * WIDTH, word_embed_proj_dim=WIDTH, init_std=0.2, dropout=0.1,
            attention_dropout=0.1, pad_token_id=1, **shape
        )  # fmt: skip
    factory: Any = AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory.from_config(config)


def write_tiny_random(folder: Path, *, architecture: str = "llama", seed: int = 0) -> Path:
    """Writes the model and its tokenizer as a folder that any loader of such folders reads."""
    tiny_network(architecture=architecture, seed=seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
