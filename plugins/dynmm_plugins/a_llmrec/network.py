"""What is trained of A-LLMRec: the joint space of items and texts, the way into the LLM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.protocols import LanguageModel


class JointSpace(nn.Module):
    """Encoders of items' and texts' vectors into one space, and decoders out of it.

    Args:
        items: Width of items' vectors.
        texts: Width of texts' vectors.
        dim: Width of the joint space.
    """

    def __init__(self, items: int, texts: int, dim: int) -> None:
        super().__init__()
        self.item_in, self.item_out = nn.Linear(items, dim), nn.Linear(dim, items)
        self.text_in, self.text_out = nn.Linear(texts, dim), nn.Linear(dim, texts)

    def of_items(self, vectors: Tensor) -> Tensor:
        """Maps ``(…, items)`` to ``(…, dim)``, each number from 0 to 1."""
        return torch.sigmoid(self.item_in(vectors))

    def of_texts(self, vectors: Tensor) -> Tensor:
        """Maps ``(…, texts)`` to ``(…, dim)``, each number from 0 to 1."""
        return torch.sigmoid(self.text_in(vectors))


class Bridge(nn.Module):
    """Two-layer maps of users and items into a language model, as long as its words are.

    Args:
        users: Width of users' vectors.
        items: Width of the joint space.
        llm: Gives the width of tokens and their mean norm.
    """

    def __init__(self, users: int, items: int, llm: LanguageModel) -> None:
        super().__init__()
        width = llm.hidden_size
        self.of_users = _layers(users, width, nn.LeakyReLU())
        self.of_items = _layers(items, width, nn.GELU())
        self.norm = llm.embedding_norm()

    def users(self, vectors: Tensor) -> Tensor:
        """Maps ``(…, users)`` to ``(…, hidden_size)``."""
        return self.norm * F.normalize(self.of_users(vectors), dim=-1)

    def items(self, joint: Tensor) -> Tensor:
        """Maps ``(…, items)`` to ``(…, hidden_size)``."""
        return self.norm * F.normalize(self.of_items(joint), dim=-1)


def _layers(dim: int, width: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, width), nn.LayerNorm(width), activation, nn.Linear(width, width)
    )
