"""What is trained of a soft prompt: projectors into the language model, a head out of it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.protocols import LanguageModel


class Projector(nn.Module):
    """A two-layer map from latents to soft tokens, each as long as a word's embedding is.

    Args:
        dim: Width of latents.
        hidden: Inner width.
        llm: Gives the width of tokens and their mean norm.
    """

    def __init__(self, dim: int, hidden: int, llm: LanguageModel) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, llm.hidden_size)
        )
        self.norm = llm.embedding_norm()

    def forward(self, latents: Tensor) -> Tensor:
        """Maps ``(…, dim)`` to ``(…, hidden_size)``."""
        return self.norm * F.normalize(self.layers(latents), dim=-1)


class SlotHead(nn.Module):
    """Scores of hidden states; all 0 until trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        _zero(self.score)

    def forward(self, states: Tensor) -> Tensor:
        """Maps ``(…, width)`` to ``(…)``."""
        out: Tensor = self.score(self.norm(states.float()))
        return out[..., 0]


class DirectHead(nn.Module):
    """Scores of the same inputs without a language model: the control. All 0 until trained.

    Args:
        users: Width of the users' latents.
        items: Width of the items' latents.
        hidden: Inner width.
    """

    def __init__(self, users: int, items: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(users + 3 * items, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        _zero(self.layers[-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps ``(…, users + 3 · items)`` to ``(…)``."""
        out: Tensor = self.layers(inputs)
        return out[..., 0]


def _zero(layer: nn.Module) -> None:
    assert isinstance(layer, nn.Linear)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
