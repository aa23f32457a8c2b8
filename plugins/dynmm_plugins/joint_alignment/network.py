"""The trained part of joint alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.latents.fusion import (
    ConcatFusion,
    CrossAttentionFusion,
    GatedFusion,
    SharedProjector,
    drop_modalities,
)
from dynmm_plugins.joint_alignment.config import JointAlignmentConfig

FUSIONS: dict[str, type[nn.Module]] = {
    "gate": GatedFusion,
    "concat": ConcatFusion,
    "cross_attention": CrossAttentionFusion,
}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The frozen parts of all items.

    Attributes:
        base: Vectors that latents are added to, ``(n_items, dim)``: collaborative ones, or those
            predicted from content for items without history.
        predicted: Vectors predicted from content for all items, as if none had a history.
        modalities: Standardised vectors, collaborative first, each ``(n_items, width)``.
        present: ``(n_items, modalities)`` bool.
    """

    base: Tensor
    predicted: Tensor
    modalities: list[Tensor]
    present: Tensor

    def unseen(self) -> Inputs:
        """Returns the same items as if none had a history."""
        present = self.present.clone()
        present[:, 0] = False
        return replace(self, base=self.predicted, present=present)


class Aligner(nn.Module):
    """Projector, fusion, decoders and the users' map.

    Args:
        config: Settings.
        widths: Width of each modality's vectors, the collaborative one first.
        dim: Width of the latents.
    """

    def __init__(self, config: JointAlignmentConfig, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.residual, self.dropout = config.residual, config.modality_dropout
        self.projector = SharedProjector(widths, hidden=config.hidden, dim=dim)
        self.fusion = FUSIONS[config.fusion](len(widths), dim)
        self.out = nn.Linear(dim, dim)
        self.users = nn.Sequential(
            nn.Linear(widths[0], config.hidden), nn.ReLU(), nn.Linear(config.hidden, dim)
        )
        self.decoders = nn.ModuleList(nn.Linear(dim, width) for width in widths)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        if config.residual:
            self.silence()

    @torch.no_grad()
    def silence(self) -> None:
        """Makes both residual paths add nothing."""
        last = self.users[-1]
        assert isinstance(last, nn.Linear)
        for layer in (self.out, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp()

    def items(self, inputs: Inputs, rows: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Returns latents ``(items, dim)`` and the projected modalities, each like it.

        In training, modalities are hidden at random; an item whose collaborative vector is hidden
        stands on the one predicted from its content.

        Args:
            inputs: The frozen parts.
            rows: Which items; all if ``None``.
        """

        def chosen(table: Tensor) -> Tensor:
            return table if rows is None else table[rows]

        modalities = [chosen(table) for table in inputs.modalities]
        present, base = chosen(inputs.present), chosen(inputs.base)
        if self.training:
            present = drop_modalities(present, self.dropout)
            base = torch.where(present[:, :1], base, chosen(inputs.predicted))
        views = self.projector(modalities)
        latents: Tensor = self.out(self.fusion(views, present))
        return (base + latents if self.residual else latents), views

    def encode_users(self, vectors: Tensor) -> Tensor:
        """Returns latents of users from the backbone's vectors ``(users, width)``."""
        out: Tensor = self.users(vectors)
        if self.residual:
            out = out + F.pad(vectors, (0, out.shape[1] - vectors.shape[1]))
        return out
