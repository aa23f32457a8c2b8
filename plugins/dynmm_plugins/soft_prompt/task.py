"""Training prompts as a task for the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.retrieval import Asked
from dynmm_framework.protocols import FloatArray
from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer


class PromptTask:
    """Task of :func:`dynmm_framework.training.loop.train`.

    Args:
        scorer: Scores candidates.
        examples: Training prompts, each with its target among the candidates.
        score: Scores the catalogue, for validation.
    """

    def __init__(
        self, scorer: PromptScorer, examples: Asked, score: Callable[[Histories], FloatArray]
    ) -> None:
        self.scorer, self.examples = scorer, examples
        self.module: Parts = scorer.parts
        self.score = score
        self.config = scorer.config
        self.n_targets = len(examples)
        self.n_batches = -(-self.n_targets // self.config.batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[Asked]:
        """Yields the prompts in random order, each with its candidates in a random order."""
        shuffled = np.argsort(rng.random(self.examples.candidates.shape), axis=1)
        examples = self.examples.reordered(shuffled)
        order = rng.permutation(self.n_targets)
        for start in range(0, self.n_targets, self.config.batch_size):
            yield examples.take(order[start : start + self.config.batch_size])

    def divided(self, batch: Asked) -> Sequence[tuple[Asked, float]]:
        """Divides a step's prompts into passes, each with its share of the loss."""
        size = self.config.micro_batch
        starts = range(0, len(batch), size)
        parts = [batch.take(np.arange(start, min(start + size, len(batch)))) for start in starts]
        weights = [self._terms(part) for part in parts]
        whole = max(sum(weights), 1)
        return [(part, weight / whole) for part, weight in zip(parts, weights, strict=True)]

    def _terms(self, part: Asked) -> int:
        """Returns the number of terms that a part's loss is the mean of."""
        if self.config.scorer != "log_prob":
            return len(part)
        targets = part.candidates[np.arange(len(part)), part.targets]
        return sum(len(self.scorer.answer(int(item))) for item in targets)

    def loss(self, batch: Asked) -> Tensor:
        """Returns the cross-entropy of the target among the candidates, or of its title."""
        if self.config.scorer == "log_prob":
            return self.scorer.title_loss(batch)
        scores = self.scorer.scores(batch)
        base = torch.from_numpy(batch.base).to(scores)
        return F.cross_entropy(base + scores, torch.from_numpy(batch.targets).to(scores.device))
