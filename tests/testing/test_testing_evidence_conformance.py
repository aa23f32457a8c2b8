"""Each check of extractors fails for an extractor that has just that fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from dynmm_framework.testing.conformance.evidence import EvidenceConformance

SUITE = '''
import numpy as np
import pytest

from dynmm_framework import ComponentSpec, hookimpl
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.blocks import Block
from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.testing import EvidenceConformance


class Config(Block):
    least: int = 5
    """Fewest people."""


class Good:
    """Cites the items next to the recommended one, the nearer the stronger."""

    def __init__(self, config):
        self.config = config
        self.counts = np.empty(0)
        self.base = None

    def fit(self, data, base, ctx):
        self.counts = data.train.item_counts().astype(np.float64)
        self.attach(base)

    def attach(self, base):
        self.base = base

    def extract(self, histories, candidates):
        if not len(self.counts):
            raise StageError("not fitted", hint="Call fit first.")
        rows, columns, references, scores, support = [], [], [], [], []
        for row in range(len(histories)):
            own = set(histories[row].tolist())
            for column, item in enumerate(candidates[row].tolist()):
                for step in (1, 2):
                    near = item + step
                    if near < len(self.counts):
                        rows.append(row)
                        columns.append(column)
                        references.append(near)
                        scores.append(1 / step - 0.1)
                        support.append(near in own)
        return EvidenceTable.of(rows, columns, references, scores, support)

    def facts(self, references):
        return [Fact("neighbour", name=f"Item {i}", item=i) for i in references.tolist()]

    def vectors(self, references):
        return self.base.item_vectors()[references]

    def get_state(self):
        return {"counts": self.counts} if len(self.counts) else {}

    def load_state(self, state):
        self.counts = state["counts"] if state else np.empty(0)

    def changed(self, table, **columns):
        names = ("rows", "columns", "references", "scores", "support")
        return EvidenceTable(**{name: getattr(table, name) for name in names} | columns)


class CitesItself(Good):
    def facts(self, references):
        return [Fact("neighbour", name=f"Item {i}", item=i - 1) for i in references.tolist()]


class Unsorted(Good):
    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        order = np.lexsort((table.scores, table.columns, table.rows))
        return table.take(order)


class ScoresAboveOne(Good):
    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return self.changed(table, scores=table.scores * 2)


class FactsMissing(Good):
    def facts(self, references):
        return super().facts(references)[:-1]


class FactsInAnotherOrder(Good):
    def facts(self, references):
        return super().facts(np.sort(references))


class NaNVectors(Good):
    def vectors(self, references):
        vectors = super().vectors(references)
        vectors[references == 7] = np.nan
        return vectors


class Wider(Good):
    def vectors(self, references):
        return np.hstack([super().vectors(references)] * 2)


class Forgets(Good):
    def fit(self, data, base, ctx):
        super().fit(data, base, ctx)
        self.strength = 0.5

    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return self.changed(table, scores=table.scores * getattr(self, "strength", 1))


class NamesAUser(Good):
    def facts(self, references):
        return [Fact("passage", passage=f"u{i % 9} liked it") for i in references.tolist()]


class NamesANumber(Good):
    def facts(self, references):
        return [Fact("cohort", name=f"liked by user {i}") for i in references.tolist()]


class TellsOfFew(Good):
    def facts(self, references):
        return [Fact("cohort", values={"count": 2}) for _ in references]


class LooksAround(Good):
    """Scores by what else is in the batch."""

    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return self.changed(table, scores=table.scores / max(1, len(histories)))


class LooksAtOtherItems(Good):
    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return self.changed(table, scores=table.scores / max(1, candidates.shape[1]))


class Twice(Good):
    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return table.take(np.repeat(np.arange(len(table)), 2))


class WrongSupport(Good):
    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return self.changed(table, support=table.support + 1)


class Unseeded(Good):
    def fit(self, data, base, ctx):
        super().fit(data, base, ctx)
        self.counts += np.random.random()

    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return self.changed(table, scores=table.scores * (self.counts[0] % 1))


class ChangesTheBase(Good):
    def fit(self, data, base, ctx):
        super().fit(data, base, ctx)
        base.vectors /= 2


class FindsNothing(Good):
    def extract(self, histories, candidates):
        super().extract(histories, candidates)
        return EvidenceTable.empty()


class Unfitted(Good):
    def extract(self, histories, candidates):
        return super().extract(histories, candidates) if len(self.counts) else EvidenceTable.empty()


class NeedsAHistory(Good):
    def extract(self, histories, candidates):
        for row in range(len(histories)):
            histories[row][-1]
        return super().extract(histories, candidates)


class NeedsManyItems(Good):
    def fit(self, data, base, ctx):
        super().fit(data, base, ctx)
        self.counts[20]


class FindsAnyway(Good):
    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        return table if candidates.size else EvidenceTable.of([0], [0], [1], [0.5])


class AgesBadly(Good):
    def refresh(self, recent):
        self.counts = self.counts[:-1]


class SaysNothing(Good):
    def facts(self, references):
        return [Fact("trend", values={"days": 3}) for _ in references]


class WindowTooSmall(Good):
    support_window = 1

    def extract(self, histories, candidates):
        table = super().extract(histories, candidates)
        two = np.minimum(histories.lengths[table.rows], 2)
        return self.changed(table, support=two.astype(np.int32))


class NoWindow(Good):
    support_window = 0


class LeavesAllOut(Good):
    def extract_without_own(self, histories, candidates, own):
        table = self.extract(histories, candidates)
        return table if not own.any() else table.take(np.arange(0))


class LeavesOutUnasked(Good):
    def extract_without_own(self, histories, candidates, own):
        return EvidenceTable.empty()


class LeavesOut(Good):
    support_window = 50

    def extract_without_own(self, histories, candidates, own):
        table = self.extract(histories, candidates)
        return table.take(~own[table.rows, table.columns])


KINDS = [value for value in list(globals().values())
         if isinstance(value, type) and issubclass(value, Good)]


class Door:
    @hookimpl
    def dynmm_register_evidence_extractors(self):
        return [ComponentSpec(name=kind.__name__, target=f"test_extractors:{kind.__name__}",
                              config="test_extractors:Config", summary="x") for kind in KINDS]


@pytest.fixture(scope="session")
def dynmm_catalogue():
    catalogue = load_catalogue(only=["ranking_metrics"])
    catalogue.register(Door(), name="extractors")
    return catalogue


class Here(EvidenceConformance):
    def test_door_and_config_import_nothing_heavy(self):
        pytest.skip("this module is no door")


for kind in KINDS:
    name = f"Test{kind.__name__}"
    globals()[name] = type(name, (Here,), {"component": kind.__name__})
del Here, EvidenceConformance
'''

FAULTS = {
    "CitesItself": {"an_item_never_speaks_for_itself": "cite the recommended item itself"},
    "Unsorted": {"the_best_come_first": "from the highest score to the lowest"},
    "ScoresAboveOne": {"it_finds_something": "scores are not all in [0, 1]"},
    "FactsMissing": {"facts_fit_what_is_cited": "facts of"},
    "FactsInAnotherOrder": {"facts_fit_what_is_cited": "in another order"},
    "NaNVectors": {"vectors_are_finite_and_fit": "NaN or infinity"},
    "Wider": {"vectors_are_finite_and_fit": "the items' latents are 12 wide"},
    "Forgets": {"a_stored_extractor_finds_the_same": "finds other evidence"},
    "NamesAUser": {"nobody_is_named": "names a person: 'u"},
    "NamesANumber": {"nobody_is_named": "names a person: 'liked by user"},
    "TellsOfFew": {"nobody_is_named": "tells of 2 people"},
    "LooksAround": {"users_do_not_depend_on_each_other": "asked alone"},
    "LooksAtOtherItems": {"items_do_not_depend_on_each_other": "asked alone"},
    "Twice": {"nothing_is_cited_twice": "more than once"},
    "WrongSupport": {"odd_histories_are_served": "more than the history has items"},
    "Unseeded": {"the_same_seed_finds_the_same": "ctx.rng"},
    "ChangesTheBase": {"what_it_is_given_stays_as_it_is": "were changed"},
    "FindsNothing": {"it_finds_something": "no record for 40 users"},
    "Unfitted": {"unfitted_it_says_so": "raise StageError"},
    "NeedsAHistory": {"odd_histories_are_served": "IndexError"},
    "NeedsManyItems": {"little_data_is_learned_from_or_refused_in_words[1]": "IndexError"},
    "FindsAnyway": {"nothing_asked_finds_nothing": "outside the 0 × 3 pairs"},
    "SaysNothing": {"facts_hold_what_is_said_of_their_kind": "kind trend has no count"},
    "WindowTooSmall": {"support_is_of_the_window_that_is_told": "only the newest 1 are counted"},
    "NoWindow": {"support_is_of_the_window_that_is_told": "support_window is 0"},
    "LeavesAllOut": {
        "an_example_is_left_out_of_its_own_evidence_alone": "pairs that are not to be left out"
    },
    "LeavesOutUnasked": {
        "an_example_is_left_out_of_its_own_evidence_alone": "where nothing is left out"
    },
    "AgesBadly": {"it_is_brought_up_to_date": "finds other evidence"},
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, str]]:
    """Extractor to failed check to reason."""
    folder = tmp_path_factory.mktemp("extractors")
    (folder / "test_extractors.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
        "-p", "dynmm_framework.testing.installed", "--dynmm-findings", "found.jsonl",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, dict[str, str]] = {}
    for line in (folder / "found.jsonl").read_text().splitlines():
        finding = json.loads(line)
        checks = found.setdefault(finding["suite"].removeprefix("Test"), {})
        if finding["outcome"] in ("failed", "error"):
            checks[finding["check"].removeprefix("test_")] = finding["reason"]
    return found


def test_a_good_extractor_passes(bad: Mapping[str, Mapping[str, str]]) -> None:
    assert bad["Good"] == {}
    assert bad["LeavesOut"] == {}  # with all that is optional


@pytest.mark.parametrize("extractor", FAULTS)
def test_a_fault_fails_the_check_that_is_meant_for_it(
    bad: Mapping[str, Mapping[str, str]], extractor: str
) -> None:
    for check, text in FAULTS[extractor].items():
        assert text in bad[extractor].get(check, ""), bad[extractor]


def test_every_check_can_fail(bad: Mapping[str, Mapping[str, str]]) -> None:
    failed = {check.partition("[")[0] for checks in bad.values() for check in checks}
    own = {name.removeprefix("test_") for name in vars(EvidenceConformance) if "test_" in name}
    assert own <= failed
