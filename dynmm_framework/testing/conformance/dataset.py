"""What holds for readers of datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dynmm_framework.data.tables import Dataset
from dynmm_framework.specs import Kind
from dynmm_framework.testing.conformance.component import ComponentConformance, require
from dynmm_framework.testing.contexts import ContextFactory, RecordingContext


class DatasetConformance(ComponentConformance):
    """Conformance of readers of datasets.

    Set ``component`` and ``config``; override the fixture :attr:`settings` where a setting is only
    known in the test, such as the path of a small file that it writes.
    """

    kind: ClassVar[Kind] = "dataset"

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """The settings of the reader; override it for those that a test has to make."""
        return self.config

    @pytest.fixture
    def ctx(self, dynmm_context: ContextFactory) -> RecordingContext:
        """The context that the reader works in."""
        return dynmm_context(seed=1, validate=False)

    @pytest.fixture
    def make(
        self, dynmm_catalogue: Any, registered: Any, settings: Mapping[str, Any]
    ) -> Callable[..., Any]:
        """Makes a fresh reader: ``make()``, or ``make(path="x.csv")`` to change settings."""
        return lambda **changed: dynmm_catalogue.create(registered, {**settings, **changed})

    @pytest.fixture
    def dataset(self, make: Callable[..., Any], ctx: RecordingContext) -> Dataset:
        """What it reads."""
        found = make().read(ctx)
        require(
            isinstance(found, Dataset),
            f"read(ctx) returned {type(found).__name__}; return a Dataset, as"
            " dynmm_framework.data.assemble.assemble makes one of any table.",
        )
        dataset: Dataset = found
        return dataset

    def test_it_names_the_files_that_it_reads(
        self, make: Callable[..., Any], ctx: RecordingContext
    ) -> None:
        files = list(make().files(ctx))
        require(bool(files), "files(ctx) names no file, so a changed file would go unnoticed.")
        absent = [str(path) for path in files if not Path(path).is_file()]
        require(
            not absent,
            f"files(ctx) names what is no file: {', '.join(absent)}. Raise DataError for a file"
            " that is missing; dynmm_framework.data.files.require_file does.",
        )

    def test_it_reads_without_changing_its_files(
        self, make: Callable[..., Any], ctx: RecordingContext
    ) -> None:
        def digests() -> list[str]:
            return [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in reader.files(ctx)]

        reader = make()
        before = digests()
        reader.read(ctx)
        require(digests() == before, "reading changed the files.")

    def test_interactions_name_users_and_items_that_exist(self, dataset: Dataset) -> None:
        rows = dataset.interactions
        require(len(rows) > 0, "there are no interactions.")
        for what, ids, count in (
            ("users", rows.users, rows.n_users),
            ("items", rows.items, rows.n_items),
        ):
            require(
                ids.dtype == np.int32 and bool((ids >= 0).all() and (ids < count).all()),
                f"interactions.{what} must be int32 ids from 0 to {count - 1}; they are"
                f" {ids.dtype} from {ids.min()} to {ids.max()}.",
            )

    def test_items_and_users_have_names_of_their_own(self, dataset: Dataset) -> None:
        rows = dataset.interactions
        for what, table, count in (
            ("items", dataset.items, rows.n_items),
            ("users", dataset.users, rows.n_users),
        ):
            names = table["id"].to_pylist()
            require(
                len(names) == len(set(names)) == count and None not in names,
                f"the table of {what} must have {count} different ids in its column id; it has"
                f" {len(set(names))} in {len(names)} rows.",
            )

    def test_interactions_are_in_order_of_user_and_time(self, dataset: Dataset) -> None:
        rows = dataset.interactions
        ordered = rows.chronological()
        require(
            np.array_equal(rows.users, ordered.users) and np.array_equal(rows.items, ordered.items),
            "interactions are not by user, then time; call interactions.chronological(), or let"
            " dynmm_framework.data.assemble.assemble do it.",
        )

    def test_ratings_and_times_are_finite(self, dataset: Dataset) -> None:
        rows = dataset.interactions
        require(
            rows.ratings is None or bool(np.isfinite(rows.ratings).all()),
            "ratings hold NaN or infinity.",
        )
        require(
            rows.timestamps is None or bool((rows.timestamps >= 0).all()),
            "timestamps are unix seconds, and some are negative.",
        )

    def test_reading_again_gives_the_same(
        self, make: Callable[..., Any], ctx: RecordingContext, dataset: Dataset
    ) -> None:
        again = make().read(ctx)
        one, other = dataset.interactions, again.interactions
        same = np.array_equal(one.users, other.users) and np.array_equal(one.items, other.items)
        same = same and dataset.items.equals(again.items) and dataset.users.equals(again.users)
        require(same, "read a second time, the dataset differs: depend on no order of a set.")
