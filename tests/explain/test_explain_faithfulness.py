"""Evidence taken away from a scorer of which all is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from explanation_cases import TITLES, ToyExtractor, items, titles

from dynmm_framework.config.explain import ExplainBlock
from dynmm_framework.data.tables import Histories
from dynmm_framework.evaluation.explanation import faithfulness
from dynmm_framework.evaluation.significance import holm
from dynmm_framework.explain.explanations import Explainer
from dynmm_framework.explain.faithfulness import (
    AmongOwn,
    evidence_of,
    measure_among_own,
    measure_removals,
    reads_evidence,
)
from dynmm_framework.explain.measures import (
    consistency,
    evidence_ms,
    faithful,
    summary,
    too_few,
)
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.reports.explanations import faithfulness_rows

N = len(TITLES)


class Counting:
    """Scores each candidate by the number of its records."""

    def score_with(self, histories: Histories, candidates: Any, evidence: Evidence) -> np.ndarray:
        scores = np.zeros(candidates.shape, np.float32)
        np.add.at(scores, (evidence.table.rows, evidence.table.columns), 1)
        return scores


class Deaf(Counting):
    """Scores by nothing."""

    def score_with(self, histories: Histories, candidates: Any, evidence: Evidence) -> np.ndarray:
        return np.zeros(candidates.shape, np.float32)


@pytest.fixture
def source() -> EvidenceSource:
    return EvidenceSource({"toy": ToyExtractor(N)})


@pytest.fixture
def histories() -> Histories:
    return Histories.of([[1, 2], [3], [4, 5, 6]] * 3, N)


CANDIDATES = np.tile(np.arange(4, dtype=np.int32), (9, 1))


def test_what_is_cited_counts_and_what_is_random_does_not(source, histories):
    pairs = [(row, row % 4) for row in range(9)]
    rng = np.random.default_rng(0)
    removals = measure_removals(Counting(), source, histories, CANDIDATES, pairs, rng=rng)
    assert len(removals) == 9
    even = 1 / 4  # two records each: all candidates score alike
    assert removals.whole == pytest.approx(np.full(9, even))
    assert removals.none == pytest.approx(np.full(9, even))
    assert removals.without_cited == pytest.approx(1 / (1 + 3 * np.exp(2)))
    assert removals.cited_alone == pytest.approx(np.exp(2) / (np.exp(2) + 3))
    assert (removals.without_random > even).all()
    assert (removals.random_alone < even).all()
    found = faithfulness(removals)
    assert found["comprehensiveness"] > 0 > found["comprehensiveness_random"]
    assert found["sufficiency"] < 0 < found["sufficiency_random"]
    assert found["gain"] == pytest.approx(0)
    assert found["tests"]["comprehensiveness"]["difference"] > 0
    assert found["tests"]["sufficiency"]["difference"] < 0


def test_a_scorer_that_reads_nothing_is_found_out(source, histories):
    pairs = [(row, 0) for row in range(9)]
    rng = np.random.default_rng(0)
    found = faithfulness(measure_removals(Deaf(), source, histories, CANDIDATES, pairs, rng=rng))
    assert found["comprehensiveness"] == found["sufficiency"] == found["gain"] == 0
    assert found["tests"]["comprehensiveness"]["t_p"] == 1


def test_a_user_may_be_asked_about_twice_and_pairs_without_evidence_are_left_out(histories):
    source = EvidenceSource({"toy": ToyExtractor(N)})
    pairs = [(0, 0), (0, 1), (2, 3)]
    rng = np.random.default_rng(0)
    removals = measure_removals(Counting(), source, histories, CANDIDATES, pairs, rng=rng)
    assert removals.users.tolist() == [0, 0, 2]
    nothing = EvidenceSource({})
    empty = measure_removals(Counting(), nothing, histories, CANDIDATES, pairs, rng=rng)
    assert len(empty) == 0


class Weighing(Counting):
    """Adds up the records' scores."""

    def score_with(self, histories: Histories, candidates: Any, evidence: Evidence) -> np.ndarray:
        scores = np.zeros(candidates.shape, np.float32)
        table = evidence.table
        np.add.at(scores, (table.rows, table.columns), table.scores)
        return scores


def among_own(recommender: Any, histories: Histories, *, each: int, per_item: int) -> AmongOwn:
    source = EvidenceSource({"toy": ToyExtractor(N, each=each)})
    explainer = Explainer(source, items(), ExplainBlock(per_item=per_item))
    return measure_among_own(
        recommender,
        source,
        histories,
        CANDIDATES,
        [(row, row % 4) for row in range(9)],
        shown=explainer.shown,
        rng=np.random.default_rng(0),
    )


def test_among_its_own_records_an_item_loses_more_by_those_that_say_more(histories):
    found = among_own(Weighing(), histories, each=2, per_item=1)
    assert (len(found.removals), found.shortened, found.left_out) == (9, 0, 0)
    # Of two records, 1/2 and 1/3, the better is shown; the other is all that can be drawn.
    rest = 3 * np.exp(5 / 6)
    assert found.removals.without_cited == pytest.approx(np.exp(1 / 3) / (np.exp(1 / 3) + rest))
    assert found.removals.without_random == pytest.approx(np.exp(1 / 2) / (np.exp(1 / 2) + rest))
    assert found.removals.cited_alone == pytest.approx(np.exp(1 / 2) / (np.exp(1 / 2) + 3))
    measured = faithfulness(found.removals)
    assert measured["comprehensiveness"] > measured["comprehensiveness_random"] > 0
    assert measured["sufficiency"] < measured["sufficiency_random"]


def test_among_its_own_records_those_that_only_count_do_not_differ(histories):
    found = among_own(Counting(), histories, each=4, per_item=2)
    assert found.removals.without_cited == pytest.approx(found.removals.without_random)
    measured = faithfulness(found.removals)
    assert measured["comprehensiveness"] == pytest.approx(measured["comprehensiveness_random"])
    assert measured["tests"]["comprehensiveness"]["difference"] == pytest.approx(0)


def test_where_too_few_records_are_left_it_is_counted(histories):
    shortened = among_own(Weighing(), histories, each=3, per_item=2)
    assert (len(shortened.removals), shortened.shortened, shortened.left_out) == (9, 9, 0)
    # One is left (1/4): only the better of the two that are shown is compared with it.
    lost = 1 / 3 + 1 / 4
    rest = 3 * np.exp(1 / 2 + lost)
    expected = np.exp(lost) / (np.exp(lost) + rest)
    assert shortened.removals.without_cited == pytest.approx(expected)
    none = among_own(Weighing(), histories, each=2, per_item=2)
    assert (len(none.removals), none.shortened, none.left_out) == (0, 0, 9)


def test_both_controls_stand_beside_each_other(histories):
    source = EvidenceSource({"toy": ToyExtractor(N, each=3)})
    explainer = Explainer(source, items(), ExplainBlock(per_item=2))
    found = faithful(
        Weighing(),
        source,
        histories,
        CANDIDATES,
        [-1] * 9,
        rng=np.random.default_rng(0),
        shown=explainer.shown,
    )
    assert found["target"] is None
    own = found["recommended"]["among_own"]
    assert (own["pairs"], own["shortened"], own["left_out"]) == (9, 9, 0)
    tests = [*found["recommended"]["tests"].values(), *own["tests"].values()]
    raw = [np.nan if test["t_p"] is None else test["t_p"] for test in tests]
    corrected = [np.nan if test["t_p_holm"] is None else test["t_p_holm"] for test in tests]
    np.testing.assert_array_equal(corrected, holm(raw))
    assert not np.isnan(corrected).all()
    notes = too_few(found)
    assert len(notes) == 1
    assert "recommended: with fewer others than are shown" in notes[0]
    assert notes[0].endswith(", 9")
    rows = list(faithfulness_rows({"faithfulness": found}))
    assert [row[0] for row in rows] == [
        "comprehensiveness, recommended, random of other items",
        "sufficiency, recommended, random of other items",
        "comprehensiveness, recommended, random of the same item",
        "sufficiency, recommended, random of the same item",
    ]


def test_a_prompt_says_what_it_reads(source, histories):
    class Few(Counting):
        def evidence_for(self, histories: Histories, candidates: Any) -> Evidence:
            return source.find(histories, candidates).best(1)

    assert reads_evidence(Few())
    assert not reads_evidence(object())
    assert len(evidence_of(Few(), source, histories, CANDIDATES)) == 9 * 4
    assert len(evidence_of(Counting(), source, histories, CANDIDATES)) == 9 * 4 * 2


def test_recommended_items_and_targets_are_measured_apart(source, histories):
    found = faithful(
        Counting(),
        source,
        histories,
        CANDIDATES,
        [3, 3, 3, 7, 7, 7, -1, 2, 2],
        rng=np.random.default_rng(0),
    )
    assert found["recommended"]["pairs"] == 9
    assert found["target"]["pairs"] == 5
    assert found["ms_with_evidence"] > 0


def test_explanations_are_summed_up(source, histories):
    explainer = Explainer(source, items(), ExplainBlock(per_item=2))
    recommended = np.tile(np.array([0, 4, -1], np.int32), (9, 1))
    scores = np.tile(np.array([2.0, 1.0, -np.inf]), (9, 1))
    explained = explainer.explain(histories, recommended, scores)
    assert [e.case.rank for e in explained[:2]] == [1, 2]
    assert [e.score for e in explained[:2]] == [2.0, 1.0]
    assert explained[0].case.evidence[0].own == (1 in histories[0])
    found = summary(explained, explainer)
    assert found["explanations"] == 18
    assert found["coverage"] == 1
    assert found["hallucination"]["after_checking"] == 0
    assert found["records"] == {"toy": 2.0}
    again = consistency(
        explainer,
        explainer.template,
        histories,
        recommended[:, :2],
        explained,
        rng=np.random.default_rng(0),
    )
    assert (again["jaccard"], again["n"]) == (1.0, 18)
    assert evidence_ms(source, histories, CANDIDATES) is not None


def test_ranks_may_be_given(source, histories):
    explainer = Explainer(source, items(), ExplainBlock())
    asked = np.array([[4, 0]], np.int32)
    found = explainer.explain(
        histories.take(slice(1)), asked, np.array([[1.0, 9.0]]), ranks=[17, 1]
    )
    assert [(e.case.item, e.case.rank, e.score) for e in found] == [(4, 17, 1.0), (0, 1, 9.0)]
    assert explainer.record(found[0], "u")["title"] == titles()[4]
