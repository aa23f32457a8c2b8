"""Settings of attributes as evidence."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block
from dynmm_framework.config.parts import EncoderRef
from dynmm_framework.training.config import LoopConfig


class PictureLabels(Block):
    """Words that pictures are told by, without training on them (zero-shot)."""

    encoder: EncoderRef = EncoderRef(name="clip")
    """An encoder of pictures that encodes texts into the same space. It must be the one of the
    pipeline's ``encoders`` block that ``modality`` names, whose vectors of the pictures are used.
    """
    modality: str = "vision"
    """Name of the block under ``encoders`` with the pictures' vectors."""
    words: Annotated[list[str], Field(min_length=2)]
    """The labels to choose from."""
    prompt: str = "a photo of {}."
    """How a label is put into words; ``{}`` is its place."""
    top: Annotated[int, Field(ge=1)] = 2
    """Most labels of one picture."""
    least: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Least probability of a label among all of them."""
    temperature: Annotated[float, Field(gt=0)] = 0.01
    """Divides the cosines before they become probabilities; 0.01 is that of OpenAI's CLIP."""


class AttributeAttentionConfig(LoopConfig):
    """Settings of attributes as evidence."""

    k: Annotated[int, Field(ge=1)] = 5
    """Most attributes of a pair of user and candidate."""
    columns: list[str] | None = None
    """Columns of the item table whose values are attributes: lists, texts or numbers. Null takes
    those of ``categories`` and ``genres`` that there are.
    """
    text: list[str] = ["text"]
    """Columns in which key phrases are looked for; those that do not exist are left out."""
    phrases: Annotated[int, Field(ge=0)] = 5
    """Most key phrases of an item; 0 looks for none."""
    phrase_words: Annotated[int, Field(ge=1, le=4)] = 2
    """Words of the longest phrase."""
    labels: PictureLabels | None = None
    """Labels of pictures; null gives none."""
    least_items: Annotated[int, Field(ge=1)] = 3
    """Items that must have an attribute; one that a single item has says nothing of others."""
    largest_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of the items that may have an attribute; one of nearly all says nothing."""
    per_item: Annotated[int, Field(ge=1)] = 16
    """Most attributes of an item; the rarest of its columns go before labels, those before phrases.
    """
    encoder: EncoderRef | None = None
    """Encodes the attributes' words, as keys of the attention. Null takes the mean latent of the
    items that have an attribute.
    """
    history: Annotated[int, Field(ge=1)] = 20
    """Newest items of a user whose latents make the query."""
    dim: Annotated[int, Field(ge=1)] = 32
    """Width of queries and keys."""
    examples: Annotated[int, Field(ge=1)] = 20_000
    """Most prefixes of training histories in one epoch."""
    negatives: Annotated[int, Field(ge=1)] = 15
    """Other items beside each next item, drawn by popularity."""
    epochs: Annotated[int, Field(ge=1)] = 5
    """Passes over the prefixes."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Prefixes in one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    """Step size of the optimiser."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
