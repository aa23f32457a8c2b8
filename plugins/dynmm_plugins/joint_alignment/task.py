"""What the training loop learns: ranking, alignment of modalities, reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.latents.losses import pairwise_alignment, reconstruction
from dynmm_framework.training.losses import cross_entropy
from dynmm_plugins.joint_alignment.config import JointAlignmentConfig
from dynmm_plugins.joint_alignment.network import Aligner, Inputs

PAPER_PAIRS = (("cf", "text"), ("cf", "vision"), ("text", "vision"))


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Training prefixes as the backbone sees them.

    Attributes:
        vectors: The backbone's user vectors, ``(n, width)``.
        targets: The items that follow, ``(n,)``.
    """

    vectors: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """One step.

    Attributes:
        users: The backbone's vectors, ``(batch, width)``.
        targets: Place of each target among ``candidates``, ``(batch,)``.
        candidates: Items that are ranked; ``None`` for all.
        sample: Items of the other two losses, ``(items_per_step,)``.
    """

    users: Tensor
    targets: Tensor
    candidates: Tensor | None
    sample: Tensor


class AlignmentTask:
    """Task of :func:`dynmm_framework.training.loop.train`.

    Args:
        module: What is trained.
        inputs: The items' frozen parts.
        prefixes: Users and targets.
        names: Modalities, ``cf`` first.
        config: Settings.
        vectors_of: The backbone's vectors of validation histories.
    """

    def __init__(
        self,
        module: Aligner,
        inputs: Inputs,
        prefixes: Prefixes,
        *,
        names: tuple[str, ...],
        config: JointAlignmentConfig,
        vectors_of: ValidationUsers,
    ) -> None:
        self.module = module
        self.inputs, self.prefixes, self.config = inputs, prefixes, config
        self.vectors_of = vectors_of
        self.weights = [config.modality_weights.get(name, 1.0) for name in names]
        wanted = PAPER_PAIRS if config.pairs == "paper" else tuple(combinations(names, 2))
        self.pairs = [
            (names.index(a), names.index(b)) for a, b in wanted if a in names and b in names
        ]
        self.n_items = len(inputs.base)
        self.n_targets = len(prefixes.targets)
        self.n_batches = -(-self.n_targets // config.batch_size)
        self._latents: Tensor | None = None

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields the prefixes in random order, with fresh items for the other losses."""
        order = torch.from_numpy(rng.permutation(self.n_targets))
        size = min(self.config.items_per_step, self.n_items)
        for rows in order.split(self.config.batch_size):
            rows = rows.to(self.prefixes.targets.device)
            targets = self.prefixes.targets[rows]
            candidates = None
            if self.n_items > self.config.catalogue:
                drawn = torch.from_numpy(rng.integers(self.n_items, size=self.config.catalogue))
                candidates, targets = torch.cat([targets, drawn.to(targets.device)]).unique(
                    return_inverse=True
                )
                targets = targets[: len(rows)]
            sample = torch.from_numpy(rng.choice(self.n_items, size, replace=False))
            yield Batch(self.prefixes.vectors[rows], targets, candidates, sample.to(rows.device))

    def loss(self, batch: Batch) -> Tensor:
        config = self.config
        self._latents = None
        total = batch.users.new_zeros(())
        if config.rank_weight:
            latents, _ = self.module.items(self.inputs, batch.candidates)
            users = self.module.encode_users(batch.users)
            total = total + config.rank_weight * self._ranking(users, latents, batch.targets)
        if config.align_weight or config.reconstruction_weight:
            latents, views = self.module.items(self.inputs, batch.sample)
            present = self.inputs.present[batch.sample]
            if config.align_weight:
                total = total + config.align_weight * pairwise_alignment(
                    views, present, self.pairs, temperature=self.module.temperature
                )
            if config.reconstruction_weight:
                originals = [table[batch.sample] for table in self.inputs.modalities]
                rebuilt = [decoder(latents) for decoder in self.module.decoders]
                total = total + config.reconstruction_weight * reconstruction(
                    rebuilt, originals, present, self.weights
                )
        return total

    def _ranking(self, users: Tensor, latents: Tensor, targets: Tensor) -> Tensor:
        if self.config.rank_loss == "softmax":
            return cross_entropy(users, latents, targets)
        others = torch.randint(len(latents), targets.shape, device=targets.device)
        return F.softplus((users * (latents[others] - latents[targets])).sum(dim=1)).mean()

    def score(self, histories: Histories) -> Tensor:
        # All chunks of users of one validation share the items' latents.
        if self._latents is None:
            self._latents, _ = self.module.items(self.inputs)
        return self.module.encode_users(self.vectors_of(histories)) @ self._latents.T


class ValidationUsers:
    """The backbone's vectors of the validation users, computed once for all validations.

    Args:
        users: Ids of the validation users, as their histories name them.
        vectors: ``(n, width)``.
    """

    def __init__(self, users: np.ndarray, vectors: Tensor) -> None:
        self.vectors = vectors
        self._place = {int(user): place for place, user in enumerate(users)}

    def __call__(self, histories: Histories) -> Tensor:
        """Returns the vectors of some of them, ``(len(histories), width)``."""
        assert histories.users is not None  # validation users are users of the data
        rows = [self._place[int(user)] for user in histories.users]
        return self.vectors[torch.tensor(rows, dtype=torch.long, device=self.vectors.device)]
