"""Extractors as one source, and the control that deals their evidence to other items."""

from __future__ import annotations

import numpy as np
from explanation_cases import TITLES, ToyExtractor
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.data.tables import Histories
from dynmm_framework.explain.source import EvidenceSource, ShuffledEvidence

N = len(TITLES)
SOURCE = EvidenceSource({"one": ToyExtractor(N), "two": ToyExtractor(N, each=1)})


@given(st.permutations(range(N)), st.lists(st.integers(-1, N - 1), min_size=1, max_size=6))
def test_each_item_gets_the_evidence_of_the_one_dealt_to_it(order, candidates):
    histories = Histories.of([[0, 1]], N)
    asked = np.array([[item for item in candidates if item >= 0]], np.int32)
    shuffled = ShuffledEvidence(SOURCE, np.array(order))
    found = shuffled.find(histories, asked)
    dealt = SOURCE.find(histories, np.array(order, np.int32)[asked])
    cited = np.array([fact.item for fact in SOURCE.facts(dealt)], np.int64)
    kept = dealt.take(cited != asked[dealt.table.rows, dealt.table.columns])
    for name in ("rows", "columns", "references", "scores", "support"):
        assert np.array_equal(getattr(found.table, name), getattr(kept.table, name))
    assert np.array_equal(found.extractors, kept.extractors)
    facts = shuffled.facts(found)
    assert facts == SOURCE.facts(kept)
    own = asked[found.table.rows, found.table.columns].tolist()
    assert all(fact.item != item for fact, item in zip(facts, own, strict=True))


def test_left_as_it_is_the_control_is_the_source_itself():
    histories, asked = Histories.of([[0], [2, 3]], N), np.array([[4, 5], [6, 7]], np.int32)
    same = ShuffledEvidence(SOURCE, np.arange(N)).find(histories, asked)
    plain = SOURCE.find(histories, asked)
    assert np.array_equal(same.table.references, plain.table.references)
    assert ShuffledEvidence(SOURCE, np.arange(N)).names == SOURCE.names
