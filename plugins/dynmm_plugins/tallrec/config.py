"""Settings of TALLRec."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.artifacts.weights import fingerprint
from dynmm_framework.config.blocks import Block
from dynmm_framework.config.parts import LanguageModelRef, RecommenderRef
from dynmm_framework.config.protocols import LIKED_ABOVE
from dynmm_framework.language.wording import Opening
from dynmm_framework.training.config import CHANGEABLE, LoopConfig


class TALLRecTemplate(Block):
    """The wording of a prompt: TALLRec's own for films. Titles come in double quotes, and can hold
    neither those nor line ends.
    """

    system: str = (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nGiven the user's preference and unpreference, identify whether the user "
        'will like the target movie by answering "Yes." or "No.".\n\n### Input:'
    )
    """Before everything; the same for all prompts, so that it is read once."""
    liked: Opening = "\nUser Preference:"
    """Before the titles of what the user liked."""
    disliked: Opening = "\nUser Unpreference:"
    """Before the titles of what the user did not like."""
    target: Opening = "\nWhether the user will like the target movie"
    """Before the title of what is judged."""
    task: str = "?\n\n### Response:\n"
    """After it; what follows is the answer."""
    separator: str = ","
    """Between titles."""
    yes: Annotated[str, Field(min_length=1)] = "Yes."
    """The answer for what is liked; its first token is what counts."""
    no: Annotated[str, Field(min_length=1)] = "No."
    """The answer for what is not."""
    title_tokens: Annotated[int, Field(ge=1)] = 32
    """Most tokens of a title; the rest is cut off."""


class TALLRecConfig(LoopConfig):
    """Settings of TALLRec; the defaults are the paper's."""

    changeable = CHANGEABLE | {"dropout"}

    llm: LanguageModelRef = LanguageModelRef(name="smollm2_135m")
    """The language model; it stays as it is, and the adapters are this recommender's own."""
    examples: Annotated[int, Field(ge=0)] | None = 64
    """Training examples, drawn once (K; the paper's 16, 64 and 256); all there are if null. With 0
    the language model is asked as it is.
    """
    adapter: str | None = None
    """A trained adapter: a safetensors file, or a folder as peft writes it. Then nothing is
    trained.
    """
    history: Annotated[int, Field(ge=1, le=1000)] = 10
    """Newest items of a history whose titles are in the prompt."""
    min_history: Annotated[int, Field(ge=1)] = 10
    """Training examples come after at least so many interactions of their user."""
    liked_above: float = LIKED_ABOVE
    """Items rated higher than this are liked."""
    rank: Annotated[int, Field(ge=1)] = 8
    """Rank of the adapters (r)."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """The adapters are scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of an adapter's inputs that is dropped in training."""
    layers: list[str] | None = None
    """Names of the linear layers that are adapted; those that project to queries and values, found
    by looking at the model, if null.
    """
    validation: Annotated[int, Field(ge=1)] | None = 200
    """Validation judgements whose AUC early stopping follows, drawn once; all if null."""
    epochs: Annotated[int, Field(ge=1)] = 200
    """Most passes over the examples."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Examples in one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Step size of AdamW; constant, while the paper's code warms up over 20 steps."""
    validate_every: Annotated[int, Field(ge=1)] = 10
    """Epochs between validations."""
    retrieval: RecommenderRef = RecommenderRef(name="popularity")
    """Chooses what is ranked where the whole catalogue is asked for."""
    rerank: Annotated[int, Field(ge=1)] = 20
    """Items of the whole catalogue that are judged; the others keep the order of ``retrieval``
    below them.
    """
    max_tokens: Annotated[int, Field(ge=1)] = 4096
    """Tokens that are read at once, in scoring."""
    template: TALLRecTemplate = TALLRecTemplate()
    """The prompt's wording; name the things of your data in it."""

    def fingerprint(self, registry: Registry) -> str:
        """Returns a digest of the trained adapter that is named, if one is."""
        return "" if self.adapter is None else fingerprint(self.adapter, None, registry=registry)
