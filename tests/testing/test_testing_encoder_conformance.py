"""Each check of the encoders' kit fails for an encoder with just that fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Dataset
from dynmm_framework.testing import EncoderConformance, FeatureReaderConformance
from dynmm_framework.testing.conformance.contents import contents, odd_inputs, ready

KIT = EncoderConformance()


class Letters:
    """Counts letters: a sound encoder."""

    modality = "text"

    def __init__(self) -> None:
        self.dim = 26

    def load(self, ctx: Any) -> None:
        self.weights = np.eye(26, dtype=np.float32)

    def prepare(self, value: Any) -> Any:
        return value.lower()

    def encode(self, batch: Sequence[Any]) -> Any:
        rows = [[text.count(chr(97 + i)) for i in range(26)] for text in batch]
        return np.array(rows, np.float32).reshape(len(batch), 26) @ self.weights


class Company(Letters):
    def encode(self, batch: Sequence[Any]) -> Any:
        vectors = super().encode(batch)
        return vectors - vectors.mean(axis=0) if len(batch) else vectors


class RandomWeights(Letters):
    def load(self, ctx: Any) -> None:
        with torch.random.fork_rng():
            self.weights = torch.rand(26, 26).numpy()


class Forgetful(Letters):
    def prepare(self, value: Any) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return value.lower() + "a" * self.calls


class NaN(Letters):
    def encode(self, batch: Sequence[Any]) -> Any:
        vectors = super().encode(batch)
        with np.errstate(invalid="ignore"):
            return vectors / vectors.sum(axis=1, keepdims=True)


class Wider(Letters):
    def encode(self, batch: Sequence[Any]) -> Any:
        return np.pad(super().encode(batch), ((0, 0), (0, 1)))


class Doubles(Letters):
    def encode(self, batch: Sequence[Any]) -> Any:
        return super().encode(batch).astype(np.float64)


class NotNone(Letters):
    def encode(self, batch: Sequence[Any]) -> Any:
        return super().encode(batch) if batch else np.empty((0, 0), np.float32)


class Seeds(Letters):
    def load(self, ctx: Any) -> None:
        super().load(ctx)
        torch.manual_seed(0)


class Smell(Letters):
    modality = "smell"


class Deaf(Letters):
    modality = "image"

    def prepare(self, value: Any) -> Any:
        value.paste((0, 0, 0), (0, 0, 2, 2))
        return "a"


FAULTS: list[tuple[type[Letters], str, str]] = [
    (Smell, "it_says_what_it_encodes", "modality is 'smell'; set it to one of text, image, audio"),
    (Company, "a_vector_does_not_depend_on_its_company", "with what else is in the batch"),
    (RandomWeights, "vectors_are_the_same_each_time", "encoded by a new instance, vectors differ"),
    (Forgetful, "preparing_in_threads_changes_nothing", "prepare must not keep state"),
    (NaN, "odd_inputs_are_served", "an empty text: 1 of 1 vectors are not finite"),
    (Wider, "vectors_are_finite_and_as_wide_as_announced", r"\(24, 27\), not \(24, 26\)"),
    (Doubles, "vectors_are_finite_and_as_wide_as_announced", "float64; return float32"),
    (NotNone, "one_input_and_none_are_served", r"encode\(\[\]\) has shape \(0, 0\), not \(0, 26\)"),
    (Deaf, "inputs_are_left_unchanged", "24 inputs were changed"),
    (Seeds, "global_state_is_left_alone", "global state: torch's random numbers"),
]


def check(kind: type[Letters], test: str, dataset: Dataset) -> None:
    """Runs one test of the kit on an encoder, with the fixtures that it asks for."""
    function: Callable[..., None] = getattr(KIT, f"test_{test}")
    modality = kind.modality if kind.modality != "smell" else "text"
    inputs = [value for _, value in contents(dataset, modality)][:24]
    offered = {
        "encoder": ready(kind(), None, inputs) if "encoder" in names(function) else None,
        "make": kind,
        "ctx": None,
        "inputs": inputs,
        "dynmm_dataset": dataset,
    }
    with torch.random.fork_rng():
        function(**{name: offered[name] for name in names(function)})


def names(function: Callable[..., None]) -> list[str]:
    code = function.__code__
    return [name for name in code.co_varnames[: code.co_argcount] if name != "self"]


@pytest.mark.parametrize(
    ("kind", "test", "message"), FAULTS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_fault_fails_the_test_that_is_meant_for_it(
    kind: type[Letters], test: str, message: str, dynmm_dataset: Dataset
) -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        check(kind, test, dynmm_dataset)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("test", sorted({test for _, test, _ in FAULTS}))
def test_a_sound_encoder_passes(test: str, dynmm_dataset: Dataset) -> None:
    check(Letters, test, dynmm_dataset)


def test_like_content_is_told_from_chance(
    dynmm_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(pytest.skip.Exception, match="alike is not set"):
        check(Letters, "like_is_near_like", dynmm_dataset)
    monkeypatch.setattr(EncoderConformance, "alike", (0.8, 1.0))
    check(Letters, "like_is_near_like", dynmm_dataset)
    monkeypatch.setattr(Letters, "encode", lambda self, batch: np.eye(len(batch), dtype=np.float32))
    with pytest.raises(pytest.fail.Exception, match=r"expected 0\.8 to 1; chance is 0\.1"):
        check(Letters, "like_is_near_like", dynmm_dataset)


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_there_are_odd_inputs_of_every_modality(modality: str) -> None:
    assert len(odd_inputs(modality)) >= 5


def test_readers_that_go_by_place_are_found_out(dynmm_dataset: Dataset) -> None:
    def by_place(items: pa.Table) -> Features:
        n = items.num_rows
        return Features(np.arange(n, dtype=np.float32)[:, None] + 1, np.ones(n, bool))

    kit = FeatureReaderConformance()
    kit.test_every_item_has_a_place(by_place, dynmm_dataset.items)
    with pytest.raises(pytest.fail.Exception, match="match them by identifier"):
        kit.test_features_follow_their_items(by_place, dynmm_dataset.items)

    def none(items: pa.Table) -> Features:
        return Features(np.zeros((items.num_rows, 2), np.float32), np.zeros(items.num_rows, bool))

    with pytest.raises(pytest.fail.Exception, match="no item has features"):
        kit.test_every_item_has_a_place(none, dynmm_dataset.items)
