"""What holds for extractors of evidence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.config.explain import FactKind
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, Interactions, TrainingData
from dynmm_framework.errors import DynmmError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.protocols import IntArray
from dynmm_framework.specs import Component, Kind
from dynmm_framework.testing.conformance.align import DIM, FixedBackbone
from dynmm_framework.testing.conformance.component import ComponentConformance, require
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.testing.features import item_features
from dynmm_framework.testing.reviews import with_reviews

USERS, CANDIDATES = 40, 12
"""Size of what extractors are asked for."""
FEWEST = 5
"""Fewest people that a number may be told of."""
SAID: Mapping[FactKind, tuple[str, ...]] = {
    "neighbour": ("name",),
    "attribute": ("name",),
    "cohort": ("count", "users"),
    "trend": ("count",),
    "passage": ("passage",),
    "review": ("passage",),
}
"""What a fact of each kind must hold, so that a sentence can say it."""
_PERSON = re.compile(r"\b(?:user|reviewer|customer)[\s_#:-]*\d", re.IGNORECASE)


class EvidenceConformance(ComponentConformance):
    """Conformance of extractors of evidence.

    The data are the generated users and items, their genres as features of two modalities, and a
    base with given vectors. Override the fixture ``data`` for an extractor that needs more.
    """

    kind: ClassVar[Kind] = "evidence"

    @pytest.fixture
    def data(
        self, registered: Component, dynmm_split: Split, dynmm_dataset: Dataset
    ) -> TrainingData:
        """What the extractor learns from; with reviews if it needs them."""
        plain = with_reviews(dynmm_split.training_data(dynmm_dataset.items), registered)
        return TrainingData(plain.train, plain.items, item_features(plain.n_items))

    @pytest.fixture
    def base(self, data: TrainingData) -> FixedBackbone:
        """What recommends."""
        return _base(data.n_items)

    @pytest.fixture
    def histories(self, dynmm_split: Split) -> Histories:
        return dynmm_split.evaluation("test").histories.take(slice(0, USERS))

    @pytest.fixture
    def candidates(self, histories: Histories) -> IntArray:
        """Items for each user, some of the user's own history among them."""
        return _candidates(len(histories), histories.n_items)

    @pytest.fixture
    def fitted(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        base: FixedBackbone,
        dynmm_context: ContextFactory,
    ) -> Any:
        extractor = make()
        extractor.fit(data, base, dynmm_context())
        return extractor

    @pytest.fixture
    def found(self, fitted: Any, histories: Histories, candidates: IntArray) -> EvidenceTable:
        return require_table(fitted.extract(histories, candidates), histories, candidates, "users")

    # What it finds.

    def test_it_finds_something(self, found: EvidenceTable) -> None:
        require(
            len(found) > 0,
            f"no record for {USERS} users with {CANDIDATES} items each, so that nothing can be"
            " checked. Choose settings that find something (config), or override the fixture data.",
        )

    def test_the_best_come_first(self, found: EvidenceTable) -> None:
        order = np.lexsort((-found.scores, found.columns, found.rows))
        sorted_ = all(
            np.array_equal(getattr(found, name), getattr(found, name)[order])
            for name in ("rows", "columns", "scores")
        )
        require(
            sorted_,
            "records are not by user, then item, then from the highest score to the lowest. Make"
            " tables by EvidenceTable.of, which orders them.",
        )

    def test_nothing_is_cited_twice(self, found: EvidenceTable) -> None:
        keys = np.stack([found.rows, found.columns, found.references])
        require(
            len(np.unique(keys, axis=1).T) == len(found),
            "the same thing is cited more than once for the same user and item.",
        )

    def test_an_item_never_speaks_for_itself(
        self, fitted: Any, found: EvidenceTable, candidates: IntArray
    ) -> None:
        asked = candidates[found.rows, found.columns]
        facts = require_facts(fitted, found.references)
        own = [item for fact, item in zip(facts, asked.tolist(), strict=True) if fact.item == item]
        require(
            not own,
            f"{len(own)} of {len(found)} records cite the recommended item itself as its neighbour"
            f" (item {own[0] if own else ''}).",
        )

    def test_facts_fit_what_is_cited(self, fitted: Any, found: EvidenceTable) -> None:
        some = np.unique(found.references)
        facts = require_facts(fitted, some)
        require(
            require_facts(fitted, some[::-1]) == facts[::-1],
            "facts() does not give the same fact for the same reference in another order.",
        )
        require(not len(require_facts(fitted, some[:0])), "facts() of nothing is not empty.")

    def test_facts_hold_what_is_said_of_their_kind(self, fitted: Any, found: EvidenceTable) -> None:
        for fact in require_facts(fitted, np.unique(found.references)):
            held = {"name": fact.name or fact.item >= 0, "passage": fact.passage}
            held |= {name: name in fact.values for name in ("count", "users")}
            missing = [name for name in SAID[fact.kind] if not held[name]]
            require(
                not missing,
                f"a fact of kind {fact.kind} has no {' and no '.join(missing)}, so that no sentence"
                " can say it.",
            )

    def test_support_is_of_the_window_that_is_told(self, fitted: Any, found: EvidenceTable) -> None:
        window = getattr(fitted, "support_window", None)
        if window is None:
            pytest.skip("all of the history is counted: it has no attribute support_window")
        require(
            isinstance(window, int) and window > 0,
            f"support_window is {window!r}; it is the number of newest items of a history that are"
            " counted. Leave it out where all are.",
        )
        most = int(found.support.max(initial=0))
        require(
            most <= window,
            f"a record rests on {most} items of the history, of which support_window says that only"
            f" the newest {window} are counted.",
        )

    def test_nobody_is_named(
        self, fitted: Any, found: EvidenceTable, dynmm_dataset: Dataset
    ) -> None:
        ids = set(dynmm_dataset.users["id"].to_pylist())
        for fact in require_facts(fitted, np.unique(found.references)):
            for text in (fact.name, fact.group, fact.passage, fact.source):
                told = _PERSON.search(text) or next(
                    (word for word in re.findall(r"\w+", text) if word in ids), None
                )
                require(
                    told is None,
                    f"a fact names a person: {text!r}. Tell of groups only, and take names out of"
                    " texts.",
                )
            few = fact.kind in ("cohort", "trend") and fact.values.get("count", FEWEST) < FEWEST
            require(
                not few,
                f"a fact tells of {fact.values.get('count')} people; with fewer than {FEWEST} it"
                " is known who they are.",
            )

    def test_vectors_are_finite_and_fit(
        self, fitted: Any, found: EvidenceTable, base: FixedBackbone
    ) -> None:
        some = np.unique(found.references)
        vectors, none = np.asarray(fitted.vectors(some)), np.asarray(fitted.vectors(some[:0]))
        width = base.vectors.shape[1]
        require(
            vectors.shape == (len(some), width) and none.shape == (0, width),
            f"vectors of {len(some)} and of 0 references have the shapes {vectors.shape} and"
            f" {none.shape}; the items' latents are {width} wide.",
        )
        require(bool(np.isfinite(vectors).all()), "vectors hold NaN or infinity.")

    # On what it depends.

    def test_users_do_not_depend_on_each_other(
        self, fitted: Any, found: EvidenceTable, histories: Histories, candidates: IntArray
    ) -> None:
        for row in range(0, len(histories), 7):
            alone = fitted.extract(histories.take(slice(row, row + 1)), candidates[row : row + 1])
            require(
                _alike(alone, found.take(found.rows == row), shift=row),
                f"user {row} asked alone gets other evidence than among {len(histories)} users.",
            )

    def test_items_do_not_depend_on_each_other(
        self, fitted: Any, found: EvidenceTable, histories: Histories, candidates: IntArray
    ) -> None:
        for column in range(0, CANDIDATES, 5):
            alone = fitted.extract(histories, candidates[:, [column]])
            among = found.take(found.columns == column)
            require(
                _alike(alone, among, columns=False),
                "an item asked alone gets other evidence than among other items.",
            )

    def test_an_example_is_left_out_of_its_own_evidence_alone(
        self, fitted: Any, found: EvidenceTable, histories: Histories, candidates: IntArray
    ) -> None:
        if not hasattr(fitted, "extract_without_own"):
            pytest.skip("it cannot leave an example out: it has no method extract_without_own")
        none = np.zeros(candidates.shape, np.bool_)
        require(
            _alike(fitted.extract_without_own(histories, candidates, none), found, exactly=True),
            "where nothing is left out, extract_without_own finds other evidence than extract.",
        )
        own = none.copy()
        own[:, ::2] = True
        table = fitted.extract_without_own(histories, candidates, own)
        require_table(table, histories, candidates, "examples left out")
        left = table.take(~own[table.rows, table.columns])
        require(
            _alike(left, found.take(~own[found.rows, found.columns]), exactly=True),
            "extract_without_own changes the evidence of pairs that are not to be left out.",
        )

    def test_a_stored_extractor_finds_the_same(
        self,
        fitted: Any,
        make: Callable[..., Any],
        base: FixedBackbone,
        found: EvidenceTable,
        histories: Histories,
        candidates: IntArray,
        tmp_path: Path,
    ) -> None:
        save_arrays(tmp_path / "state.safetensors", fitted.get_state())
        again = make()
        again.load_state(load_arrays(tmp_path / "state.safetensors"))
        again.attach(base)
        table = again.extract(histories, candidates)
        require(
            _alike(table, found, exactly=True),
            "a restored and attached extractor finds other evidence than the fitted one.",
        )
        some = np.unique(found.references)
        require(
            require_facts(again, some) == require_facts(fitted, some),
            "a restored extractor words its facts otherwise than the fitted one.",
        )
        require(
            np.array_equal(again.vectors(some), fitted.vectors(some)),
            "a restored extractor gives other vectors than the fitted one.",
        )

    def test_the_same_seed_finds_the_same(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        base: FixedBackbone,
        histories: Histories,
        candidates: IntArray,
        dynmm_context: ContextFactory,
    ) -> None:
        tables = []
        for _ in range(2):
            extractor = make()
            extractor.fit(data, base, dynmm_context(seed=3))
            tables.append(extractor.extract(histories, candidates))
        require(
            _alike(*tables, exactly=True),
            "two extractors of the same seed find other evidence; take every random number from"
            " ctx.rng, or torch inside dynmm_framework.training.seeding.seeded.",
        )

    def test_what_it_is_given_stays_as_it_is(
        self,
        make: Callable[..., Any],
        data: TrainingData,
        base: FixedBackbone,
        histories: Histories,
        candidates: IntArray,
        dynmm_context: ContextFactory,
    ) -> None:
        given = (base.vectors, histories.items, candidates, data.train.users, data.train.items)

        def digest() -> str:
            return hashlib.sha256(b"".join(part.tobytes() for part in given)).hexdigest()

        before = digest()
        extractor = make()
        extractor.fit(data, base, dynmm_context())
        extractor.extract(histories, candidates)
        require(digest() == before, "the base's vectors, histories or data were changed.")

    # At the edge.

    def test_odd_histories_are_served(self, fitted: Any, data: TrainingData) -> None:
        n = data.n_items
        odd = Histories.of([[], [0], [1, 1, 2, 1], list(range(n)), [3, 4] * 150], n)
        asked = _candidates(len(odd), n)
        require_table(fitted.extract(odd, asked), odd, asked, "odd histories")

    def test_nothing_asked_finds_nothing(self, fitted: Any, data: TrainingData) -> None:
        for lists, shape in (([], (0, 3)), ([[0, 1]], (1, 0))):
            nobody, asked = Histories.of(lists, data.n_items), np.empty(shape, np.int32)
            table = require_table(fitted.extract(nobody, asked), nobody, asked, "nothing")
            require(not len(table), f"{len(table)} records were found for {shape} pairs.")

    @pytest.mark.parametrize("n_items", [1, 3, 12])
    def test_little_data_is_learned_from_or_refused_in_words(
        self, make: Callable[..., Any], dynmm_context: ContextFactory, n_items: int
    ) -> None:
        lists: Sequence[Sequence[int]] = [[0], [], [0, 1, 0], list(range(8))]
        known = Histories.of([[i for i in row if i < n_items] for row in lists], n_items)
        extractor = make()
        try:
            extractor.fit(_little(known), _base(n_items), dynmm_context(validate=False))
        except DynmmError as error:
            require(
                bool(error.hint),
                f"learning from {n_items} items ends in {str(error)!r}, without what to do about"
                " it (hint).",
            )
            return
        asked = np.tile(np.arange(n_items, dtype=np.int32), (len(known), 1))
        table = extractor.extract(known, asked)
        require_table(table, known, asked, f"a catalogue of {n_items} items")

    def test_unfitted_it_says_so(
        self, make: Callable[..., Any], histories: Histories, candidates: IntArray
    ) -> None:
        extractor = make()
        require(not extractor.get_state(), "before fit, get_state() is not empty.")
        try:
            extractor.extract(histories, candidates)
        except DynmmError as error:
            require(bool(error.hint), f"{str(error)!r} does not say what to do about it (hint).")
            return
        except Exception as error:
            reason = f"an extractor that is not fitted raises {error!r}"
        else:
            reason = "an extractor that is not fitted finds evidence"
        pytest.fail(f"{reason}; raise StageError with a hint.", pytrace=False)

    def test_it_is_brought_up_to_date(
        self, fitted: Any, data: TrainingData, histories: Histories, candidates: IntArray
    ) -> None:
        if not hasattr(fitted, "refresh"):
            pytest.skip("its dictionary does not age: it has no method refresh")
        before = fitted.extract(histories, candidates)
        fitted.refresh(data.train.take(np.arange(0)))
        require(
            _alike(fitted.extract(histories, candidates), before, exactly=True),
            "refreshed with no interaction at all it finds other evidence.",
        )
        newest = data.train.take(np.arange(len(data.train))[-50:])
        fitted.refresh(newest)
        table = fitted.extract(histories, candidates)
        require_table(table, histories, candidates, "a refreshed extractor")
        require_facts(fitted, table.references)


def require_table(
    table: Any, histories: Histories, candidates: IntArray, what: str
) -> EvidenceTable:
    """Fails the test unless a table fits what was asked; returns it."""
    __tracebackhide__ = True
    require(
        isinstance(table, EvidenceTable),
        f"extract() returned {type(table).__name__}, not an EvidenceTable ({what}).",
    )
    lengths = {
        name: len(getattr(table, name))
        for name in ("rows", "columns", "references", "scores", "support")
    }
    require(
        len(set(lengths.values())) == 1,
        f"the columns of the table have the lengths {lengths} ({what}).",
    )
    n, width = candidates.shape
    inside = ((table.rows >= 0) & (table.rows < n)).all()
    inside = inside and ((table.columns >= 0) & (table.columns < width)).all()
    require(
        bool(inside),
        f"records are of rows or columns outside the {n} × {width} pairs asked for ({what}).",
    )
    scores = np.asarray(table.scores)
    fits = np.isfinite(scores).all() and ((scores >= 0) & (scores <= 1)).all()
    require(bool(fits), f"scores are not all in [0, 1] ({what}).")
    require(bool((table.references >= 0).all()), f"references are below 0 ({what}).")
    most = histories.lengths[table.rows]
    rests = ((table.support >= 0) & (table.support <= most)).all()
    require(
        bool(rests),
        f"support is below 0, or more than the history has items ({what}). It is the number of"
        " the history's items that the record rests on.",
    )
    checked: EvidenceTable = table
    return checked


def require_facts(extractor: Any, references: IntArray) -> list[Fact]:
    """Fails the test unless there is a sound fact for each reference; returns them."""
    __tracebackhide__ = True
    facts = list(extractor.facts(references))
    require(
        len(facts) == len(references),
        f"facts() gave {len(facts)} facts of {len(references)} references.",
    )
    kinds = get_args(FactKind)
    for fact in facts:
        require(isinstance(fact, Fact), f"facts() gave a {type(fact).__name__}, not a Fact.")
        require(fact.kind in kinds, f"a fact is of kind {fact.kind!r}; there are {kinds}.")
        numbers = all(np.isfinite(value) for value in fact.values.values())
        require(numbers, f"a fact holds a number that is not finite: {dict(fact.values)}.")
        told = fact.name or fact.passage or fact.values or fact.item >= 0
        require(bool(told), "a fact holds neither words nor numbers; find no evidence instead.")
    return facts


def _alike(
    one: EvidenceTable,
    other: EvidenceTable,
    *,
    shift: int = 0,
    columns: bool = True,
    exactly: bool = False,
) -> bool:
    """Whether two tables hold the same; equal scores, but for rounding, in any order."""
    if len(one) != len(other):
        return False
    row = one.rows + shift
    if exactly:
        orders = [np.arange(len(one)), np.arange(len(other))]
    else:
        keys = [
            (table.references, table.columns if columns else rows * 0, rows)
            for table, rows in ((one, row), (other, other.rows))
        ]
        orders = [np.lexsort(key) for key in keys]
    first, second = orders
    same = np.array_equal(row[first], other.rows[second])
    same = same and (not columns or np.array_equal(one.columns[first], other.columns[second]))
    same = same and np.array_equal(one.references[first], other.references[second])
    same = same and np.array_equal(one.support[first], other.support[second])
    scores = one.scores[first], other.scores[second]
    near = np.array_equal(*scores) if exactly else np.allclose(*scores, rtol=0, atol=1e-5)
    return bool(same and near)


def _base(n_items: int) -> FixedBackbone:
    """Returns vectors by which items of one genre are alike."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(0, 0.5, (n_items, DIM)).astype(np.float32)
    vectors[:, :6] += np.eye(6, dtype=np.float32)[np.arange(n_items) % 6]
    return FixedBackbone(vectors)


def _candidates(n: int, n_items: int) -> IntArray:
    """Returns different items for each of ``n`` users."""
    rng = np.random.default_rng(2)
    width = min(CANDIDATES, n_items)
    rows = [rng.permutation(n_items)[:width] for _ in range(n)]
    return np.array(rows, np.int32).reshape(n, width)


def _little(known: Histories) -> TrainingData:
    """Makes training data without dates, titles or texts."""
    rows = Interactions(known.rows.astype(np.int32), known.items, len(known), known.n_items)
    items = pa.table({"id": [f"i{number}" for number in range(known.n_items)]})
    return TrainingData(rows, items)
