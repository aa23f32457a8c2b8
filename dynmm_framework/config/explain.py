"""The block of explanations: for whom, in whose words, and how they are put."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from dynmm_framework.config.blocks import Block, ComponentRef, distinct

Form = Literal["preference", "similarity", "contextual"]
"""What a sentence appeals to: what someone often chooses, what is like it, what goes on."""
FactKind = Literal["neighbour", "attribute", "cohort", "trend", "passage", "review"]
"""What is cited: another item, a property, what a group of people did, how popular an item is, or
a text about it."""
FORMS: tuple[Form, ...] = ("preference", "similarity", "contextual")

_SLOT = re.compile(r"\{(\w*)(?::([^{}]*))?\}")


def _checked(*known: str) -> AfterValidator:
    """Returns a check that a text has the placeholders that it needs, and no others."""

    def check(text: str) -> str:
        slots = _SLOT.findall(text)
        if text.count("{") != len(slots) or text.count("}") != len(slots):
            raise ValueError(f"{text!r}: braces are for placeholders: {_listed(known)}")
        for name, words in slots:
            if name not in known:
                there = _listed(known) or "none"
                raise ValueError(
                    f"{text!r}: nothing is filled in for {{{name}}}; there are {there}"
                )
            if words and words.count("|") != 1:
                raise ValueError(f"{text!r}: {name} needs two words, as in {{{name}:one|many}}")
        if known and not any(name == known[0] for name, _ in slots):
            raise ValueError(f"{text!r} must hold {{{known[0]}}}")
        return text

    return AfterValidator(check)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


Whole = Annotated[str, _checked("reasons", "title")]
OfAttribute = Annotated[str, _checked("attribute", "support", "of", "group")]
OfItems = Annotated[str, _checked("items", "count")]
OfPeople = Annotated[str, _checked("count", "users", "name")]
OfCount = Annotated[str, _checked("count", "days", "of")]
OfPassage = Annotated[str, _checked("passage")]


class Wording(Block):
    """The words of sentences; everything between braces is filled in from the evidence alone.

    ``{count:time|times}`` is the first word where the count is 1, else the second.
    """

    sentence: Whole = "{title} may suit you: {reasons}."
    """The sentence. The title may be left out, the reasons not."""
    also: str = "and"
    """Stands before the last of several."""
    often: OfAttribute = "you often choose {attribute} ({support} of your last {of})"
    """An attribute that much of the history has."""
    before: OfAttribute = "you have chosen {attribute} before ({support} of your last {of})"
    """An attribute that some of the history has."""
    often_of_all: OfAttribute = (
        "you often choose {attribute} ({support} of your {of} {of:choice|choices})"
    )
    """As ``often``, where all of the history was counted."""
    before_of_all: OfAttribute = (
        "you have chosen {attribute} before ({support} of your {of} {of:choice|choices})"
    )
    """As ``before``, likewise."""
    has: OfAttribute = "its {group} is {attribute}"
    """An attribute of the item that nothing is known of the user about."""
    own_items: OfItems = "it is close to {items}, which you have chosen"
    """Neighbours that are in the history."""
    other_items: OfItems = "people choose it together with {items}"
    """Neighbours that are not."""
    cohort: OfPeople = "{count} of {users} people who chose {name} chose it too"
    """What a group of people did, who chose something that is named."""
    cohort_alone: OfPeople = "{count} of {users} people with choices like yours chose it"
    """What a group of people did, without a name."""
    trend: OfCount = "{count} {count:person|people} chose it in the last {days} {days:day|days}"
    """How popular it is, where days are known."""
    trend_undated: OfCount = (
        "{count} {count:person|people} chose it among the newest {of} {of:choice|choices}"
    )
    """How popular it is, where they are not."""
    passage: OfPassage = "its description says “{passage}”"
    """A quotation from the item's own text."""
    review: OfPassage = "a review says “{passage}”"
    """A quotation from a review."""
    nothing: Annotated[str, _checked()] = "There is no evidence for it that could be shown."
    """Where nothing was found."""
    years: bool = False
    """Keep a year in brackets at the end of titles; else it goes where the rest is still the title
    of one item alone."""
    articles: bool = True
    """Write ``Godfather, The`` as ``The Godfather``."""
    quotation: Annotated[int, Field(ge=20, le=1000)] = 160
    """Most characters of a quotation; longer passages are cut at a sentence's or word's end."""
    title_length: Annotated[int, Field(ge=20, le=1000)] = 90
    """Most characters of a title; longer ones are cut at a word's end."""


class WrittenExample(Block):
    """A sentence as it should be written, for models that learn more from one than from orders."""

    title: str
    """What is recommended."""
    facts: Annotated[list[str], Field(min_length=1)]
    """The facts that are given."""
    sentence: str
    """The sentence."""
    kinds: list[FactKind] = []
    """What the facts are: it is shown where the facts that are given are of all these kinds, as
    small models say again what an example said; without, always."""


class Instructions(Block):
    """What a language model is told that writes sentences; the evidence follows as a list."""

    system: str = (
        "You write one short sentence that tells a person why something is recommended. Say only"
        " what the facts say. Name nothing else, praise nothing, add no opinion."
    )
    """Before everything."""
    item: str = "Recommended:"
    """Before the title."""
    facts: str = "Facts:"
    """Before the facts, one on a line."""
    task: str = (
        "Write one sentence that begins with “We recommend” and gives these facts as reasons."
    )
    """After everything."""
    opening: Annotated[str, _checked("title")] = "We recommend “{title}” because"
    """How the answer of a local model begins; a served one is only told."""
    opening_words: Annotated[int, Field(ge=0, le=20)] = 2
    """So many words of the first reason follow, as small models tend to begin any reason alike."""
    examples: list[WrittenExample] = [
        WrittenExample(
            title="Tea Kettle",
            facts=["it is close to “Coffee Mill”, which you have chosen"],
            sentence="We recommend “Tea Kettle” because it is close to “Coffee Mill”, which you"
            " have chosen.",
            kinds=["neighbour"],
        ),
        WrittenExample(
            title="Garden Chair",
            facts=["you often choose Outdoor (6 of your 10 choices)"],
            sentence="We recommend “Garden Chair” because you often choose Outdoor (6 of your 10"
            " choices).",
            kinds=["attribute"],
        ),
        WrittenExample(
            title="Wool Socks",
            facts=["31 people chose it in the last 7 days"],
            sentence="We recommend “Wool Socks” because 31 people chose it in the last 7 days.",
            kinds=["trend"],
        ),
        WrittenExample(
            title="Camping Stove",
            facts=[
                "you often choose Outdoor (6 of your 10 choices)",
                "it is close to “Sleeping Bag” and “Rain Coat”, which you have chosen",
            ],
            sentence="We recommend “Camping Stove” because you often choose Outdoor (6 of your 10"
            " choices), and it is close to “Sleeping Bag” and “Rain Coat”, which you have chosen.",
            kinds=["attribute", "neighbour"],
        ),
        WrittenExample(
            title="Desk Lamp",
            facts=[
                "it is close to “Book Shelf”, which you have chosen",
                "31 people chose it in the last 7 days",
            ],
            sentence="We recommend “Desk Lamp” because it is close to “Book Shelf”, which you have"
            " chosen, and 31 people chose it in the last 7 days.",
            kinds=["neighbour", "trend"],
        ),
        WrittenExample(
            title="Picnic Rug",
            facts=[
                "you often choose Outdoor (6 of your 10 choices)",
                "31 people chose it in the last 7 days",
            ],
            sentence="We recommend “Picnic Rug” because you often choose Outdoor (6 of your 10"
            " choices), and 31 people chose it in the last 7 days.",
            kinds=["attribute", "trend"],
        ),
        WrittenExample(
            title="Rope Ladder",
            facts=[
                "it is close to “Tree House”, which you have chosen",
                "its description says “A ladder of hemp and ash”",
            ],
            sentence="We recommend “Rope Ladder” because it is close to “Tree House”, which you"
            " have chosen, and its description says “A ladder of hemp and ash”.",
            kinds=["neighbour", "passage"],
        ),
    ]
    """Sentences as they should be; those of the kinds that a question's facts are of are shown
    before it, the most alike last."""


class ExplainBlock(Block):
    """Explanations of the best recommendations of some test users, checked and measured."""

    users: Annotated[int, Field(ge=1)] = 100
    """Test users whose recommendations are explained, drawn once with the pipeline's seed."""
    items: Annotated[int, Field(ge=1, le=20)] = 3
    """Best items of each."""
    writer: Literal["template", "language_model"] = "template"
    """Who writes: templates, or a frozen language model that is given the evidence, whose sentence
    gives way to the template's where it says more than the evidence holds."""
    llm: ComponentRef | None = None
    """The language model, such as ``smollm2_135m``; for the writer ``language_model``."""
    forms: Annotated[list[Form], Field(min_length=1)] = list(FORMS)
    """Forms of sentences. Each item's turn begins with another of them, and takes the first that
    its evidence holds."""
    reasons: Annotated[int, Field(ge=1, le=3)] = 2
    """Most reasons in a sentence of a template."""
    per_item: Annotated[int, Field(ge=1, le=32)] = 4
    """Most records of evidence of a recommendation: those that add most to its score, where the
    recommender tells, then the best of every extractor in turn."""
    least_score: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A record of a lower score is not told, as too weak a reason."""
    wording: Wording = Wording()
    """The templates' words; name the things of your data in them, such as films."""
    instructions: Instructions = Instructions()
    """What the language model is told."""
    max_new_tokens: Annotated[int, Field(ge=8, le=512)] = 64
    """Most tokens of a sentence of the language model."""
    attempts: Annotated[int, Field(ge=1, le=5)] = 3
    """Most times that the language model is asked for a sentence: with the best reasons together,
    then with one at a time, until what it writes is all in the evidence."""
    faithfulness_users: Annotated[int, Field(ge=0)] = 50
    """Users for whom evidence is taken away to see what the scores make of it; needs a prompt that
    reads evidence, and some ten passes through it each."""

    @field_validator("forms")
    @classmethod
    def _each_once(cls, value: list[Form]) -> list[Form]:
        return distinct(value)

    @model_validator(mode="after")
    def _has_a_model(self) -> ExplainBlock:
        if self.writer == "language_model" and self.llm is None:
            raise ValueError("the writer language_model needs one: llm: smollm2_135m")
        if self.writer == "template" and self.llm is not None:
            raise ValueError("llm is for writer: language_model; add it, or leave llm out")
        return self
