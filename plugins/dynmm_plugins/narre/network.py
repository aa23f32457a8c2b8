"""The network of NARRE: words, reviews, attention over reviews, factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.training.folding import TrainedVectors, UserVectors

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.narre.config import NARREConfig
    from dynmm_plugins.narre.texts import Reviews

CHUNK = 1024
"""Reviews that are read at once where nothing is learned."""


class Words(nn.Module):
    """A convolution over the words of a review, and the largest answer of each filter."""

    def __init__(self, n_words: int, config: NARREConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, config.word_dim, padding_idx=0)
        self.filters = nn.Conv1d(
            config.word_dim, config.filters, config.window, padding=config.window // 2
        )
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[0] = 0

    def forward(self, words: Tensor) -> Tensor:
        """Returns one vector for each review, ``(n, filters)``; zeros for one without words."""
        embedded = self.embedding(words).transpose(1, 2)  # (n, word_dim, words)
        answers = F.relu(self.filters(embedded))[:, :, : words.shape[1]]
        return (answers * (words > 0)[:, None]).amax(dim=2)


class Side(nn.Module):
    """Users with what they wrote, or items with what was written of them.

    Args:
        reviews: Reviews of each, 0 for none, ``(n, reviews)``.
        others: What stands at the other side of each review, -1 for none, ``(n_reviews,)``.
        n_others: How many there are at the other side.
        config: Widths.
    """

    reviews: Tensor
    others: Tensor

    def __init__(self, reviews: Tensor, others: Tensor, n_others: int, config: NARREConfig) -> None:
        super().__init__()
        self.register_buffer("reviews", reviews, persistent=False)
        self.register_buffer("others", others, persistent=False)
        self.factors = nn.Embedding(len(reviews), config.dim)
        self.bias = nn.Embedding(len(reviews), 1)
        self.other = nn.Embedding(n_others, config.attention_dim)
        self.of_text = nn.Linear(config.filters, config.attention_dim)
        self.of_other = nn.Linear(config.attention_dim, config.attention_dim, bias=False)
        self.attention = nn.Linear(config.attention_dim, 1)
        self.output = nn.Linear(config.filters, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.factors.weight, std=config.init_std)
        nn.init.normal_(self.other.weight, std=config.init_std)
        nn.init.zeros_(self.bias.weight)

    def weights(self, chosen: Tensor, texts: Tensor, present: Tensor) -> Tensor:
        """Returns how useful each review is, ``(n, reviews)``; rows add up to 1, or are zeros.

        Args:
            chosen: Numbers of the reviews, ``(n, reviews)``.
            texts: Their vectors, ``(n, reviews, filters)``.
            present: Which of them there are, ``(n, reviews)``.
        """
        other = self.other(self.others[chosen].clamp(min=0))
        hidden = F.relu(self.of_text(texts) + self.of_other(other))
        logits = self.attention(hidden)[..., 0]
        lowest = torch.finfo(logits.dtype).min
        return logits.masked_fill(~present, lowest).softmax(-1) * present

    def forward(self, ids: Tensor, texts: Tensor, without: Tensor | None = None) -> Tensor:
        """Returns factors with what the reviews add, ``(n, dim)``.

        Args:
            ids: Users, or items, ``(n,)``.
            texts: Vectors of their reviews, ``(n, reviews, filters)``.
            without: The other side of a review that must not be read, ``(n,)``: what is to be
                predicted was not yet written.
        """
        chosen = self.reviews[ids]
        present = chosen > 0
        if without is not None:
            present = present & (self.others[chosen] != without[:, None])
        pooled = (self.weights(chosen, texts, present)[..., None] * texts).sum(1)
        added = self.dropout(self.output(pooled))
        return self.factors(ids) + added * present.any(dim=1, keepdim=True)


class NARRENetwork(nn.Module):
    """Both sides, and what joins them.

    Args:
        reviews: The reviews.
        config: Widths.
        mean: Mean rating; 0 for ranking.
    """

    words: Tensor
    mean: Tensor

    def __init__(self, reviews: Reviews, config: NARREConfig, *, mean: float) -> None:
        super().__init__()
        self.register_buffer("words", torch.from_numpy(reviews.words), persistent=False)
        self.register_buffer("mean", torch.tensor(mean))
        self.of_words, self.of_items = (
            Words(reviews.n_words, config),
            Words(reviews.n_words, config),
        )
        users, items = torch.from_numpy(reviews.users), torch.from_numpy(reviews.items)
        of_user, of_item = torch.from_numpy(reviews.of_user), torch.from_numpy(reviews.of_item)
        self.users = Side(of_user, items, len(of_item), config)
        self.items = Side(of_item, users, len(of_user), config)
        self.join = nn.Parameter(torch.ones(config.dim))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, users: Tensor, items: Tensor, *, reviewed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores items for users.

        Args:
            users: ``(n,)``.
            items: ``(n,)``.
            reviewed: Items whose reviews by these users must not be read; ``items`` if ``None``.

        Returns:
            Scores ``(n,)``, and the squared norm of the factors, ``()``.
        """
        hidden = items if reviewed is None else reviewed
        user = self.users(users, self._texts(self.of_words, self.users.reviews[users]), hidden)
        item = self.items(items, self._texts(self.of_items, self.items.reviews[items]), users)
        product = self.dropout(user * item)
        bias = self.users.bias(users) + self.items.bias(items)
        scores = product @ self.join + bias[:, 0] + self.mean
        norm = self.users.factors(users).square().sum() + self.items.factors(items).square().sum()
        return scores, norm

    def _texts(self, read: Words, chosen: Tensor) -> Tensor:
        """Reads every review once, ``(n, reviews, filters)``."""
        distinct, places = torch.unique(chosen, return_inverse=True)
        texts: Tensor = read(self.words[distinct])
        return texts[places]

    @torch.no_grad()
    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns vectors of users, new ones included, and of items, whose products are scores.

        Args:
            histories: Training histories, one for each user.
        """
        users = self._all(self.users, self.of_words)
        items = self._all(self.items, self.of_items)
        own = torch.cat([users * self.join, self.users.bias.weight + self.mean], dim=1)
        one = torch.ones_like(self.items.bias.weight)
        theirs = torch.cat([items, one], dim=1)
        fitted = UserVectors.fit(own, theirs, histories=histories)
        return TrainedVectors(fitted, torch.cat([theirs, self.items.bias.weight], dim=1))

    @torch.no_grad()
    def usefulness(self) -> Tensor:
        """Returns the weight of each review among those of its item, ``(n_reviews,)``."""
        out = torch.zeros(len(self.words), device=self.words.device)
        texts = self._read(self.of_items)
        chosen = self.items.reviews
        weights = self.items.weights(chosen, texts[chosen], chosen > 0)
        out[chosen[chosen > 0]] = weights[chosen > 0]
        return out

    def _read(self, read: Words) -> Tensor:
        return torch.cat([read(part) for part in self.words.split(CHUNK)])

    def _all(self, side: Side, read: Words) -> Tensor:
        texts = self._read(read)
        ids = torch.arange(len(side.reviews), device=self.words.device)
        parts = [side(part, texts[side.reviews[part]]) for part in ids.split(CHUNK)]
        return torch.cat(parts)
