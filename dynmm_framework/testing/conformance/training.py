"""What holds for everything that is trained and then scores items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.protocols import IntArray
from dynmm_framework.specs import Component
from dynmm_framework.testing.conformance.component import ComponentConformance, require
from dynmm_framework.testing.conformance.measuring import (
    as_array,
    copy_data,
    copy_histories,
    largest_difference,
    other_global_randomness,
)
from dynmm_framework.testing.contexts import ContextFactory, TrainingStopped
from dynmm_framework.testing.features import item_features
from dynmm_framework.testing.reviews import with_reviews


@dataclass(frozen=True)
class Training:
    """The one training that serves all tests of a class.

    Attributes:
        model: The component, trained unless there is an ``error``.
        given: The data that it was given, a copy of its own.
        epochs: The epochs that it reported.
        error: What ``fit``, or building the component, raised.
    """

    model: Any
    given: TrainingData
    epochs: tuple[int, ...]
    error: Exception | None


def with_content(data: TrainingData, component: Component) -> TrainingData:
    """Returns training data with features of the items, or reviews, if a component needs them."""
    data = with_reviews(data, component)
    if "features" not in component.spec.needs:
        return data
    return replace(data, features=item_features(data.n_items))


class TrainingConformance(ComponentConformance):
    """Conformance of everything that learns; use the subclass of your component's kind.

    The component is trained once on the CPU for the whole class, and once more each for the tests
    of determinism, of resuming (if it reports epochs), of training without validation users (one
    epoch), on a GPU (if there is one), and a few times, for two epochs, on tiny data of odd
    histories.
    """

    deterministic_within: ClassVar[float] = 0.0
    """Largest difference of scores between two trainings with one seed on one machine."""

    _training: ClassVar[Training]

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        """Lets torch use one thread: for small arrays more only wait for each other."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    @pytest.fixture
    def data(
        self, registered: Component, dynmm_split: Split, dynmm_dataset: Dataset
    ) -> TrainingData:
        """What the component learns from; with features of the items if it needs them."""
        return with_content(dynmm_split.training_data(dynmm_dataset.items), registered)

    @pytest.fixture
    def histories(self, dynmm_split: Split) -> Histories:
        """The test users, training users all."""
        return dynmm_split.evaluation("test").histories

    @pytest.fixture
    def training(
        self, make: Callable[..., Any], data: TrainingData, dynmm_context: ContextFactory
    ) -> Training:
        """The class's training, which may have failed."""
        cls = type(self)
        if "_training" not in cls.__dict__:
            ctx, given, model, error = dynmm_context(), copy_data(data), None, None
            try:
                model = make()
                model.fit(given, ctx)
            except Exception as raised:
                error = raised
            cls._training = Training(model, given, tuple(ctx.epochs), error)
        return cls._training

    @pytest.fixture
    def fitted(self, training: Training) -> Any:
        """The trained component. Tests must not change it."""
        require(
            training.error is None,
            f"{self.component} could not be trained, see test_it_trains: {training.error!r}",
        )
        return training.model

    def scores(
        self, model: Any, histories: Histories, candidates: IntArray | None = None
    ) -> NDArray[Any]:
        """Scores copies of histories and candidates, as NumPy."""
        chosen = None if candidates is None else candidates.copy()
        return as_array(as_recommender(model).score(copy_histories(histories), chosen))

    def difference(self, one: Any, other: Any, histories: Histories) -> float:
        """Returns the largest difference between the scores of two components."""
        return largest_difference(self.scores(one, histories), self.scores(other, histories))

    def test_it_trains(self, training: Training) -> None:
        if training.error is not None:
            raise training.error

    def test_training_leaves_its_data_unchanged(
        self, fitted: Any, training: Training, data: TrainingData
    ) -> None:
        given = training.given
        changed = [
            f"train.{name}"
            for name in ("users", "items", "timestamps", "ratings")
            if not np.array_equal(getattr(given.train, name), getattr(data.train, name))
        ]
        changed += [
            f"features.{name}"
            for name, found in data.features.items()
            if not np.array_equal(given.features[name].vectors, found.vectors)
        ]
        if not np.array_equal(given.histories.items, data.histories.items):
            changed.append("histories.items")
        require(
            not changed,
            f"fit changed the data that it was given: {', '.join(changed)}. All recommenders of a"
            " run learn from the same arrays: work on copies.",
        )

    def test_training_needs_no_validation_users(
        self,
        fitted: Any,
        make: Callable[..., Any],
        data: TrainingData,
        dynmm_context: ContextFactory,
    ) -> None:
        try:
            make().fit(copy_data(data), dynmm_context(validate=False, stop_after=1))
        except TrainingStopped:
            return  # one epoch is enough to know
        except Exception as error:
            error.add_note(
                "ctx.validator is None if the split has no validation users: train all epochs then"
            )
            raise

    def test_the_same_seed_gives_the_same_model(
        self,
        fitted: Any,
        make: Callable[..., Any],
        data: TrainingData,
        histories: Histories,
        dynmm_context: ContextFactory,
    ) -> None:
        again = make()
        with other_global_randomness():
            again.fit(copy_data(data), dynmm_context())
        difference = self.difference(again, fitted, histories)
        require(
            difference <= self.deterministic_within,
            f"two trainings with one seed differ by up to {difference:.3g} in a score. Draw all"
            " randomness from ctx.rng(name), and torch's inside"
            " dynmm_framework.training.seeding.seeded(ctx, name); depend on no global generator"
            " and on no order of a set. A tolerance may be set as deterministic_within.",
        )

    def test_an_interrupted_training_resumes(
        self,
        fitted: Any,
        training: Training,
        make: Callable[..., Any],
        config_model: type[BaseModel],
        data: TrainingData,
        histories: Histories,
        dynmm_context: ContextFactory,
    ) -> None:
        if len(training.epochs) < 3:
            pytest.skip("it does not report three epochs that could be interrupted")
        third = len(training.epochs) // 3
        # The shared loop saves after every third of its epochs then; other loops as they like.
        often = {"checkpoint_every": third, "checkpoint_seconds": 0.0}
        often = {name: value for name, value in often.items() if name in config_model.model_fields}
        killed = dynmm_context(stop_after=third + 1)
        with pytest.raises(TrainingStopped):
            make(**often).fit(copy_data(data), killed)
        if not any(path.is_file() for path in killed.workdir.rglob("*")):
            pytest.skip("it leaves no checkpoint in ctx.workdir")
        going_on, again = dynmm_context(workdir=killed.workdir), make(**often)
        again.fit(copy_data(data), going_on)
        require(
            going_on.epochs[:1] != [1],
            "an interrupted training left a checkpoint in ctx.workdir, and the same training"
            " started over at epoch 1 instead of going on from it. Make the same initial weights"
            " from the same seed, and load the checkpoint before the first epoch.",
        )
        difference = self.difference(again, fitted, histories)
        require(
            difference <= self.deterministic_within,
            "a training that was interrupted and resumed differs from an undisturbed one by up to"
            f" {difference:.3g} in a score. Keep optimiser state, best weights and progress in the"
            " checkpoint, and draw each epoch's randomness from ctx.rng(name of the epoch).",
        )
