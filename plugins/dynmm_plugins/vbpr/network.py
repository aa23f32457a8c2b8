"""The factors of VBPR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynmm_framework.latents.modalities import content_rows
from dynmm_framework.training.folding import TrainedVectors, UserVectors

if TYPE_CHECKING:
    from dynmm_framework.data.features import Features
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.vbpr.config import VBPRConfig


class VBPRNetwork(nn.Module):
    """Factors of users and items, projections of the items' content, and biases.

    A user's row holds the collaborative factors, then those of each modality. The rows of the
    content are buffers: they move with the module and are not part of its state.

    Args:
        n_users: Number of users.
        features: Features by modality.
        config: Widths and initial values.
    """

    def __init__(self, n_users: int, features: Mapping[str, Features], config: VBPRConfig) -> None:
        super().__init__()
        n_items = len(next(iter(features.values())).present)
        self.modalities = tuple(features)
        width = config.dim + len(features) * config.feature_dim
        self.users = nn.Parameter(torch.empty(n_users, width))
        self.items = nn.Parameter(torch.empty(n_items, config.dim))
        self.bias = nn.Parameter(torch.zeros(n_items))
        for factors in (self.users, self.items):
            nn.init.normal_(factors, std=config.init_std)
        # Without a constant: what an item lacks adds nothing to its factors nor to its score.
        self.projections, self.biases = nn.ModuleDict(), nn.ModuleDict()
        for name, found in features.items():
            projection = nn.Linear(found.dim, config.feature_dim, bias=False)
            bias = nn.Linear(found.dim, 1, bias=False)
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(bias.weight)
            self.projections[name], self.biases[name] = projection, bias
            rows = torch.from_numpy(content_rows(found))
            self.register_buffer(f"content_{name}", rows, persistent=False)

    def of_items(self, items: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Returns factors ``(n, d)``, as wide as a user's, and biases ``(n,)`` of some items."""
        factors, bias = [self.items[items]], self.bias[items]
        for name in self.modalities:
            rows = self.get_buffer(f"content_{name}")[items]
            factors.append(self.projections[name](rows))
            bias = bias + self.biases[name](rows)[:, 0]
        return torch.cat(factors, dim=1), bias

    def norm_of_projections(self) -> Tensor:
        """Returns the squared norm of all projections and of the biases of content."""
        weights = [*self.projections.parameters(), *self.biases.parameters()]
        return torch.stack([weight.square().sum() for weight in weights]).sum()

    @torch.no_grad()
    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns vectors of users, new ones included, and of items with their bias.

        Args:
            histories: Training histories, one for each user.
        """
        items, bias = self.of_items(slice(None))
        fitted = UserVectors.fit(self.users.clone(), items, histories=histories)
        return TrainedVectors(fitted, torch.cat([items, bias[:, None]], dim=1))
