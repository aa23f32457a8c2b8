"""What each kind of component can do, as structural types. No torch import, no base classes.

A component is built as ``Class(config)`` with an instance of its own configuration model. Items
are integers ``0 .. n_items - 1``; users are *histories*, so a user unseen in training is served
like any other. Arrays are NumPy unless a torch tensor is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from dynmm_framework.data.features import Features
    from dynmm_framework.data.tables import Dataset, EvaluationSet, Histories, TrainingData
    from dynmm_framework.evaluation.outcome import Outcome

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int32]
State: TypeAlias = Mapping[str, NDArray[Any]]
"""A component's learned state: named arrays, stored as safetensors, never pickled."""

Scores: TypeAlias = "FloatArray | torch.Tensor"
"""Scores as NumPy or torch, on any device; higher is better; finite."""

Precision = Literal["fp32", "bf16"]


def _alone(values: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    return (values,)


@dataclass(frozen=True)
class Workers:
    """The processes that train one component together, each on its share of every batch.

    Attributes:
        rank: Number of this process, from 0, which is the one that writes files.
        size: Number of processes; 1 where there is no other.
        gather: Gives every process the one-dimensional float64 arrays of all, by rank. All
            processes must call it, and equally often.
    """

    rank: int = 0
    size: int = 1
    gather: Callable[[NDArray[np.float64]], Sequence[NDArray[np.float64]]] = _alone


class Validator(Protocol):
    """Scores a model on the validation users while it trains.

    Attributes:
        metric: The metric that is followed, such as ``ndcg@10``.
        higher_is_better: Its direction.
        evaluation: The validation users, for the few weights that are fitted on them.
    """

    metric: str
    higher_is_better: bool
    evaluation: EvaluationSet

    def __call__(self, score: Callable[[Histories], Scores]) -> Mapping[str, float]:
        """Returns metric values, ``metric`` among them, for a function that scores all items."""
        ...


class Context(Protocol):
    """What a running stage may use of its surroundings.

    Attributes:
        stage: Name of the stage, such as ``fit/sasrec/seed-7``; names what fails.
        seed: The stage's own seed, spawned from the run's by stage name.
        device: A torch device string, already resolved: ``cpu``, ``cuda:0``.
        precision: ``fp32``, or ``bf16`` for autocast in training.
        workdir: Private scratch folder that survives a kill; holds training checkpoints.
        offline: Whether the network must not be touched.
        validator: Scores on validation data; ``None`` if the split has none.
        workers: The processes that train together; usually this one alone. The shared loop and the
            validator see to all of it.
    """

    @property
    def stage(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def workdir(self) -> Path: ...
    @property
    def offline(self) -> bool: ...
    @property
    def validator(self) -> Validator | None: ...
    @property
    def workers(self) -> Workers: ...

    def rng(self, name: str) -> np.random.Generator:
        """Returns a generator that depends on the stage's seed and ``name`` only."""
        ...

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        """Opens a progress bar; the yielded function is called as ``advance(n=1, note="")``."""
        ...

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tells observers that an epoch (from 1) of this stage is finished."""
        ...

    def record(self, name: str, value: Any) -> None:
        """Keeps a fact about this stage (plain data) in its manifest, such as learning curves."""
        ...

    def fetch(self, record: str) -> Path:
        """Returns the folder of a registered dataset's or model's files, fetched if need be."""
        ...

    def log(self, message: str) -> None:
        """Writes one line to the run's log."""
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
class Adapter(Stateful, Protocol):
    """A small learned module between frozen parts, working in the slot that its spec names."""


@runtime_checkable
class AlignAdapter(Adapter, Protocol):
    """Slot ``align``: features and collaborative vectors become joint latents (paper, 4.2).

    The score of an item is the inner product of its latent and the user's.
    """

    def fit(self, data: TrainingData, backbone: Backbone, ctx: Context) -> None:
        """Learns the adapter's parameters; the backbone stays as it is.

        Args:
            data: Training interactions and the features of the items.
            backbone: A fitted backbone.
            ctx: The stage's context.
        """
        ...

    def attach(self, features: Mapping[str, Features], backbone: Backbone) -> None:
        """Puts the adapter, fitted or restored, on these frozen parts.

        Called after ``load_state``, and with fewer features than in training to see what a
        missing modality costs.
        """
        ...

    def item_latents(self) -> FloatArray:
        """Returns joint latents of all items from what is attached, ``(n_items, d)``."""
        ...

    def user_latents(self, histories: Histories) -> FloatArray:
        """Returns joint latents of users, ``(len(histories), d)``."""
        ...


@runtime_checkable
class OnlineAdapter(Adapter, Protocol):
    """Slot ``online``: corrects latents by what happened in recent windows (paper, eq. 1)."""

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Learns the adapter's parameters; everything else stays frozen."""
        ...

    def summarise(self, window: Any) -> FloatArray:
        """Summarises a finished window, one row for each item."""
        ...

    def step(self, batch: Any) -> Mapping[str, float]:
        """Takes one learning step and returns its losses."""
        ...

    def correct(self, latents: FloatArray) -> FloatArray:
        """Returns corrected latents of the same shape."""
        ...


@runtime_checkable
class PromptAdapter(Adapter, Protocol):
    """Slot ``prompt``: latents become soft tokens of a frozen language model (paper, 4.4)."""

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Learns the adapter's parameters; everything else stays frozen."""
        ...

    def soft_tokens(self, latents: FloatArray) -> Scores:
        """Returns token embeddings ``(n, llm_width)`` for latents ``(n, d)``."""
        ...


@runtime_checkable
class EvidenceExtractor(Protocol):
    """Finds the facts on which a recommendation rests (paper, 4.3)."""

    def extract(self, pairs: IntArray, ctx: Context) -> Iterable[Mapping[str, Any]]:
        """Returns records (user, item, kind, reference, score, source) for ``pairs`` ``(n, 2)``."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """A frozen causal language model, reached through its embeddings."""

    tokenizer: Any
    hidden_size: int

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Looks up token embeddings."""
        ...

    def forward(self, embeddings: torch.Tensor, *, prefix: Any = None) -> Any:
        """Runs on embeddings, after an optional cached prefix."""
        ...

    def generate(self, embeddings: torch.Tensor, *, max_new_tokens: int) -> Sequence[str]:
        """Generates greedily, one text for each row."""
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
