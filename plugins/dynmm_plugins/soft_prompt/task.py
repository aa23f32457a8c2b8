"""Training prompts, and the evidence's own head, as tasks for the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.retrieval import Asked
from dynmm_framework.protocols import FloatArray
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.network import EvidenceHead, faithfulness
from dynmm_plugins.soft_prompt.records import Question
from dynmm_plugins.soft_prompt.scorer import Parts, PromptScorer


class PromptTask:
    """Task of :func:`dynmm_framework.training.loop.train`.

    Args:
        scorer: Scores candidates.
        examples: Training prompts, each with its target among the candidates.
        score: Scores the catalogue, for validation.
    """

    def __init__(
        self, scorer: PromptScorer, examples: Question, score: Callable[[Histories], FloatArray]
    ) -> None:
        self.scorer, self.examples = scorer, examples
        self.module: Parts = scorer.parts
        self.score = score
        self.config = scorer.config
        self.n_targets = len(examples)
        self.n_batches = -(-self.n_targets // self.config.batch_size)
        self.pass_size = min(self.config.micro_batch, self.config.batch_size, self.n_targets)

    def batches(self, rng: np.random.Generator) -> Iterator[Question]:
        """Yields the prompts in random order, each with its candidates in a random order."""
        shuffled = np.argsort(rng.random(self.examples.asked.candidates.shape), axis=1)
        examples = self.examples.reordered(shuffled)
        order = rng.permutation(self.n_targets)
        for start in range(0, self.n_targets, self.config.batch_size):
            yield examples.take(order[start : start + self.config.batch_size])

    def divided(self, batch: Question) -> Sequence[tuple[Question, float]]:
        """Divides a step's prompts into passes, each with its share of the loss."""
        size = self.pass_size
        starts = range(0, len(batch), size)
        parts = [batch.take(np.arange(start, min(start + size, len(batch)))) for start in starts]
        weights = [self._terms(part.asked) for part in parts]
        whole = max(sum(weights), 1)
        return [(part, weight / whole) for part, weight in zip(parts, weights, strict=True)]

    def _terms(self, part: Asked) -> int:
        """Returns the number of terms that a part's loss is the mean of."""
        if self.config.scorer != "log_prob":
            return len(part)
        targets = part.candidates[np.arange(len(part)), part.targets]
        return sum(len(self.scorer.answer(int(item))) for item in targets)

    def loss(self, batch: Question) -> Tensor:
        """Returns L_exp = L_rank + λ_f L_faith + λ_e L_nlp.

        L_rank is the cross-entropy of the target among the candidates, or of its title.
        """
        config = self.config
        loss = self._rank_loss(batch)
        if config.nlp_weight and batch.texts and self.scorer.llm is not None:
            loss = loss + config.nlp_weight * self.scorer.text_loss(batch)
        return loss

    def _rank_loss(self, batch: Question) -> Tensor:
        if self.config.scorer == "log_prob":
            return self.scorer.title_loss(batch)
        scores = self.scorer.scores(batch)
        base = torch.from_numpy(batch.asked.base).to(scores)
        targets = torch.from_numpy(batch.asked.targets).to(scores.device)
        loss = F.cross_entropy(base + scores, targets)
        if self.config.faith_weight and batch.records is not None:
            with torch.no_grad():
                removed = self.scorer.scores(batch.without_targets())
            faith = faithfulness(
                base + scores,
                base + removed,
                targets,
                margin=self.config.faith_margin,
                as_printed=self.config.faith == "as_printed",
            )
            loss = loss + self.config.faith_weight * faith
        return loss


class EvidenceTask:
    """Task of :func:`dynmm_framework.training.loop.train`: targets among what is retrieved.

    Args:
        head: What is trained.
        items: Standardised latents of all items, ``(n_items, d)``.
        examples: Training prefixes with their records, each with its target among the candidates.
        config: Settings of the loop and of the loss.
    """

    def __init__(
        self, head: EvidenceHead, items: FloatArray, examples: Question, config: SoftPromptConfig
    ) -> None:
        self.module, self.items, self.examples, self.config = head, items, examples, config
        self.n_targets = len(examples)
        self.n_batches = -(-self.n_targets // config.batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[Question]:
        """Yields the prefixes in random order."""
        order = rng.permutation(self.n_targets)
        for start in range(0, self.n_targets, self.config.batch_size):
            yield self.examples.take(order[start : start + self.config.batch_size])

    def loss(self, batch: Question) -> Tensor:
        """Returns the cross-entropy of the target, and L_faith."""
        assert batch.records is not None
        device: Any = self.module.score.weight.device
        latents = torch.from_numpy(self.items[batch.asked.candidates]).to(device)
        scores: Tensor = self.module(batch.records, latents)
        base = torch.from_numpy(batch.asked.base).to(scores)
        targets = torch.from_numpy(batch.asked.targets).to(device)
        loss = F.cross_entropy(base + scores, targets)
        config = self.config
        if config.faith_weight:
            own = F.one_hot(targets, scores.shape[1]).bool()
            faith = faithfulness(
                base + scores,
                base + scores.masked_fill(own, 0),  # a candidate without records has score 0
                targets,
                margin=config.faith_margin,
                as_printed=config.faith == "as_printed",
            )
            loss = loss + config.faith_weight * faith
        return loss

    def score(self, histories: Histories) -> FloatArray:
        """Is never asked: held-out prefixes stop the training, see :func:`learn_evidence`."""
        raise NotImplementedError
