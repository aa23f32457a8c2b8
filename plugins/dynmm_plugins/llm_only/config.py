"""Settings of the language model alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.config.blocks import Block
from dynmm_framework.config.parts import LanguageModelRef, RecommenderRef
from dynmm_framework.language.wording import PromptTemplate


class LLMOnlyConfig(Block):
    """Settings of the language model alone."""

    llm: LanguageModelRef = LanguageModelRef(name="smollm2_135m")
    """The frozen language model."""
    history: Annotated[int, Field(ge=0, le=1000)] = 10
    """Newest items of a history whose titles are in the prompt."""
    retrieval: RecommenderRef = RecommenderRef(name="popularity")
    """Chooses what is ranked where the whole catalogue is asked for."""
    rerank: Annotated[int, Field(ge=1)] = 20
    """Items of the whole catalogue that the language model ranks; the others keep the order of
    ``retrieval`` below them. With as many as the catalogue has, ``retrieval`` has no say.
    """
    max_tokens: Annotated[int, Field(ge=1)] = 4096
    """Tokens that are read at once."""
    template: PromptTemplate = PromptTemplate(
        system="A list of what one person chose, in order.",
        history="\nChosen so far, oldest first:",
        task="\nChosen next:",
    )
    """The prompt's wording; name the things of your data in it, such as films."""
