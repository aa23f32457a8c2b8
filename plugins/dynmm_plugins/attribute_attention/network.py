"""Attention over the attributes of an item, and what it learns from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import IntArray


class AttributeNetwork(nn.Module):
    """Bilinear attention: a query of user and item, a key for each attribute.

    The logit of attribute a for user u and item i is (U x_u + V z_i) · K c_ia / √r, where x_u is
    the mean latent of the user's newest items, z_i the item's latent and c_ia the attribute's
    vector as the item sees it: α_a c_a - β_a z_i. Where c_a is the mean latent of the items that
    have the attribute, α and β make it that of the *others*, drawn towards 0 where they are few;
    else a rare attribute would be the item itself under another name. The attributes, pooled by the
    softmax of these logits, are scored against the user by a second bilinear form, which must tell
    the next item from others.

    Args:
        latents: Latents of the items, of length 1 on average, ``(n_items, d)``.
        keys: Vectors of the attributes, ``(n_attributes, d_key)``.
        table: Attributes of each item, -1 for none, ``(n_items, most)``.
        share: α, ``(n_attributes,)``.
        own: β, ``(n_attributes,)``; zeros if keys are not made of latents.
        dim: Width of queries and keys, r.
    """

    latents: Tensor
    keys: Tensor
    table: Tensor
    share: Tensor
    own: Tensor

    def __init__(
        self,
        latents: Tensor,
        keys: Tensor,
        table: Tensor,
        *,
        share: Tensor,
        own: Tensor,
        dim: int,
    ) -> None:
        super().__init__()
        buffers = {"latents": latents, "keys": keys, "table": table, "share": share, "own": own}
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)
        self.of_user = nn.Linear(latents.shape[1], dim, bias=False)
        self.of_item = nn.Linear(latents.shape[1], dim, bias=False)
        self.of_key = nn.Linear(keys.shape[1], dim, bias=False)
        self.taste = nn.Linear(latents.shape[1], dim, bias=False)
        self.value = nn.Linear(keys.shape[1], dim, bias=False)

    @property
    def scale(self) -> float:
        """What logits are multiplied by."""
        return float(self.of_key.out_features**-0.5)

    def seen(self, read: nn.Linear, items: Tensor) -> Tensor:
        """Returns the attributes' vectors as items see them, mapped, ``(…, most, dim)``."""
        places = self.table[items].clamp(min=0)
        rows = self.share[:, None] * read(self.keys)
        found = rows[places]
        if bool(self.own.any()):
            found = found - self.own[places][..., None] * read(self.latents[items])[..., None, :]
        return found

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores items for users by the items' attributes.

        Args:
            users: Mean latents, ``(batch, d)``.
            items: Item ids, ``(batch, n)``.

        Returns:
            ``(batch, n)``; 0 for an item without attributes.
        """
        present = self.table[items] >= 0  # (batch, n, most)
        query = self.of_user(users)[:, None] + self.of_item(self.latents[items])
        logits = (self.seen(self.of_key, items) @ query[..., None])[..., 0] * self.scale
        weights = masked_softmax(logits, present)
        values = self.seen(self.value, items) @ self.taste(users)[:, None, :, None]
        return (weights * values[..., 0]).sum(-1)


def masked_softmax(logits: Tensor, present: Tensor) -> Tensor:
    """Returns the softmax over the last axis of what is present; zeros where nothing is."""
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~present, lowest).softmax(-1) * present


class NextItemTask:
    """Prefixes of training histories, each with its next item and others.

    The others are drawn as often as they were chosen in training, so that popularity, of which
    attributes tell much, does not tell the next item from them; what the user has is left out.

    Args:
        network: What is learned.
        histories: Training histories, one for each user.
        profiles: Mean latents of the prefixes' newest items, ``(n, d)``.
        users: The user of each prefix, ``(n,)``.
        targets: The next items, ``(n,)``.
        batch_size: Prefixes in one step.
        negatives: Other items beside each next one.
    """

    def __init__(
        self,
        network: AttributeNetwork,
        histories: Histories,
        *,
        profiles: Tensor,
        users: NDArray[np.int64],
        targets: IntArray,
        batch_size: int,
        negatives: int,
    ) -> None:
        self.module = network
        self.profiles, self.users, self.targets = profiles, users, targets
        self.batch_size, self.negatives = batch_size, negatives
        self.every = histories.items
        self.n_items = histories.n_items
        self.known = np.unique(histories.rows * histories.n_items + histories.items)
        self.n_targets = len(targets)
        self.n_batches = -(-self.n_targets // batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields profiles ``(batch, d)``, items ``(batch, 1 + negatives)``, the next one first, and
        which of them the user has besides.
        """
        order = rng.permutation(self.n_targets)
        device = self.module.latents.device
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            others = self.every[rng.integers(0, len(self.every), (len(rows), self.negatives))]
            items = np.concatenate([self.targets[rows, None], others], axis=1).astype(np.int64)
            wanted = self.users[rows, None] * self.n_items + items
            at = np.searchsorted(self.known, wanted).clip(max=len(self.known) - 1)
            owned = self.known[at] == wanted
            owned[:, 0] = False
            yield (
                self.profiles[torch.from_numpy(rows)].to(device),
                torch.from_numpy(items).to(device),
                torch.from_numpy(owned).to(device),
            )

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        profiles, items, owned = batch
        scores = self.module(profiles, items)
        scores = scores.masked_fill(owned, torch.finfo(scores.dtype).min)
        return -torch.log_softmax(scores, dim=1)[:, 0].mean()

    def n_terms(self, batch: tuple[Tensor, Tensor, Tensor]) -> int:
        """Number of prefixes; see :class:`~dynmm_framework.training.loop.Task`."""
        return len(batch[0])

    def score(self, histories: Histories) -> Tensor:
        """Is never asked: attention explains, it does not rank, so no validation follows it."""
        raise NotImplementedError
