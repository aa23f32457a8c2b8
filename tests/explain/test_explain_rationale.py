"""Sentences from templates."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from explanation_cases import (
    EVERYTHING,
    IDS,
    TITLES,
    attribute,
    case,
    checker,
    cohort,
    neighbour,
    passage,
    template_writer,
    titles,
    trend,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dynmm_framework.config.explain import FORMS, ExplainBlock, Wording
from dynmm_framework.config.yaml import parse
from dynmm_framework.explain.cases import Titles, in_turn, shortened, with_article_first
from dynmm_framework.explain.claims import unsupported
from dynmm_framework.explain.rationale import quotation

EXAMPLES = Path(__file__).parents[2] / "examples"


def sentence(*evidence: object, rank: int = 1, **settings: object) -> str:
    writer = template_writer(**settings)  # type: ignore[arg-type]
    return writer.one(case(*evidence, rank=rank)).sentence  # type: ignore[arg-type]


def test_each_rank_begins_with_another_form():
    found = [template_writer().one(case(rank=rank)) for rank in (1, 2, 3, 4)]
    assert [r.form for r in found] == ["preference", "similarity", "contextual", "preference"]
    assert found[0].sentence == (
        "“Babe” may suit you: you often choose Comedy (7 of your last 20), and it is close to "
        "“Toy Story”, which you have chosen."
    )
    assert found[1].sentence == (
        "“Babe” may suit you: it is close to “Toy Story”, which you have chosen, and 1,412 people"
        " chose it in the last 30 days."
    )


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (trend(1, 1, 1), "1 person chose it in the last 1 day"),
        (trend(1, 2, 7), "2 people chose it in the last 7 days"),
        (attribute(1, "Comedy", 1), "you have chosen Comedy before (1 of your last 20)"),
        (attribute(1, "Comedy", 0), "its genre is Comedy"),
        (cohort(1, 38, 51), "38 of 51 people with choices like yours chose it"),
        (neighbour(1, 3, own=False), "people choose it together with “The Godfather”"),
        (passage(1, "A pig."), "its description says “A pig”"),
    ],
)
def test_a_single_reason_is_a_whole_sentence(evidence: object, said: str):
    assert sentence(evidence) == f"“Babe” may suit you: {said}."


def test_two_neighbours_are_named_together():
    evidence = (neighbour(1, 1, own=True), neighbour(2, 2, own=True), neighbour(3, 3, own=True))
    assert "close to “Toy Story” and “Aladdin”, which you have chosen" in sentence(*evidence)


def test_without_evidence_it_says_so_and_claims_nothing():
    from dataclasses import replace

    found = template_writer().one(replace(case(), evidence=()))
    assert (found.form, found.claims) == ("none", ())
    assert found.sentence == Wording().nothing


def test_only_the_forms_that_are_asked_for_are_used():
    found = template_writer(forms=["contextual"]).one(case())
    assert found.form == "contextual"
    assert "Comedy" not in found.sentence


def test_a_wording_that_praises_gives_way():
    wording = Wording(trend="the best choice of {count} people in {days} days")
    found = template_writer(wording).one(case(trend(1, 9, 3), attribute(2, "Comedy", 7), rank=3))
    assert "best" not in found.sentence
    assert found.fallback == "praises, which evidence never does"
    assert "best" in found.draft


def test_words_of_a_wording_are_no_names():
    wording = Wording(sentence="Why {title}? Says Robin: {reasons}.")
    assert sentence(attribute(1, "Comedy", 7), wording=wording).startswith("Why “Babe”? Says Robin")


def test_claims_by_construction_are_those_that_the_checker_finds():
    for rank in (1, 2, 3):
        about = case(rank=rank)
        found = template_writer(most=3).one(about)
        read = checker().check(found.sentence, about)
        assert [(c.text, c.start) for c in read] == [(c.text, c.start) for c in found.claims]
        for built, seen in zip(found.claims, read, strict=True):
            assert set(seen.evidence) <= set(built.evidence)


@settings(max_examples=60, deadline=None)
@given(
    title=st.text(max_size=60),
    name=st.text(max_size=40),
    quoted=st.text(max_size=200),
    count=st.integers(1, 10**9),
    rank=st.integers(1, 3),
)
def test_whatever_texts_say_no_claim_is_unsupported(
    title: str, name: str, quoted: str, count: int, rank: int
):
    from dynmm_framework.config.explain import FORMS
    from dynmm_framework.explain.cases import Case
    from dynmm_framework.explain.claims import Checker
    from dynmm_framework.explain.rationale import Phrasebook
    from dynmm_framework.explain.vocabulary import Vocabulary
    from dynmm_framework.explain.writers import TemplateWriter

    given_titles = [title, name, "Best Film Ever, 100 Awards"]
    shown = Titles(given_titles, ["a", "b", "c"])
    vocabulary = Vocabulary([*enumerate(given_titles), *enumerate(shown)], [name])
    reader = Checker(vocabulary)
    writer = TemplateWriter(Phrasebook(Wording(), shown), reader, forms=FORMS, most=3)
    evidence = (
        neighbour(1, 2, own=True),
        attribute(2, name, 7),
        trend(3, count, 30),
        passage(4, quoted),
    )
    about = Case(0, 0, shown[0], evidence, rank)
    found = writer.one(about)
    assert unsupported(reader.check(found.sentence, about)) == []
    assert "\n" not in found.sentence
    for claim in found.claims:
        assert found.sentence[claim.start : claim.end] == claim.text


# Titles.


def test_years_go_where_the_rest_names_one_item():
    assert list(titles()) == [
        "Babe",
        "Toy Story",
        "Aladdin",
        "The Godfather",
        "It",
        "The Game",
        "Hamlet (1948)",
        "Hamlet (1996)",
    ]
    kept = Titles(TITLES, IDS, Wording(years=True, articles=False))
    assert kept[3] == "Godfather, The (1972)"


def test_titles_that_are_missing_are_identifiers():
    assert list(Titles([None, "", "A"], ["x1", "x2", "x3"])) == ["item x1", "item x2", "A"]


@pytest.mark.parametrize(
    ("title", "moved"),
    [
        ("Godfather, The (1972)", "The Godfather (1972)"),
        ("Avventura, L' (1960)", "L'Avventura (1960)"),
        ("Bug's Life, A", "A Bug's Life"),
        ("Me, Myself and I", "Me, Myself and I"),
    ],
)
def test_articles_come_first(title: str, moved: str):
    assert with_article_first(title) == moved


def test_long_titles_are_cut_at_a_word():
    assert shortened("one two three four", 12) == "one two…"
    assert shortened("short", 12) == "short"


def test_quotations_are_whole_sentences_where_they_fit():
    text = "A pig talks. It wants to be a sheepdog. Nobody believes it."
    assert quotation(text, 45) == "A pig talks. It wants to be a sheepdog"
    assert quotation('He says "no".', 45) == "He says ’no’"
    assert quotation("word " * 40, 30).endswith("…")


def test_extractors_take_turns():
    assert in_turn([(0, 10), (0, 11), (0, 12), (1, 20), (2, 30)]) == [10, 20, 30, 11, 12]


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"writer": "language_model"}, "needs one: llm: smollm2_135m"),
        ({"llm": "smollm2_135m"}, "llm is for writer: language_model"),
        ({"wording": {"trend": "chosen {times}"}}, "nothing is filled in for {times}"),
        ({"wording": {"trend": "chosen often"}}, "must hold {count}"),
        ({"wording": {"trend": "{count:people} chose it"}}, "{count:one|many}"),
        ({"wording": {"trend": "{count} chose it {"}}, "braces are for placeholders"),
        ({"forms": []}, "at least 1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str):
    with pytest.raises(ValidationError) as caught:
        ExplainBlock.model_validate(settings)
    assert message in str(caught.value)


def test_forms_are_taken_once():
    assert ExplainBlock(forms=["preference", "preference"]).forms == ["preference"]


def test_the_evidence_of_tests_is_of_every_kind():
    assert {c.fact.kind for c in EVERYTHING} >= {
        "neighbour",
        "attribute",
        "trend",
        "cohort",
        "passage",
    }


@pytest.mark.parametrize(
    "example",
    [path for path in sorted(EXAMPLES.glob("*.yaml")) if "  wording:" in path.read_text("utf-8")],
    ids=lambda path: path.stem,
)
def test_the_words_of_our_examples_are_never_refused(example: Path):
    block = parse(example).data["explain"]
    writer = template_writer(Wording(**block["wording"]), forms=FORMS)
    whole = (attribute(1, "Comedy", 7), attribute(1, "Comedy", 1), attribute(1, "Comedy", 0))
    counted = tuple(replace(cited, windowed=False) for cited in whole)
    others = (neighbour(2, 1, own=True), neighbour(2, 3, own=False), cohort(2, 38, 51))
    contexts = (trend(3, 55, 30), trend(3, 7, 1), passage(3, "A pig says hello to them."))
    for evidence in product((*whole, *counted), others, contexts):
        for rank in (1, 2, 3):
            found = writer.one(case(*evidence, rank=rank))
            assert not found.fallback, (found.fallback, found.draft)
            assert found.form != "none"
