"""What every component must do, as test classes to subclass; one for each kind.

Each class needs ``component`` and usually ``config`` (small and quick) and ``expected`` (ranges of
metrics on the generated data, that fail when the model stops learning). Tests are generic: they
use the component only through its protocol.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.evaluation.evaluate import evaluate, expand
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.protocols import Backbone, Context, Recommender, Scores
from dynmm_framework.specs import Component, Kind

HEAVY = ("torch", "transformers", "ray", "faiss", "sklearn", "scipy", "matplotlib", "polars")
"""Libraries that a plugin's light door and configuration must not import."""

ContextMaker = Callable[..., Context]


def as_array(scores: Scores) -> NDArray[Any]:
    """Returns scores as NumPy, from wherever they are."""
    return scores if isinstance(scores, np.ndarray) else scores.detach().cpu().numpy()


class ComponentConformance:
    """What holds for components of every kind."""

    kind: ClassVar[Kind]
    component: ClassVar[str]
    """Name under which the component is registered."""
    config: ClassVar[Mapping[str, Any]] = {}
    """Settings for the tests: small and quick."""

    @pytest.fixture
    def registered(self, dynmm_catalogue: Catalogue) -> Component:
        return dynmm_catalogue.find(self.kind, self.component)

    def test_config_survives_a_round_trip(
        self, dynmm_catalogue: Catalogue, registered: Component
    ) -> None:
        model = dynmm_catalogue.config_model(registered)
        config = model.model_validate(dict(self.config))
        assert model.model_validate_json(config.model_dump_json()) == config

    def test_unknown_setting_is_refused(
        self, dynmm_catalogue: Catalogue, registered: Component
    ) -> None:
        model = dynmm_catalogue.config_model(registered)
        with pytest.raises(ValueError, match="no_such_setting"):
            model.model_validate({**self.config, "no_such_setting": 1})

    def test_every_setting_is_documented(
        self, dynmm_catalogue: Catalogue, registered: Component
    ) -> None:
        fields = dynmm_catalogue.config_model(registered).model_fields
        assert [name for name, info in fields.items() if not info.description] == []

    def test_door_and_config_import_nothing_heavy(self, registered: Component) -> None:
        modules = {registered.provider.module, registered.spec.config.partition(":")[0]}
        code = (
            f"import sys, importlib; [importlib.import_module(m) for m in {sorted(modules)!r}]; "
            f"print([m for m in {HEAVY!r} if m in sys.modules])"
        )
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"


class RecommenderConformance(ComponentConformance):
    """What holds for everything that ranks; use the subclass of your component's kind."""

    expected: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Metric, such as ``ndcg@10``, to its least and largest value on the generated test set."""
    deterministic_within: ClassVar[float] = 0.0
    """Largest difference of scores between two trainings with one seed on one machine."""

    @pytest.fixture
    def data(self, dynmm_split: Split, dynmm_dataset: Dataset) -> TrainingData:
        return dynmm_split.training_data(dynmm_dataset.items)

    @pytest.fixture
    def make(self, dynmm_catalogue: Catalogue, registered: Component) -> Callable[[], Any]:
        return lambda: dynmm_catalogue.create(registered, self.config)

    @pytest.fixture
    def fitted(
        self, make: Callable[[], Any], data: TrainingData, dynmm_context: ContextMaker
    ) -> Any:
        # One training serves all tests of a class: tests do not change what they are given.
        cls = type(self)
        if "_fitted" not in cls.__dict__:
            model = make()
            model.fit(data, dynmm_context())
            cls._fitted = model
        return cls._fitted

    _fitted: ClassVar[Any]

    def scores(self, model: Any, histories: Histories, **kwargs: Any) -> NDArray[Any]:
        return as_array(as_recommender(model).score(histories, **kwargs))

    def test_scores_are_finite_and_of_the_right_shape(
        self, fitted: Any, dynmm_split: Split
    ) -> None:
        histories = dynmm_split.evaluation("test").histories
        scores = self.scores(fitted, histories)
        assert scores.shape == (len(histories), dynmm_split.n_items)
        assert np.isfinite(scores).all()

    def test_candidates_score_as_in_the_whole_catalogue(
        self, fitted: Any, dynmm_split: Split
    ) -> None:
        histories = dynmm_split.evaluation("test").histories.take(np.arange(8))
        rng = np.random.default_rng(0)
        candidates = rng.integers(0, dynmm_split.n_items, (8, 5)).astype(np.int32)
        everything = self.scores(fitted, histories)
        chosen = self.scores(fitted, histories, candidates=candidates)
        assert chosen.shape == (8, 5)
        np.testing.assert_allclose(
            chosen, np.take_along_axis(everything, candidates, axis=1), rtol=1e-4, atol=1e-5
        )

    def test_a_user_scores_the_same_alone_and_in_company(
        self, fitted: Any, dynmm_split: Split
    ) -> None:
        histories = dynmm_split.evaluation("test").histories.take(np.arange(6))
        together = self.scores(fitted, histories)
        alone = [self.scores(fitted, histories.take(np.array([row]))) for row in range(6)]
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)

    def test_an_unknown_user_is_served(self, fitted: Any, dynmm_split: Split) -> None:
        known = dynmm_split.evaluation("test").histories.take(np.arange(3))
        unknown = Histories(known.offsets, known.items, known.n_items, users=None)
        stranger = Histories(
            known.offsets, known.items, known.n_items, users=np.full(3, -1, dtype=np.int32)
        )
        scores = self.scores(fitted, unknown)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, self.scores(fitted, stranger))

    def test_an_empty_history_is_served(self, fitted: Any, dynmm_split: Split) -> None:
        scores = self.scores(fitted, Histories.of([[]], dynmm_split.n_items))
        assert scores.shape == (1, dynmm_split.n_items)
        assert np.isfinite(scores).all()

    def test_a_long_history_with_repeats_is_served(self, fitted: Any, dynmm_split: Split) -> None:
        long = [0, 1, 1, 2] * 100
        scores = self.scores(fitted, Histories.of([long], dynmm_split.n_items))
        assert np.isfinite(scores).all()

    def test_inputs_are_left_unchanged(self, fitted: Any, dynmm_split: Split) -> None:
        histories = dynmm_split.evaluation("test").histories
        items, offsets = histories.items.copy(), histories.offsets.copy()
        self.scores(fitted, histories)
        np.testing.assert_array_equal(histories.items, items)
        np.testing.assert_array_equal(histories.offsets, offsets)

    def test_the_same_seed_gives_the_same_model(
        self,
        fitted: Any,
        make: Callable[[], Any],
        data: TrainingData,
        dynmm_split: Split,
        dynmm_context: ContextMaker,
    ) -> None:
        again = make()
        again.fit(data, dynmm_context())
        histories = dynmm_split.evaluation("test").histories
        np.testing.assert_allclose(
            self.scores(again, histories),
            self.scores(fitted, histories),
            rtol=0,
            atol=self.deterministic_within,
        )

    def test_saved_and_restored_scores_are_equal(
        self, fitted: Any, make: Callable[[], Any], dynmm_split: Split, tmp_path: Any
    ) -> None:
        from dynmm_framework.artifacts.arrays import load_arrays, save_arrays

        save_arrays(tmp_path / "state.safetensors", fitted.get_state())
        restored = make()
        restored.load_state(load_arrays(tmp_path / "state.safetensors"))
        histories = dynmm_split.evaluation("test").histories
        np.testing.assert_array_equal(
            self.scores(restored, histories), self.scores(fitted, histories)
        )

    def test_metrics_are_in_the_expected_range(
        self, fitted: Any, dynmm_split: Split, dynmm_catalogue: Catalogue
    ) -> None:
        assert self.expected, f"{type(self).__name__} declares no expected metric range"
        names = [name.partition("@") for name in self.expected]
        requests = [
            request
            for family, _, k in names
            for request in expand([dynmm_catalogue.metric(family)], [int(k)] if k else [10])
        ]
        values = evaluate(
            as_recommender(fitted),
            dynmm_split.evaluation("test"),
            requests,
            item_counts=dynmm_split.train.item_counts(),
        ).values
        outside = {
            name: values[name]
            for name, (low, high) in self.expected.items()
            if not low <= values[name] <= high
        }
        assert outside == {}

    def test_training_on_a_gpu_scores_like_on_the_cpu(
        self,
        fitted: Any,
        make: Callable[[], Any],
        data: TrainingData,
        dynmm_split: Split,
        dynmm_context: ContextMaker,
        dynmm_catalogue: Catalogue,
    ) -> None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        model = make()
        model.fit(data, dynmm_context(device="cuda:0"))
        histories = dynmm_split.evaluation("test").histories
        assert np.isfinite(self.scores(model, histories)).all()
        self.test_metrics_are_in_the_expected_range(model, dynmm_split, dynmm_catalogue)


class BackboneConformance(RecommenderConformance):
    """Conformance of backbones: vectors of items, and of users given by histories."""

    kind: ClassVar[Kind] = "backbone"

    def test_it_is_a_backbone(self, fitted: Any) -> None:
        assert isinstance(fitted, Backbone)

    def test_vectors_have_one_width(self, fitted: Any, dynmm_split: Split) -> None:
        histories = dynmm_split.evaluation("test").histories
        items = as_array(fitted.item_vectors())
        users = as_array(fitted.user_vectors(histories))
        assert items.shape == (dynmm_split.n_items, users.shape[1])
        assert len(users) == len(histories)
        assert np.isfinite(items).all()
        assert np.isfinite(users).all()


class BaselineConformance(RecommenderConformance):
    """Conformance of baselines: anything that scores items for histories."""

    kind: ClassVar[Kind] = "baseline"

    def test_it_is_a_recommender(self, fitted: Any) -> None:
        assert isinstance(fitted, Recommender)
