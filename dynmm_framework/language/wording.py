"""The wording of prompts, as data: a settings block of components that write prompts."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from dynmm_framework.config.blocks import Block


def _opens(value: str) -> str:
    if value and not value.startswith("\n") and not ("<" in value and ">" in value):
        raise ValueError(
            f"{value!r} must begin with a line end or hold a marker in angle brackets, such as "
            "<HIST>; titles hold neither, so that none can pass for it"
        )
    return value


Opening = Annotated[str, AfterValidator(_opens)]


class PromptTemplate(Block):
    """The wording of a prompt; what is written into it are items' titles and soft tokens.

    The parts come in the order of these settings, those without content are left out. Titles can
    hold neither line ends nor angle brackets, so none can open or close a part.
    """

    system: str = "You know what people like, and can tell what someone will choose next."
    """Before everything; the same for all prompts, so that it is read once for a run."""
    user: Opening = "\n<USR>"
    """Before the soft token of the user."""
    history: Opening = "\n<HIST> Chosen so far, oldest first:"
    """Before the items of the history."""
    evidence: Opening = "\nEvidence:"
    """Before the soft tokens of the evidence."""
    candidates: Opening = "\n<CANDS> To choose from:"
    """Before the candidates."""
    task: Opening = "\n<TASK> How well does each one fit?"
    """After everything; what is asked."""
    entry: Opening = "\n-"
    """Before each item of the history and each candidate."""
    answer_end: str = "\n"
    """After a title that is scored by its probability: ``Alien`` is not yet ``Aliens``."""
    title_tokens: Annotated[int, Field(ge=1)] = 32
    """Most tokens of a title; the rest is cut off."""
