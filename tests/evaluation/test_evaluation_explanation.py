"""Measures of explanations: closed forms, and what is known of their oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.evaluation.explanation import (
    Removals,
    bleu4,
    by_user,
    counted,
    coverage,
    diversity,
    faithfulness,
    hallucination,
    jaccard,
    rouge_l,
    target_probability,
    text_metrics,
)


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    # police kill gunman: 2 of 3 in order with "police the gunman kill" (Lin, 2004).
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(0.5)
    assert rouge_l("A, b!", "a b c d") == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert rouge_l("", "a") == rouge_l("a", "") == rouge_l("x", "y") == 0


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_rouge_l_is_symmetric_and_1_for_the_same(first: list[str], second: list[str]):
    a, b = " ".join(first), " ".join(second)
    assert rouge_l(a, b) == pytest.approx(rouge_l(b, a))
    assert rouge_l(a, a) == (1 if first else 0)


def test_bleu_is_sacrebleus():
    sentences = ["the cat sat on the mat today", "you often watch comedy films here"]
    found = bleu4(sentences, sentences)
    assert found["bleu4"] == pytest.approx(100)
    assert "nrefs:1" in found["signature"]
    assert bleu4(sentences, ["quite another text is this one", "no word alike"])["bleu4"] < 5


def test_texts_say_who_wrote_what_they_are_compared_with():
    found = text_metrics(["a b c d e"], ["a b c d e"], written_by="people")
    assert (found["texts"], found["references_written_by"]) == (1, "people")
    assert (found["rouge_l"], found["bleu4"]) == (pytest.approx(1), pytest.approx(100))
    assert text_metrics([], [], written_by="people")["bleu4"] is None


def test_probability_is_softmax_over_the_candidates():
    scores = [[0.0, math.log(3)], [5.0, -math.inf]]
    assert target_probability(scores, [1, 0]) == pytest.approx([0.75, 1.0])
    assert target_probability([[1e4, 1e4]], [0]) == pytest.approx([0.5])


def test_pairs_of_one_user_count_once():
    assert by_user([1.0, 3.0, 10.0], [4, 4, 9]) == pytest.approx([2, 10])


def test_faithful_evidence_drops_more_than_random_evidence():
    n, rng = 40, np.random.default_rng(0)
    whole = rng.uniform(0.4, 0.6, n)
    removals = Removals(
        whole=whole,
        none=whole - 0.2,
        without_cited=whole - 0.2 + rng.normal(0, 0.01, n),
        cited_alone=whole + rng.normal(0, 0.01, n),
        without_random=whole + rng.normal(0, 0.01, n),
        random_alone=whole - 0.2 + rng.normal(0, 0.01, n),
        users=np.arange(n),
    )
    found = faithfulness(removals)
    assert found["comprehensiveness"] == pytest.approx(0.2, abs=0.01)
    assert found["comprehensiveness_random"] == pytest.approx(0, abs=0.01)
    assert found["sufficiency"] == pytest.approx(0, abs=0.01)
    assert found["gain"] == pytest.approx(0.2)
    assert found["tests"]["comprehensiveness"]["t_p"] < 1e-10
    assert found["tests"]["sufficiency"]["difference"] < 0


def test_what_is_unknown_is_null():
    empty = np.empty(0)
    found = faithfulness(Removals(empty, empty, empty, empty, empty, empty, empty.astype(int)))
    assert found["comprehensiveness"] is None
    assert found["tests"]["comprehensiveness"]["t_p"] is None


def test_shares_and_counts():
    assert hallucination([2, 0, 1, 0], [0, 0, 0, 0]) == {
        "before_checking": 0.5,
        "after_checking": 0.0,
        "claims_before_checking": 0.75,
    }
    assert coverage([["a"], [], ["b", "c"], []]) == 0.5
    assert coverage([]) is None
    assert counted(["x", "", "y", "x"]) == {"x": 2, "y": 1}
    assert jaccard("ab", "bc") == pytest.approx(1 / 3)
    assert jaccard("", "") == 1


def test_diversity_is_1_where_nothing_repeats_and_0_where_all_is_one():
    assert diversity([["a"], ["b"], ["c"]]) == pytest.approx(
        {"distinct": 1, "entropy": 1, "top": 1 / 3}
    )
    assert diversity([["a"], ["a"], ["a"]]) == pytest.approx(
        {"distinct": 1 / 3, "entropy": 0, "top": 1}
    )
    assert diversity([[]]) == {"distinct": None, "entropy": None, "top": None}
