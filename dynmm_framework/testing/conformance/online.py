"""What holds for adapters of slot ``online``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.data.tables import Histories
from dynmm_framework.online.config import OnlineConfig
from dynmm_framework.online.lesson import Lesson, People, Summary
from dynmm_framework.online.summaries import NAMES
from dynmm_framework.protocols import FloatArray
from dynmm_framework.specs import Kind
from dynmm_framework.testing.conformance.component import ComponentConformance, require
from dynmm_framework.testing.contexts import ContextFactory

N_ITEMS, DIM = 60, 6


class OnlineConformance(ComponentConformance):
    """Conformance of adapters that correct frozen latents by what recent windows say."""

    kind: ClassVar[Kind] = "adapter"

    @pytest.fixture
    def items(self) -> FloatArray:
        """Frozen latents, a zero with a sign among them."""
        found = np.random.default_rng(0).normal(size=(N_ITEMS, DIM)).astype(np.float32)
        found[3, 2] = -0.0
        return found

    @pytest.fixture
    def lesson(self) -> Lesson:
        return make_lesson(1)

    @pytest.fixture
    def begun(
        self, make: Callable[..., Any], items: FloatArray, dynmm_context: ContextFactory
    ) -> Any:
        adapter = make()
        adapter.begin(items, dynmm_context(validate=False))
        return adapter

    def test_its_settings_are_those_of_a_stream(self, make: Callable[..., Any]) -> None:
        config = getattr(make(), "config", None)
        require(
            isinstance(config, OnlineConfig),
            "the settings are not derived from dynmm_framework.online.config.OnlineConfig, or not"
            " kept as .config; the stream reads its window, replay and priors there.",
        )

    def test_untrained_it_changes_nothing(
        self, begun: Any, items: FloatArray, lesson: Lesson
    ) -> None:
        table = np.asarray(begun.correct_items(lesson.summary))
        users = np.asarray(begun.correct_users(lesson.people))
        same = table.tobytes() == items.tobytes()
        same = same and users.tobytes() == lesson.people.vectors.tobytes()
        require(same, "an untrained adapter changes latents; initialise its last layer to zero.")

    def test_without_recent_events_nothing_changes(
        self, begun: Any, items: FloatArray, lesson: Lesson
    ) -> None:
        _teach(begun, lesson)
        empty = Summary(np.empty(0, np.int32), lesson.summary.features[:0], np.empty(0, np.bool_))
        require(
            np.asarray(begun.correct_items(empty)).tobytes() == items.tobytes(),
            "with an empty window the latents are not the frozen ones, bit for bit.",
        )
        idle = np.setdiff1d(np.arange(N_ITEMS), lesson.summary.items)
        table = np.asarray(begun.correct_items(lesson.summary))
        require(
            table[idle].tobytes() == items[idle].tobytes(),
            "latents of items without a recent event are not the frozen ones, bit for bit.",
        )

    def test_frozen_parts_stay_as_they_are(
        self, begun: Any, items: FloatArray, lesson: Lesson
    ) -> None:
        def digest() -> str:
            parts = (items, lesson.summary.features, lesson.people.vectors, lesson.targets)
            return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

        before = digest()
        _teach(begun, lesson)
        require(digest() == before, "learning changed frozen latents or the lesson itself.")

    def test_learning_lowers_the_loss(self, begun: Any, lesson: Lesson) -> None:
        first = begun.step(lesson, ())
        for _ in range(60):
            last = begun.step(lesson, ())
        require(
            last["rank"] < first["rank"],
            f"after 60 steps on one window the ranking loss is {last['rank']:.4f}, at first it was"
            f" {first['rank']:.4f}; report it as 'rank'.",
        )

    def test_a_stored_adapter_goes_on_exactly(
        self,
        begun: Any,
        make: Callable[..., Any],
        items: FloatArray,
        lesson: Lesson,
        tmp_path: Path,
        dynmm_context: ContextFactory,
    ) -> None:
        _teach(begun, lesson)
        save_arrays(tmp_path / "state.safetensors", begun.get_state())
        again = make()
        again.load_state(load_arrays(tmp_path / "state.safetensors"))
        again.begin(items, dynmm_context(validate=False))
        for adapter in (begun, again):
            _teach(adapter, make_lesson(2))
        same = np.array_equal(
            begun.correct_items(lesson.summary), again.correct_items(lesson.summary)
        )
        same = same and np.array_equal(
            begun.correct_users(lesson.people), again.correct_users(lesson.people)
        )
        require(
            same,
            "a restored adapter learns otherwise than the one that was stored; its state must hold"
            " the optimiser's moments, averages and counts too.",
        )

    def test_a_reader_keeps_what_it_was_given(self, begun: Any, lesson: Lesson) -> None:
        _teach(begun, lesson)
        correct = begun.user_correction()
        before = np.array(correct(lesson.people))
        require(
            np.array_equal(before, begun.correct_users(lesson.people)),
            "user_correction() corrects otherwise than correct_users().",
        )
        _teach(begun, make_lesson(2))
        require(
            np.array_equal(before, correct(lesson.people)),
            "what user_correction() returned changed with later learning; copy the weights.",
        )

    def test_an_empty_window_is_no_lesson(self, begun: Any, lesson: Lesson) -> None:
        nothing = lesson.take(np.empty(0, np.int64))
        begun.step(nothing, ())
        begun.finish(nothing)
        table = np.asarray(begun.correct_items(lesson.summary))
        require(bool(np.isfinite(table).all()), "an empty window broke the adapter.")


def make_lesson(seed: int, n: int = 32) -> Lesson:
    """Returns a window in which few items are chosen, among those with recent events."""
    rng = np.random.default_rng(seed)
    items = np.sort(rng.choice(N_ITEMS, 20, replace=False)).astype(np.int32)
    features = rng.normal(size=(20, len(NAMES) + DIM)).astype(np.float32)
    known = Histories.of([rng.integers(0, N_ITEMS, 4).tolist() for _ in range(n)], N_ITEMS)
    people = People(
        rng.normal(size=(n, DIM)).astype(np.float32),
        rng.normal(size=(n, 1 + DIM)).astype(np.float32),
        np.ones(n, np.bool_),
        known,
    )
    return Lesson(Summary(items, features, np.ones(20, np.bool_)), people, rng.choice(items[:4], n))


def _teach(adapter: Any, lesson: Lesson) -> None:
    for _ in range(3):
        adapter.step(lesson, [make_lesson(9)])
    adapter.finish(lesson)
