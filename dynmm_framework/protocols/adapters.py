"""Small learned modules between frozen parts, by slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from dynmm_framework.protocols.arrays import FloatArray, IntArray, Scores
from dynmm_framework.protocols.components import Backbone, Retriever, Stateful
from dynmm_framework.protocols.context import Context

if TYPE_CHECKING:
    from dynmm_framework.data.features import Features
    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.explain.source import EvidenceSource
    from dynmm_framework.online.lesson import Lesson, People, Summary


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


UserCorrection: TypeAlias = Callable[["People"], FloatArray]
"""Returns served latents of users, ``(n, d)``, as they were when the function was made."""


@runtime_checkable
class OnlineAdapter(Adapter, Protocol):
    """Slot ``online``: corrects frozen latents by what recent windows say (paper, eq. 1).

    Its configuration derives from :class:`dynmm_framework.online.config.OnlineConfig`. Untrained,
    and for items without a recent event, it returns the frozen latents bit for bit. Its state
    holds everything that learning changes, so that a restored adapter goes on exactly.
    """

    def begin(self, items: FloatArray, ctx: Context) -> None:
        """Puts the adapter, new or after ``load_state``, on frozen items.

        Args:
            items: Latents of all items, ``(n_items, d)``; they are never changed.
            ctx: Seed and device.
        """
        ...

    def correct_items(self, summary: Summary) -> FloatArray:
        """Returns served latents of all items, ``(n_items, d)``."""
        ...

    def correct_users(self, people: People) -> FloatArray:
        """Returns served latents of users, ``(len(people), d)``."""
        ...

    def user_correction(self) -> UserCorrection:
        """Returns :meth:`correct_users` as of now, for readers of other threads."""
        ...

    def step(
        self, lesson: Lesson, replayed: Sequence[Lesson], *, rate: float = 1.0
    ) -> Mapping[str, float]:
        """Takes one step of learning and returns its losses.

        Args:
            lesson: The newest window, or a part of it.
            replayed: Past windows, each with the summary that was its own.
            rate: Factor on the learning rate.
        """
        ...

    def finish(self, lesson: Lesson) -> None:
        """Ends a window, after its steps."""
        ...


@runtime_checkable
class PromptAdapter(Adapter, Protocol):
    """Slot ``prompt``: a frozen language model re-ranks what latents retrieve (paper, 4.4).

    The keyword ``evidence`` may be left out of both signatures: it is passed to what takes it
    alone, and only in a pipeline that has extractors. An adapter without it ranks without.
    """

    def fit(
        self,
        data: TrainingData,
        base: Retriever,
        ctx: Context,
        *,
        evidence: EvidenceSource | None = None,
    ) -> None:
        """Learns the adapter's parameters; everything else stays frozen.

        Args:
            data: Training interactions, and the items with their titles.
            base: What retrieves: a fitted backbone, or an alignment on one.
            ctx: The stage's context.
            evidence: What finds evidence for users and candidates, if there are extractors.
        """
        ...

    def attach(self, base: Retriever, *, evidence: EvidenceSource | None = None) -> None:
        """Puts the adapter, restored by ``load_state``, on what retrieves, and on evidence."""
        ...

    def score(self, histories: Histories, candidates: IntArray | None = None) -> Scores:
        """Scores items as a :class:`Recommender` does."""
        ...
