"""Settings of A-LLMRec."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from dynmm_framework.config.parts import BackboneRef, EncoderRef, LanguageModelRef
from dynmm_framework.language.wording import PromptTemplate
from dynmm_framework.training.config import LoopConfig

Count = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


class MatchingConfig(LoopConfig):
    """Settings of the first stage: items and their texts in one space."""

    dim: Width = 128
    """Width of the joint space; the paper's."""
    item_weight: Weight = 0.5
    """Weight of giving the item's vector back (α); the paper's."""
    text_weight: Weight = 0.2
    """Weight of giving the text's vector back (β); the paper's."""
    prefixes: Width = 8
    """Most places in a history of which the next item is learned, the newest always among them
    (paper: 1).
    """
    epochs: Width = 50
    """Most passes over the prefixes (paper: 10)."""
    batch_size: Width = 128
    """Prefixes in one step (paper: 32)."""
    patience: Count = 5
    """Validations without improvement before training stops; 0 trains all epochs."""


class ALLMRecConfig(LoopConfig):
    """Settings of A-LLMRec; those of the loop are of the second stage, and those of the first
    stage stand under ``matching``.
    """

    changeable = frozenset()

    llm: LanguageModelRef = LanguageModelRef(name="smollm2_135m")
    """The frozen language model (paper: OPT-6.7B)."""
    backbone: BackboneRef = BackboneRef(name="sasrec")
    """The collaborative model; trained first, then frozen."""
    encoder: EncoderRef = EncoderRef(name="sentence_text")
    """Encodes the items' texts; frozen, where the paper tunes its Sentence-BERT."""
    text_fields: list[str] = []
    """Columns of the item table that make an item's text; if empty, ``text``, or ``title`` where
    there is none.
    """
    matching: MatchingConfig = MatchingConfig()
    """The first stage."""
    candidates: Annotated[int, Field(ge=2)] = 20
    """Items in a training prompt, and those of the whole catalogue that are re-ranked; the others
    stay below.
    """
    history: Count = 10
    """Newest items of a history in the prompt."""
    examples: Width = 2000
    """Training prompts: newest training prefixes of so many users, drawn once."""
    validation_users: Width = 200
    """Validation users on whom the second stage is stopped early, drawn once."""
    micro_batch: Width = 4
    """Prompts of one pass through the language model; gradients add up to ``batch_size``."""
    max_tokens: Width = 4096
    """Tokens that are read at once where nothing is trained."""
    template: PromptTemplate = PromptTemplate(
        system="",
        user="",
        history="\nis a user, who has chosen, oldest first:",
        candidates="\nOne next item to recommend to this user, out of this list:",
        task="\nThe recommendation is:",
    )
    """The prompt's wording; name the things of your data in it, such as films. The user's token
    comes before all of it.
    """

    epochs: Width = 10
    """Most passes over the training prompts (paper: 10)."""
    batch_size: Width = 16
    """Prompts in one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """Step size of the optimiser (paper: 0.0001)."""
    patience: Count = 2
    """Validations without improvement before training stops; 0 trains all epochs."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Least time between checkpoints: an epoch through a language model is worth one."""

    def divided(self, workers: int) -> Self:
        """Returns the settings of each of several workers, the first stage's likewise."""
        own = super().divided(workers)
        return own.model_copy(update={"matching": self.matching.divided(workers)})
