"""The door of ``tiny_random``, a language model for tests: random weights, made on the spot.

It is registered by the fixture ``dynmm_catalogue`` and nowhere else, so that no pipeline outside
tests can name it: what it scores means nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynmm_framework.config.blocks import Block
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


class TinyRandomConfig(Block):
    """Settings of the language model for tests."""

    architecture: Literal["llama", "opt"] = "llama"
    """Rotary positions and no biases, or learned positions and biases."""
    context_length: Annotated[int, Field(ge=8)] = 1024
    """Most tokens of one sequence; a token is a byte."""
    checkpointing: bool = False
    """Compute hidden states twice in training rather than keep them."""
    seed: int = 0
    """Seed of the weights."""


@hookimpl
def dynmm_register_language_models() -> list[ComponentSpec]:
    """Registers ``tiny_random``."""
    return [
        ComponentSpec(
            name="tiny_random",
            target="dynmm_framework.testing.language_models:TinyRandom",
            config="dynmm_framework.testing.tiny_random:TinyRandomConfig",
            summary="Random weights, for tests only: its scores mean nothing",
            requires=("torch", "transformers"),
            extra="llm",
        )
    ]
