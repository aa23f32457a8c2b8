"""Settings of RecLLM's ranker."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from dynmm_framework.config.blocks import Block
from dynmm_framework.config.parts import LanguageModelRef, RecommenderRef
from dynmm_framework.language.wording import Opening

Count = Annotated[int, Field(ge=0, le=1000)]


def _distinct(value: list[str]) -> list[str]:
    if any(not grade.strip() for grade in value) or len(set(value)) < len(value):
        raise ValueError("grades must be words, each another one")
    return value


class RecLLMTemplate(Block):
    """The wording of profile and question. Titles and kinds are one line each and hold no brackets,
    so none can open or close a part.
    """

    system: Annotated[str, Field(min_length=1)] = (
        "You know people and things, and can tell how well something fits someone."
    )
    """Before everything; the same for all prompts, so that it is read once for a run."""
    often: Opening = "\n<PROFILE> This person often chooses:"
    """Before the kinds of things that a user has most of."""
    lately: Opening = "\n<LATELY> Chosen lately, oldest first:"
    """Before the newest titles."""
    entry: Opening = "\n-"
    """Before each of both."""
    item: Opening = "\n<ITEM> Offered:"
    """Before the title of the item that is graded."""
    kind: Opening = "\n<KIND>"
    """Before its kinds."""
    task: Opening = "\n<TASK> How well does it fit this person? The fit is"
    """Before the grade."""
    title_tokens: Annotated[int, Field(ge=1)] = 32
    """Most tokens of a title or of an item's kinds; the rest is cut off."""


class RecLLMConfig(Block):
    """Settings of RecLLM's ranker."""

    llm: LanguageModelRef = LanguageModelRef(name="smollm2_135m")
    """The language model, frozen."""
    retrieval: RecommenderRef = RecommenderRef(name="popularity")
    """Chooses what is graded where the whole catalogue is asked for."""
    rerank: Annotated[int, Field(ge=1)] = 20
    """Items of the whole catalogue that are graded; the others keep the order of ``retrieval``
    below them."""
    columns: list[str] = []
    """Columns of the item table that say of what kind an item is; ``categories`` and ``genres``,
    as far as they are there, if empty."""
    interests: Count = 5
    """Kinds in a profile: those that a user has most of, with their numbers."""
    history: Count = 10
    """Newest titles in a profile."""
    grades: Annotated[list[str], Field(min_length=2), AfterValidator(_distinct)] = [
        "bad",
        "poor",
        "fair",
        "good",
        "great",
    ]
    """Answers, the worst first; a score is the mean place among them, 0 … 1, by their
    probabilities."""
    max_tokens: Annotated[int, Field(ge=1)] = 4096
    """Tokens that are read at once."""
    template: RecLLMTemplate = RecLLMTemplate()
    """The wording; name the things of your data in it, such as films."""
