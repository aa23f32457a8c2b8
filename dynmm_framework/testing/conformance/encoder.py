"""What holds for everything that turns texts, images and sounds into vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Dataset
from dynmm_framework.specs import Kind
from dynmm_framework.testing.conformance.component import ComponentConformance, require
from dynmm_framework.testing.conformance.contents import (
    contents,
    encode,
    global_state,
    mixed_lengths,
    odd_inputs,
    ready,
    same_genre,
    same_neighbour,
    snapshot,
)
from dynmm_framework.testing.conformance.measuring import (
    largest_difference,
    other_global_randomness,
)
from dynmm_framework.testing.contexts import ContextFactory, RecordingContext

MODALITIES = ("text", "image", "audio")
INPUTS = 24
"""Items whose content is encoded in the tests."""


class EncoderConformance(ComponentConformance):
    """Conformance of encoders of one modality.

    Set ``component`` and ``config``; :attr:`settings` may be overridden by a fixture where a
    setting is only known in the test, such as the folder of a checkpoint made there.
    """

    kind: ClassVar[Kind] = "encoder"
    close: ClassVar[float] = 1e-5
    """Largest difference that a vector may show with the company it is encoded in."""
    alike: ClassVar[tuple[float, float] | None] = None
    """Least and largest share of the generated items whose nearest neighbour (cosine) is of the
    same genre; chance is about one sixth. ``None`` for encoders without knowledge, such as random
    weights."""

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """The settings of the encoder; override it for those that a test has to make."""
        return self.config

    @pytest.fixture
    def ctx(self, dynmm_context: ContextFactory) -> RecordingContext:
        """The context that the encoder is loaded in."""
        return dynmm_context(seed=1, validate=False)

    @pytest.fixture
    def inputs(self, make: Callable[..., Any], dynmm_dataset: Dataset) -> Sequence[Any]:
        """Contents of generated items, as the core hands them to ``prepare``."""
        return [value for _, value in contents(dynmm_dataset, make().modality)][:INPUTS]

    @pytest.fixture
    def encoder(
        self, make: Callable[..., Any], ctx: RecordingContext, inputs: Sequence[Any]
    ) -> Any:
        """A loaded encoder, fitted on the inputs if it has to see them first."""
        return ready(make(), ctx, inputs)

    def test_it_says_what_it_encodes(self, make: Callable[..., Any]) -> None:
        modality = getattr(make(), "modality", None)
        require(
            modality in MODALITIES,
            f"modality is {modality!r}; set it to one of {', '.join(MODALITIES)}, before load too.",
        )

    def test_vectors_are_finite_and_as_wide_as_announced(
        self, encoder: Any, inputs: Sequence[Any]
    ) -> None:
        self._require_vectors(encoder, inputs, "generated items")

    def test_a_vector_does_not_depend_on_its_company(
        self, encoder: Any, inputs: Sequence[Any]
    ) -> None:
        prepared = [encoder.prepare(value) for value in mixed_lengths(inputs)]
        together = encoder.encode(prepared)
        alone = np.concatenate([encoder.encode([value]) for value in prepared])
        backwards = encoder.encode(prepared[::-1])[::-1]
        difference = max(
            largest_difference(together, alone), largest_difference(together, backwards)
        )
        require(
            difference <= self.close,
            f"an input's vector changes by up to {difference:.3g} with what else is in the batch."
            " Look for padding that is not masked, normalisation over the batch or over padded"
            " time, dropout that is still on (module.eval()), or rows in another order.",
        )

    def test_vectors_are_the_same_each_time(
        self,
        encoder: Any,
        make: Callable[..., Any],
        ctx: RecordingContext,
        inputs: Sequence[Any],
    ) -> None:
        first = encode(encoder, inputs)
        with other_global_randomness():
            again = encode(encoder, inputs)
            other = encode(ready(make(), ctx, inputs), inputs)
        for vectors, what in ((again, "encoded again"), (other, "encoded by a new instance")):
            difference = largest_difference(first, vectors)
            require(
                difference == 0,
                f"{what}, vectors differ by up to {difference:.3g}. Load every weight (none drawn"
                " at random), switch dropout off (module.eval()), and draw randomness of a fit"
                " from ctx.rng(name).",
            )

    def test_preparing_in_threads_changes_nothing(
        self, encoder: Any, inputs: Sequence[Any]
    ) -> None:
        with ThreadPoolExecutor(4) as pool:
            prepared = list(pool.map(encoder.prepare, [*inputs, *inputs]))
        wanted = encode(encoder, inputs)
        for half in (prepared[: len(inputs)], prepared[len(inputs) :]):
            require(
                largest_difference(encoder.encode(half), wanted) == 0,
                "inputs prepared in several threads give other vectors: prepare must not keep"
                " state on the encoder.",
            )

    def test_one_input_and_none_are_served(self, encoder: Any, inputs: Sequence[Any]) -> None:
        self._require_vectors(encoder, inputs[:1], "one input")
        none = encoder.encode([])
        require(
            none.shape == (0, encoder.dim),
            f"encode([]) has shape {none.shape}, not (0, {encoder.dim}).",
        )

    def test_odd_inputs_are_served(self, encoder: Any) -> None:
        for what, value in odd_inputs(encoder.modality).items():
            self._require_vectors(encoder, [value], what)

    def test_inputs_are_left_unchanged(self, encoder: Any, inputs: Sequence[Any]) -> None:
        before = [snapshot(value) for value in inputs]
        encode(encoder, inputs)
        changed = sum(
            not np.array_equal(then, snapshot(value))
            for then, value in zip(before, inputs, strict=True)
        )
        require(changed == 0, f"{changed} inputs were changed. Work on copies.")

    def test_global_state_is_left_alone(
        self, make: Callable[..., Any], ctx: RecordingContext, inputs: Sequence[Any]
    ) -> None:
        before = global_state()
        encode(ready(make(), ctx, inputs), inputs)
        changed = [name for name, value in global_state().items() if value != before[name]]
        require(
            not changed,
            f"loading or encoding changed global state: {', '.join(changed)}. Other components"
            " of the run depend on it: draw random weights inside"
            " dynmm_framework.training.seeding.seeded, and switch gradients off by"
            " torch.inference_mode().",
        )

    def test_like_is_near_like(self, encoder: Any, dynmm_dataset: Dataset) -> None:
        if self.alike is None:
            pytest.skip("alike is not set")
        rows, values = zip(*contents(dynmm_dataset, encoder.modality), strict=True)
        vectors = encode(encoder, values).astype(np.float64)
        genres = np.array([dynmm_dataset.items["categories"][row][0].as_py() for row in rows])
        share = same_neighbour(vectors, genres)
        low, high = self.alike
        require(
            low <= share <= high,
            f"the nearest neighbour of {share:.3f} of the generated items is of their genre,"
            f" expected {low:g} to {high:g}; chance is {same_genre(genres):.3f}.",
        )

    def test_a_gpu_gives_the_vectors_of_the_cpu(
        self,
        encoder: Any,
        make: Callable[..., Any],
        inputs: Sequence[Any],
        dynmm_context: ContextFactory,
    ) -> None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        there = ready(make(), dynmm_context(seed=1, device="cuda:0", validate=False), inputs)
        one, other = encode(encoder, inputs), encode(there, inputs)
        difference = largest_difference(one, other) / max(float(np.abs(one).max()), 1e-12)
        require(difference <= 1e-2, f"vectors of a GPU differ by {difference:.3g} of the largest.")

    @pytest.fixture
    def make(
        self, dynmm_catalogue: Any, registered: Any, settings: Mapping[str, Any]
    ) -> Callable[..., Any]:
        """Makes a fresh encoder: ``make()``, or ``make(dim=8)`` to change settings."""
        return lambda **changed: dynmm_catalogue.create(registered, {**settings, **changed})

    def _require_vectors(self, encoder: Any, values: Sequence[Any], what: str) -> None:
        vectors = encode(encoder, values)
        wanted = (len(values), encoder.dim)
        require(
            isinstance(vectors, np.ndarray) and vectors.dtype == np.float32,
            f"{what}: vectors are {getattr(vectors, 'dtype', type(vectors).__name__)}; return"
            " float32 NumPy arrays.",
        )
        require(
            vectors.shape == wanted and encoder.dim > 0,
            f"{what}: vectors have shape {vectors.shape}, not {wanted} (inputs, encoder.dim).",
        )
        bad = int((~np.isfinite(vectors)).any(axis=1).sum())
        require(bad == 0, f"{what}: {bad} of {len(values)} vectors are not finite.")


class FeatureReaderConformance(ComponentConformance):
    """Conformance of encoders whose vectors exist already, in a file.

    Set ``component``, and override the fixture ``settings`` to name a file for the items of the
    fixture ``items``.
    """

    kind: ClassVar[Kind] = "encoder"

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """The settings of the reader; override it."""
        return self.config

    @pytest.fixture
    def items(self, dynmm_dataset: Dataset) -> pa.Table:
        """The item table: the generated one."""
        return dynmm_dataset.items

    @pytest.fixture
    def read(
        self,
        dynmm_catalogue: Any,
        registered: Any,
        settings: Mapping[str, Any],
        dynmm_context: ContextFactory,
    ) -> Callable[[pa.Table], Features]:
        """Reads the features of a table's items with a fresh reader."""
        ctx = dynmm_context(validate=False)
        return lambda items: dynmm_catalogue.create(registered, settings).read(items, ctx)

    def test_every_item_has_a_place(
        self, read: Callable[[pa.Table], Features], items: pa.Table
    ) -> None:
        features = read(items)
        require(
            isinstance(features, Features) and len(features.vectors) == items.num_rows,
            f"read(items) must return Features with one row for each of {items.num_rows} items.",
        )
        require(bool(features.present.any()), "no item has features.")
        require(
            features.vectors.dtype == np.float32 and not features.vectors[~features.present].any(),
            "vectors must be float32, and zero where an item has none.",
        )

    def test_features_follow_their_items(
        self, read: Callable[[pa.Table], Features], items: pa.Table
    ) -> None:
        order = np.random.default_rng(0).permutation(items.num_rows)
        straight, mixed = read(items), read(items.take(pa.array(order)))
        require(
            np.array_equal(straight.vectors[order], mixed.vectors)
            and np.array_equal(straight.present[order], mixed.present),
            "the same items in another order get other features: match them by identifier.",
        )
