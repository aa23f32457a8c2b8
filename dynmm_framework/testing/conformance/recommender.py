"""What holds for everything that ranks: backbones and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.catalogue import Catalogue
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.specs import Kind
from dynmm_framework.testing.conformance.component import require
from dynmm_framework.testing.conformance.measuring import (
    PopularityScores,
    RandomScores,
    as_array,
    copy_data,
    copy_histories,
    measure,
    require_scores,
)
from dynmm_framework.testing.conformance.odd_histories import OddHistoriesConformance
from dynmm_framework.testing.contexts import ContextFactory

CLOSE: Mapping[str, Any] = {"rtol": 1e-4, "atol": 1e-5, "equal_nan": True}
"""Differences that the order of float32 additions may make."""


class RecommenderConformance(OddHistoriesConformance):
    """Conformance of everything that scores items; use the subclass of your component's kind."""

    expected: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Metric, such as ``ndcg@10``, to its least and largest value on the generated test users.
    Measure it over a few seeds. It must fail once the component stops learning, so keep the lower
    bound well above random scores, and above popularity for a model that personalises; the test's
    message gives both. ``coverage@10`` tells personal lists from popular ones where the order of
    interactions is not learned.
    """

    # Scores.

    def test_scores_are_finite_and_of_the_right_shape(
        self, fitted: Any, histories: Histories
    ) -> None:
        import torch

        scores = as_recommender(fitted).score(copy_histories(histories))
        require(
            isinstance(scores, np.ndarray | torch.Tensor),
            f"scores are {type(scores).__name__}; return a NumPy array or a torch tensor.",
        )
        require_scores(as_array(scores), histories, "test users")

    def test_candidates_score_as_in_the_whole_catalogue(
        self, fitted: Any, histories: Histories
    ) -> None:
        few = histories.take(slice(8))
        rng = np.random.default_rng(0)
        candidates = rng.integers(0, few.n_items, (len(few), 5)).astype(np.int32)
        everything = self.scores(fitted, few)
        chosen = self.scores(fitted, few, candidates)
        wanted = np.take_along_axis(everything, candidates, axis=1)
        require(
            chosen.shape == wanted.shape,
            f"score(histories, candidates) returned {chosen.shape} for candidates of shape"
            f" {candidates.shape}; return one score for each candidate, in its place.",
        )
        require(
            np.allclose(chosen, wanted, **CLOSE),
            "an item scores otherwise as one of candidates than as one of the whole catalogue (by"
            f" up to {np.abs(chosen - wanted).max():.3g}), so sampled and full rankings would"
            " measure different models. Row i of candidates belongs to history i.",
        )

    def test_a_user_scores_the_same_alone_and_in_company(
        self, fitted: Any, histories: Histories
    ) -> None:
        by_length = np.argsort(histories.lengths, kind="stable")
        few = histories.take(by_length[:: max(1, len(histories) // 8)])
        together = self.scores(fitted, few)
        alone = np.concatenate(
            [self.scores(fitted, few.take(np.array([row]))) for row in range(len(few))]
        )
        require(
            np.allclose(together, alone, **CLOSE),
            "scores of a user depend on who else is in the batch (by up to"
            f" {np.abs(together - alone).max():.3g}). Look for padding that is not masked,"
            " normalisation over the batch, or dropout that is still on (module.eval()).",
        )

    def test_an_unknown_user_is_served(self, fitted: Any, histories: Histories) -> None:
        few = histories.take(slice(8))
        stranger = replace(few, users=None)
        marked = replace(few, users=np.full(len(few), -1, dtype=np.int32))
        scores = self.scores(fitted, stranger)
        require_scores(scores, few, "users unseen in training (histories.users is None)")
        require(
            np.allclose(scores, self.scores(fitted, marked), **CLOSE),
            "a history without a training user scores otherwise when histories.users is None than"
            " when it is -1: both mean the same. Score such users from their items.",
        )

    def test_scoring_leaves_its_inputs_unchanged(self, fitted: Any, histories: Histories) -> None:
        given = copy_histories(histories)
        candidates = np.tile(np.arange(5, dtype=np.int32)[::-1], (len(given), 1))
        before = candidates.copy()
        recommender = as_recommender(fitted)
        recommender.score(given)
        recommender.score(given, candidates)
        pairs: Mapping[str, tuple[Any, Any]] = {
            "histories.items": (given.items, histories.items),
            "histories.offsets": (given.offsets, histories.offsets),
            "histories.users": (given.users, histories.users),
            "candidates": (candidates, before),
        }
        changed = [name for name, (now, then) in pairs.items() if not np.array_equal(now, then)]
        require(
            not changed,
            f"scoring changed its arguments: {', '.join(changed)}. Work on copies.",
        )

    # State.

    def test_there_is_no_state_before_training(self, make: Callable[..., Any]) -> None:
        names = sorted(make().get_state())
        require(
            not names,
            f"get_state() returns {', '.join(names)} before fit. Return {{}} then: what is not"
            " learned follows from the settings.",
        )

    def test_saved_and_restored_scores_are_equal(
        self, fitted: Any, make: Callable[..., Any], histories: Histories, tmp_path: Path
    ) -> None:
        state = fitted.get_state()
        wrong = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
        require(
            bool(state) and not wrong,
            "get_state() must return the learned arrays as NumPy arrays; "
            + (f"{', '.join(wrong)} are not." if wrong else "it is empty after fit."),
        )
        save_arrays(tmp_path / "state.safetensors", state)
        restored = make()
        restored.load_state(load_arrays(tmp_path / "state.safetensors"))
        for users, what in ((histories, "known"), (replace(histories, users=None), "unknown")):
            difference = self.difference(restored, fitted, users)
            require(
                difference == 0,
                f"restored from its saved state, it scores {what} users otherwise, by up to"
                f" {difference:.3g}. get_state must return everything that fit learned, and"
                " load_state put it back on a new component with the same settings.",
            )

    # Quality.

    def test_metrics_are_in_the_expected_range(
        self, fitted: Any, dynmm_split: Split, dynmm_dataset: Dataset, dynmm_catalogue: Catalogue
    ) -> None:
        self._require_range(fitted, dynmm_catalogue, dynmm_split, dynmm_dataset)

    def _require_range(
        self, model: Any, catalogue: Catalogue, split: Split, dataset: Dataset
    ) -> None:
        wanted = self.expected
        require(
            bool(wanted),
            f'{type(self).__name__} expects nothing: set expected = {{"ndcg@10": (low, high)}}.',
        )
        popular = PopularityScores(split.train.item_counts())
        values, chance, popularity = (
            measure(scorer, wanted, catalogue, split, dataset)
            for scorer in (model, RandomScores(), popular)
        )
        lines = "\n".join(
            f"{name} is {values[name]:.4f}, expected {low:g} to {high:g}; on these users random"
            f" scores reach {chance[name]:.4f} and item popularity {popularity[name]:.4f}"
            for name, (low, high) in wanted.items()
        )
        require(
            all(low <= values[name] <= high for name, (low, high) in wanted.items()),
            f"{lines}\nToo low: does it learn (settings, learning rate, epochs, masks)? If the"
            " model is right, correct the range in `expected`.",
        )
        require(
            any(not low <= chance[name] <= high for name, (low, high) in wanted.items()),
            f"{lines}\nRandom scores are within the expected range too, so the test would not"
            " notice a model that learns nothing: raise the lower bound.",
        )

    def test_training_on_a_gpu_scores_like_on_the_cpu(
        self,
        fitted: Any,
        make: Callable[..., Any],
        data: TrainingData,
        dynmm_split: Split,
        dynmm_dataset: Dataset,
        dynmm_catalogue: Catalogue,
        dynmm_context: ContextFactory,
        tmp_path: Path,
    ) -> None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        model, restored = make(), make()
        model.fit(copy_data(data), dynmm_context(device="cuda:0"))
        self._require_range(model, dynmm_catalogue, dynmm_split, dynmm_dataset)
        save_arrays(tmp_path / "state.safetensors", model.get_state())
        restored.load_state(load_arrays(tmp_path / "state.safetensors"))
        histories = dynmm_split.evaluation("test").histories
        there, here = self.scores(model, histories), self.scores(restored, histories)
        require(
            np.allclose(there, here, rtol=1e-3, atol=1e-3),
            f"trained on a GPU, then restored on the CPU, scores differ by up to"
            f" {np.abs(there - here).max():.3g}.",
        )


class BackboneConformance(RecommenderConformance):
    """Conformance of backbones: vectors of items, and of users given by histories.

    Set ``component``, ``config`` and ``expected``.
    """

    kind: ClassVar[Kind] = "backbone"

    def test_vectors_have_one_width(self, fitted: Any, histories: Histories) -> None:
        items = as_array(fitted.item_vectors())
        users = as_array(fitted.user_vectors(copy_histories(histories)))
        require(
            items.ndim == users.ndim == 2
            and items.shape == (histories.n_items, users.shape[1])
            and len(users) == len(histories),
            f"item_vectors() has shape {items.shape} for {histories.n_items} items, and"
            f" user_vectors(histories) {users.shape} for {len(histories)} histories; both must"
            " have one row each and one width.",
        )


class BaselineConformance(RecommenderConformance):
    """Conformance of baselines: anything that scores items for histories.

    Set ``component``, ``config`` and ``expected``.
    """

    kind: ClassVar[Kind] = "baseline"
