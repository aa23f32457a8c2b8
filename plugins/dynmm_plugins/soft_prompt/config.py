"""Settings of the soft prompt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynmm_framework.config.parts import LanguageModelRef
from dynmm_framework.language.wording import PromptTemplate
from dynmm_framework.training.config import CHANGEABLE, LoopConfig

Count = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1)]


class SoftPromptConfig(LoopConfig):
    """Settings of the soft prompt; those of the loop train projectors and head."""

    changeable = CHANGEABLE | {"faith_weight", "nlp_weight"}

    llm: LanguageModelRef = LanguageModelRef(name="smollm2_135m")
    """The frozen language model."""
    scorer: Literal["slots", "log_prob", "direct"] = "slots"
    """How candidates are scored: ``slots`` reads the hidden state at each candidate's place in one
    pass, ``log_prob`` the mean log-probability of each title after the prompt. ``direct`` is the
    control: the same latents through a two-layer network, without the language model.
    """
    candidates: Width = 20
    """Items that retrieval hands over and the language model re-ranks; the others stay below."""
    history: Count = 20
    """Newest items of a history in the prompt, a soft token each (paper: 50)."""
    history_titles: Count = 5
    """So many of them, the newest, have their titles before their soft tokens."""
    candidate_titles: bool = True
    """Write the candidates' titles before their soft tokens."""
    slots: Literal["inline", "after"] = "inline"
    """Where ``slots`` reads: at the candidate's own soft token, which has seen the candidates
    before it, or ``after`` the task at a soft token of its own, which has seen the whole prompt.
    """
    hidden: Width = 256
    """Inner width of projectors and of ``direct`` (paper: 256)."""
    evidence_tokens: Annotated[int, Field(ge=0, le=32)] = 16
    """Soft tokens of the evidence, at most 32, where the pipeline has ``evidence``; 0 leaves all
    evidence out, here and below."""
    evidence_per_item: Annotated[int, Field(ge=1, le=64)] = 8
    """Most records of each extractor that are read of a candidate, the best ones."""
    evidence_at: Literal["segment", "candidates", "both"] = "both"
    """Where the language model meets evidence: in the prompt's segment, in the soft token of the
    candidate that it speaks for, or in both. ``direct`` gets it with the candidates; ``log_prob``
    lists none, and has the segment alone."""
    evidence_head: bool = True
    """Whether evidence has a score of its own, besides the language model: a sum over records, with
    a weight η that is fitted as γ is."""
    evidence_width: Width = 64
    """Width of an encoded record."""
    evidence_examples: Width = 10_000
    """Training prefixes for the evidence's own head, which costs little; those count whose item is
    retrieved."""
    faith_weight: Annotated[float, Field(ge=0)] = 0.1
    """λ_f, the weight of the loss where evidence does not raise the target's probability; not with
    ``log_prob``. Each training prompt is then read a second time, without evidence."""
    faith_margin: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """δ: by how much evidence should raise it (paper: 0.05)."""
    faith: Literal["resolved", "as_printed"] = "resolved"
    """The sign of that loss; ``as_printed`` punishes evidence that helps, as the paper's equation 5
    does."""
    nlp_weight: Annotated[float, Field(ge=0)] = 0.0
    """λ_e, the weight of the likelihood of a sentence that templates make of the target's evidence,
    after the soft tokens of user, evidence and target. Above 0, a language model that writes
    explanations reads those of the evidence too."""
    examples: Width = 2000
    """Most training prompts: beginnings of training histories whose next item is retrieved, drawn
    once."""
    validation_users: Width = 200
    """Most validation users on which training is stopped early and γ is fitted, drawn once among
    those whose target is retrieved; the others tell nothing. η is fitted on all of these."""
    micro_batch: Width = 4
    """Prompts of one pass through the language model; gradients add up to ``batch_size``."""
    max_tokens: Width = 4096
    """Tokens that are read at once where nothing is trained."""
    template: PromptTemplate = PromptTemplate()
    """The prompt's wording; name the things of your data in it, such as films."""

    epochs: Width = 5
    """Most passes over the training prompts."""
    batch_size: Width = 16
    """Prompts in one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """Step size of the optimiser (paper: 0.0005)."""
    patience: Count = 1
    """Validations without improvement before training stops; 0 trains all epochs."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Least time between checkpoints: an epoch through a language model is worth one."""
