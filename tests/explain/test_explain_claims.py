"""What sentences claim, and whether the evidence holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from explanation_cases import (
    EVERYTHING,
    attribute,
    case,
    checker,
    cohort,
    neighbour,
    passage,
    trend,
)

from dynmm_framework.explain.claims import unsupported
from dynmm_framework.explain.records import Fact


def wrong(sentence: str, *evidence: object) -> list[tuple[str, str]]:
    claims = checker().check(sentence, case(*evidence))  # type: ignore[arg-type]
    return [(claim.kind, claim.text) for claim in unsupported(claims)]


def held(sentence: str, *evidence: object) -> dict[str, tuple[str, ...]]:
    claims = checker().check(sentence, case(*evidence))  # type: ignore[arg-type]
    assert not unsupported(claims), unsupported(claims)
    return {claim.text: claim.evidence for claim in claims}


def test_each_claim_rests_on_the_record_that_holds_it():
    sentence = (
        "We recommend “Babe” because you watched Toy Story, you often choose Comedy (7 of your last"
        " 20), 38 of 51 people chose it and 1,412 people did in the last 30 days."
    )
    assert held(sentence) == {
        "Babe": ("item",),
        "Toy Story": ("e1",),
        "Comedy": ("e3",),
        "7": ("e3",),
        "20": ("e3",),
        "38": ("e5",),
        "51": ("e5",),
        "1,412": ("e4",),
        "30": ("e4",),
    }


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("It is close to Aladdin.", [("title", "Aladdin")]),
        ("It is like “The Game”.", [("title", "The Game")]),
        ("It goes with Game, The.", [("title", "Game, The")]),
        ("It is a drama.", [("attribute", "drama")]),
        ("These are musicals.", [("attribute", "musicals")]),
        ("You often choose Comedy (8 of your last 20).", [("number", "8"), ("number", "20")]),
        ("You often choose Comedy (7 of your last 30).", [("number", "7"), ("number", "30")]),
        ("It was chosen 30 times in 1,412 days.", [("number", "30"), ("number", "1,412")]),
        ("Thousands of people chose it.", [("number", "Thousands")]),
        ("51 people chose it.", [("number", "51")]),  # of these 38 did
        ("1,412 people chose it in the last 30 hours.", [("number", "30")]),
        ("Twelve people chose it.", [("number", "Twelve")]),
        ("Its description says “a masterpiece”.", [("quotation", "a masterpiece")]),
        ("Tom Hanks is in it.", [("name", "Tom Hanks")]),
        ("It stars Tom Hanks.", [("name", "Tom Hanks")]),
        ("It is award-winning.", [("praise", "award-winning")]),
        ("It is the best film of all time.", [("praise", "best"), ("praise", "of all time")]),
        ("This must-see is loved by critics.", [("praise", "must-see"), ("praise", "loved by")]),
        ("It is at www.example.com/babe.", [("link", "www.example.com/babe.")]),
        ("You have chosen it before.", [("act", "You have chosen it")]),
        ("You watched Babe.", [("act", "Babe")]),
        ("You watched “The Godfather”.", [("act", "The Godfather")]),
        ("It is close to “The Godfather”, which you have seen.", [("act", "The Godfather")]),
        ("It is close to Comedy.", [("act", "close to")]),
    ],
)
def test_what_the_evidence_does_not_hold_is_found(sentence: str, found: list[tuple[str, str]]):
    assert wrong(sentence) == found


@pytest.mark.parametrize(
    "sentence",
    [
        "You may like Babe.",
        "Because you like comedies, we recommend Babe.",
        "It is close to “Toy Story”, which you have chosen.",
        "People choose it together with The Godfather.",
        "People choose it together with “Godfather, The (1972)”.",
        "Its description says “a pig says ‘hello’ to the farmer”.",
        "Its description says “A pig says…”.",
        "If it is like this, then why not?",
    ],
)
def test_what_the_evidence_holds_is_let_through(sentence: str):
    assert wrong(sentence) == []


def test_the_longest_title_counts_and_what_follows_it():
    assert wrong("It is close to Toy Story 3.") == [("number", "3")]
    assert wrong("It goes with The Godfather Part Two.") == [("name", "Part"), ("number", "Two")]


def test_numbers_of_one_attribute_bear_out_no_other():
    evidence = (attribute(1, "Comedy", 7), attribute(2, "Drama", 5))
    assert wrong("You often choose Drama (7 of your last 20).", *evidence) == [
        ("number", "7"),
        ("number", "20"),
    ]
    assert held("You often choose Drama (5 of your last 20).", *evidence)["5"] == ("e2",)


def test_an_attribute_that_nobody_counted_was_not_chosen():
    assert wrong("You often choose Comedy.", attribute(1, "Comedy", 0)) == [("act", "Comedy")]
    assert held("Its genre is Comedy.", attribute(1, "Comedy", 0)) == {"Comedy": ("e1",)}


def test_what_many_people_chose_was_not_chosen_by_this_one():
    sentence = "You have chosen it in the last 30 days."
    assert ("act", "You have chosen it") in wrong(sentence, trend(1, 40, 30))


def test_a_share_that_no_record_holds_is_a_number_of_its_own():
    evidence = (cohort(1, 30, 40),)
    assert wrong("75% of people chose it.", *evidence) == [("number", "75")]


def test_quotations_are_of_the_passage_and_in_its_order():
    evidence = (passage(1, "The farmer has a small pig."),)
    assert held("It says “a small pig”.", *evidence) == {"a small pig": ("e1",)}
    assert wrong("It says “pig a small”.", *evidence) == [("quotation", "pig a small")]


def test_claims_stand_where_they_say():
    sentence = "We recommend “Babe”, as you watched Toy Story (1,412 people did in 30 days)."
    for claim in checker().check(sentence, case()):
        assert sentence[claim.start : claim.end] == claim.text


def test_films_of_one_name_are_told_apart_by_their_years():
    evidence = (neighbour(1, 6, own=True),)
    assert held("You watched Hamlet.", *evidence)["Hamlet"] == ("e1",)
    assert wrong("You watched “Hamlet (1996)”.", *evidence) != []


def test_nothing_is_claimed_by_an_empty_sentence():
    assert checker().check("", case(*EVERYTHING)) == []


@pytest.mark.parametrize(
    "sentence", ["You watched 725 Comedy films.", "You watched 725 of them.", "725 friends did."]
)
def test_how_many_items_have_an_attribute_is_not_how_many_were_chosen(sentence):
    plain = attribute(1, "Comedy", 7)
    counted = replace(plain, fact=replace(plain.fact, values={"items": 725.0}))
    assert ("number", "725") in wrong(sentence, counted)


def test_a_number_said_to_be_chosen_is_of_the_history():
    plain = attribute(1, "Comedy", 7)
    rated = replace(plain, fact=replace(plain.fact, values={"weight": 9.0}))
    assert wrong("You watched 9 of those.", rated) == [("act", "9")]
    assert held("You watched 7 of those.", rated) == {"7": ("e1",)}


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("You do not often choose Comedy.", "not"),
        ("You don't often choose Comedy (7 of your last 20).", "don't"),
        ("You don’t often choose Comedy.", "don’t"),
        ("You dont often choose Comedy.", "dont"),
        ("You never watched Toy Story.", "never"),
        ("Babe is nothing for you.", "nothing"),
        ("It is not close to “Toy Story”, which you have chosen.", "not"),
        ("Nobody of the 51 people like you chose it, 38 did.", "Nobody"),
        ("Hardly 38 of 51 people chose it.", "Hardly"),
        ("It is unlike Toy Story.", "unlike"),
        ("You dislike Comedy.", "dislike"),
        ("Without Comedy (7 of your last 20) you choose it.", "Without"),
        ("Babe is far from what you choose.", "far from"),
    ],
)
def test_what_is_claimed_may_not_be_denied(sentence: str, word: str):
    assert ("negation", word) in wrong(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Its description says “He never goes without a pig; nobody can’t.”",
        "It is close not only to “Toy Story”, which you have chosen.",
        "So why not?",
        "There is no evidence for it that could be shown.",
    ],
)
def test_a_denial_of_the_evidence_s_own_or_of_nothing_is_let_through(sentence: str):
    evidence = (passage(1, "He never goes without a pig; nobody can't."), neighbour(2, 1, own=True))
    assert wrong(sentence, *evidence) == []


def test_a_title_that_denies_something_denies_nothing():
    from dynmm_framework.explain.claims import Checker
    from dynmm_framework.explain.vocabulary import Vocabulary

    reader = Checker(Vocabulary([(0, "Never Say Never Again"), (1, "Nobody's Fool")], ["No Wave"]))
    named = replace(case(attribute(1, "No Wave", 7)), title="Never Say Never Again")
    for sentence in (
        "“Never Say Never Again” may suit you: you often choose No Wave.",
        "Never Say Never Again is No Wave.",
    ):
        assert unsupported(reader.check(sentence, named)) == []


def test_no_default_wording_denies_anything():
    """What templates say would give way to nothing at all."""
    from dynmm_framework.config.explain import Wording
    from dynmm_framework.explain.lexicon import NEGATION

    words = Wording().model_dump()
    denying = [name for name, text in words.items() if NEGATION.search(str(text))]
    assert denying == ["nothing"]  # which claims nothing


# Numbers that only look held.


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("You often choose Comedy (7-9 of your last 20).", ["7-9", "20"]),
        ("You often choose Comedy (7 out of your last 30).", ["7", "30"]),
        ("You often choose Comedy (7/30).", ["7", "30"]),
        ("You often choose Comedy, 7 in 30.", ["7", "30"]),
        ("38k of 51k people chose it.", ["38k", "51k"]),
        ("About twenty-five people chose it.", ["twenty-five"]),
        ("About thirty-one-two people chose it.", ["thirty-one-two"]),
        ("38 critics chose it.", ["38"]),
        ("7 friends of yours chose it.", ["7"]),
        ("It costs $30.", ["30"]),
        ("It is number 7.", ["7"]),
        ("38 per cent of them chose it.", ["38"]),
        ("½ of them chose it.", ["½"]),
        ("A third of them chose it.", ["A third"]),
        ("Most people chose it.", ["Most people"]),
        ("1,412 people with choices like yours chose it.", ["1,412"]),
        ("38 people with choices like yours chose it in the last 30 days.", ["38"]),
        ("38 of 51 people chose it in the last 30 days.", ["38", "51"]),
        # Of what the numbers are is said nowhere, or of something else.
        ("It is close to “Toy Story”, and 7 of your last 20 choices.", ["7", "20"]),
        ("You often choose Comedy, and Toy Story (7 of your last 20).", ["7", "20"]),
    ],
)
def test_numbers_are_read_whole_and_with_what_they_are_of(sentence: str, found: list[str]):
    assert [text for kind, text in wrong(sentence) if kind == "number"] == found


@pytest.mark.parametrize(
    "sentence",
    [
        "You often choose Comedy (7 out of your last 20).",
        "You often choose Comedy (7/20).",
        "7 of your last 20 choices are Comedy.",
        "Thirty-eight of fifty-one people with choices like yours chose it.",
        "In the last 30 days, 1,412 people chose it.",
        "38 of 51 people with choices like yours chose it and 1,412 did in the last 30 days.",
    ],
)
def test_numbers_that_belong_together_are_let_through(sentence: str):
    assert wrong(sentence) == []


def test_a_title_that_is_a_number_bears_out_no_number():
    from dynmm_framework.explain.claims import Checker
    from dynmm_framework.explain.vocabulary import Vocabulary

    reader = Checker(Vocabulary([(0, "10"), (1, "Seven"), (2, "Toy Story"), (3, "Toy Story 2")]))
    ten = replace(case(trend(1, 40, 30)), title="10")
    assert [c.text for c in unsupported(reader.check("10 people chose it.", ten))] == ["10"]
    seven = replace(case(trend(1, 40, 30)), title="Seven", item=1)
    assert [c.text for c in unsupported(reader.check("Seven people did.", seven))] == ["Seven"]
    assert unsupported(reader.check("“Seven” may suit you: 40 people chose it.", seven)) == []
    second = replace(neighbour(1, 1, own=True), fact=Fact("neighbour", "Toy Story 2", item=3))
    first = replace(case(second), title="Toy Story", item=2)
    claims = reader.check("Toy Story is close to Toy Story 2.", first)
    assert [(c.text, c.evidence) for c in claims] == [
        ("Toy Story", ("item",)),
        ("Toy Story 2", ("e1",)),
    ]


# What is said of whom.


@pytest.mark.parametrize(
    "sentence",
    [
        "“The Godfather” is close to “Toy Story”.",
        "It is close to Toy Story, which is close to The Godfather.",
        "3 of your choices are close to Toy Story.",
        "Toy Story and The Godfather have been close to Toy Story.",
    ],
)
def test_likeness_is_of_the_recommended_item_alone(sentence: str):
    assert ("act", "close to") in wrong(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Babe, as you watched Toy Story and you enjoy the show.",
        "Babe, because you love films of this kind.",
        "Babe is close to Toy Story, as you have chosen many like it.",
    ],
)
def test_what_was_chosen_is_named(sentence: str):
    found = unsupported(checker().check(sentence, case()))
    assert [claim.kind for claim in found] == ["act"]
    assert "that the evidence does not name" in found[0].reason


def test_what_was_chosen_once_was_not_chosen_often():
    once, sometimes = attribute(1, "Comedy", 1), attribute(1, "Comedy", 7)
    for often in ("You often choose Comedy.", "You have always liked Comedy."):
        assert wrong(often, once) == [("act", "Comedy")]
        assert wrong(often, sometimes) == []
    assert wrong("You have chosen Comedy before.", once) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "As a fan of The Godfather, choose Babe.",
        "You are a big lover of The Godfather.",
        "It comes after watching The Godfather.",
    ],
)
def test_who_likes_something_has_chosen_it(sentence: str):
    assert ("act", "The Godfather") in wrong(sentence)


# Letters.


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("It is a ｂｅｓｔ film.", "praise"),
        ("It is a b\N{ZERO WIDTH JOINER}est film.", "name"),
        ("It is a b\N{CYRILLIC SMALL LETTER IE}st film.", "name"),
        ("You donʼt often choose Comedy.", "negation"),
        ("You don`t often choose Comedy.", "negation"),
        ("It is a sci fi film.", "attribute"),
        ("It is a sci-fi film.", "attribute"),
    ],
)
def test_other_letters_hide_nothing(sentence: str, kind: str):
    assert kind in [found for found, _ in wrong(sentence)]
    for claim in checker().check(sentence, case()):
        assert sentence[claim.start : claim.end] == claim.text
