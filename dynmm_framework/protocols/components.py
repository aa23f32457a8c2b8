"""Models, readers, encoders and what else a pipeline is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.protocols.arrays import FloatArray, IntArray, Scores, State
from dynmm_framework.protocols.context import Context

if TYPE_CHECKING:
    import pyarrow as pa

    from dynmm_framework.data.features import Features
    from dynmm_framework.data.tables import Dataset, Histories, TrainingData
    from dynmm_framework.evaluation.outcome import Outcome
    from dynmm_framework.explain.records import EvidenceTable, Fact


@runtime_checkable
class Composed(Protocol):
    """A component that stands on others, named by fields such as ``LanguageModelRef`` in its
    settings (:mod:`dynmm_framework.config.parts`).
    """

    def connect(self, ctx: Context) -> None:
        """Tells where the parts come from: ``ctx.component(self.config.llm)``.

        Called once on a new component, before ``fit`` or ``load_state``. Build the parts when they
        are first needed: whoever lists or restores many components does not need all of them.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A component whose learned state can be stored and restored exactly."""

    def get_state(self) -> State:
        """Returns every learned array; empty before ``fit``."""
        ...

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned, on a component of the same configuration."""
        ...


@runtime_checkable
class Backbone(Stateful, Protocol):
    """A collaborative-filtering model that scores by the inner product of two vectors."""

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Learns from the training interactions."""
        ...

    def item_vectors(self) -> Scores:
        """Returns vectors of all items, ``(n_items, d)``."""
        ...

    def user_vectors(self, histories: Histories) -> Scores:
        """Returns vectors of users given by their histories, ``(len(histories), d)``."""
        ...


class Retriever(Protocol):
    """What scores by the inner product of two vectors: a backbone, or an alignment on one."""

    def item_vectors(self) -> Scores:
        """Returns vectors of all items, ``(n_items, d)``."""
        ...

    def user_vectors(self, histories: Histories) -> Scores:
        """Returns vectors of users given by their histories, ``(len(histories), d)``."""
        ...


@runtime_checkable
class Recommender(Stateful, Protocol):
    """Anything that scores items for users. Baselines and composed pipelines implement it.

    Rankings are made from scores by one function of the core, because the rank of a tied target
    (the mean rank of its tie) cannot be told from a ranked list.
    """

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Learns from the training interactions."""
        ...

    def score(self, histories: Histories, candidates: IntArray | None = None) -> Scores:
        """Scores items for each history.

        Args:
            histories: The users, ``batch`` of them.
            candidates: Item ids ``(batch, C)``; ``None`` scores the whole catalogue.

        Returns:
            ``(batch, C)``, or ``(batch, n_items)`` without candidates.
        """
        ...


@runtime_checkable
class DatasetReader(Protocol):
    """Reads one dataset from disk."""

    def files(self, ctx: Context) -> Sequence[Path]:
        """Returns the files that :meth:`read` will open, fetched if need be.

        Raises:
            DataError: If a file is missing; names the path and the setting to change.
        """
        ...

    def read(self, ctx: Context) -> Dataset:
        """Reads the interactions, items and users.

        Raises:
            DataError: With every problem of the files at once, with line numbers.
        """
        ...


class Metric(Protocol):
    """A ranking metric: a plain function over the outcome of an evaluation."""

    def __call__(self, outcome: Outcome, k: int | None) -> NDArray[np.float64] | float:
        """Returns one value per user, or a single number if the metric's spec says so."""
        ...


@runtime_checkable
class ModalityEncoder(Protocol):
    """A frozen encoder of one modality, item by item.

    What is missing or unreadable never reaches it: the core decodes, keeps the mask, and caches
    vectors by content. An encoder that has to see all inputs first (TF-IDF) has a method
    ``fit(inputs, ctx)`` besides; its vectors are cached for that set of inputs only.

    Attributes:
        modality: ``text``, ``image`` or ``audio``.
        dim: Width of the vectors; known after :meth:`load`.
    """

    modality: str
    dim: int

    def load(self, ctx: Context) -> None:
        """Loads the frozen weights onto ``ctx.device``.

        Raises:
            ArtifactError: If weights are missing, damaged or of another architecture; names the
                file and the fix.
        """
        ...

    def prepare(self, value: Any) -> Any:
        """Makes one input ready: resizing, resampling. Runs in parallel, needs no weights.

        Args:
            value: A text (``str``), an image (``PIL.Image.Image``, RGB) or a sound
                (:class:`dynmm_framework.features.media.Sound`).
        """
        ...

    def encode(self, batch: Sequence[Any]) -> FloatArray:
        """Encodes prepared inputs, ``(len(batch), dim)``; finite.

        The vector of an input does not depend on what else is in the batch.
        """
        ...


@runtime_checkable
class FeatureReader(Protocol):
    """An encoder whose vectors exist already, in a file."""

    def read(self, items: pa.Table, ctx: Context) -> Features:
        """Returns the vectors of a dataset's items.

        Args:
            items: The dataset's item table; column ``id`` holds the identifiers.
            ctx: The stage's context.

        Raises:
            DataError: If ids do not match or repeat, a vector has NaN, or widths differ; names
                file and rows.
        """
        ...


@runtime_checkable
class EvidenceExtractor(Stateful, Protocol):
    """Finds the facts on which a recommendation rests (paper, 4.3).

    What it learns of the items is its dictionary, made once in :meth:`fit` and stored with its
    state; :meth:`extract` only looks up, so that evidence costs little beside a language model.

    Besides ``connect`` (:class:`Composed`) three things are optional, and an extractor without them
    is whole:

    - ``refresh(recent)``, where the dictionary ages: it takes interactions that came after
      training, or after the last refresh, as :class:`~dynmm_framework.data.tables.Interactions` by
      time. What it then knows is part of its state.
    - ``extract_without_own(histories, candidates, own)``, where the dictionary counts interactions:
      as :meth:`extract`, but as though the users of the pairs ``own``, ``(len(histories), C)``
      bool, had not chosen these items. A prompt is trained on beginnings of training histories; the
      choices that follow are in the counts, and would tell it what it is to foretell. Without the
      method :meth:`extract` is asked.
    - ``support_window: int``, where only so many of the newest items of a history are counted in
      ``support``: sentences then say "of your last 20". Without it all of the history was counted.
    """

    def fit(self, data: TrainingData, base: Retriever, ctx: Context) -> None:
        """Makes the dictionary.

        Args:
            data: Training interactions, items, and their features where there are any.
            base: What recommends: a fitted backbone, or an alignment on one.
            ctx: The stage's context.
        """
        ...

    def attach(self, base: Retriever) -> None:
        """Puts the extractor, restored by ``load_state``, on what recommends."""
        ...

    def extract(self, histories: Histories, candidates: IntArray) -> EvidenceTable:
        """Finds evidence for pairs of users and items.

        An item never speaks for itself, and no single other user is ever told of.

        Args:
            histories: The users.
            candidates: Items for each of them, ``(len(histories), C)``.

        Returns:
            Records of some of the pairs; a pair without evidence has none.
        """
        ...

    def facts(self, references: IntArray) -> Sequence[Fact]:
        """Returns what references of :meth:`extract` are, in words and numbers."""
        ...

    def vectors(self, references: IntArray) -> FloatArray:
        """Returns vectors of references in the space of the items' latents, ``(n, d)``; finite."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Sends a run's numbers to an experiment tracker."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Records the resolved configuration once."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Records metric values at a step."""
        ...

    def close(self, *, status: Literal["finished", "failed"]) -> None:
        """Ends the tracked run."""
        ...
