"""The two stages as tasks for the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.language.retrieval import Vectors, ndcg_among
from dynmm_framework.latents.inputs import Standardiser, as_array, to_device, user_vectors
from dynmm_framework.protocols import Context, FloatArray, IntArray, Scores
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_plugins.a_llmrec.config import ALLMRecConfig, MatchingConfig
from dynmm_plugins.a_llmrec.inputs import Items, Questions
from dynmm_plugins.a_llmrec.network import Bridge, JointSpace
from dynmm_plugins.a_llmrec.scorer import Lists, TitleScorer

Pairs = tuple[NDArray[np.int64], IntArray]
"""Rows of prefixes, and a negative item for each."""


class MatchingTask:
    """The first stage: items and texts are matched, given back, and told apart by users.

    Args:
        space: What is learned.
        backbone: A trained backbone.
        text: The texts' vectors.
        known: Training histories, whose items are no negatives.
        prefixes: Histories of which the next item is known.
        owners: Row in ``known`` of each prefix, ``(n,)``.
        targets: The next item of each, ``(n,)``.
        config: Settings.
        ctx: Gives the device.
    """

    def __init__(
        self,
        space: JointSpace,
        backbone: Vectors,
        text: Features,
        known: Histories,
        prefixes: Histories,
        owners: NDArray[np.int64],
        targets: NDArray[np.int64],
        config: MatchingConfig,
        ctx: Context,
    ) -> None:
        self.module, self.backbone, self.config = space, backbone, config
        self.owners, self.targets = owners, targets
        self.n_targets = len(targets)
        self.n_batches = -(-self.n_targets // config.batch_size)
        # An item without interactions has no vector of its own, only what it began with.
        self.warm = np.unique(known.items)
        ranks = np.zeros(known.n_items, np.int32)
        ranks[self.warm] = np.arange(len(self.warm))
        self._negatives = NegativeSampler(
            Histories(known.offsets, ranks[known.items], n_items=len(self.warm))
        )
        vectors = as_array(backbone.item_vectors())
        own = Features(vectors, np.isin(np.arange(len(vectors)), self.warm))
        measured = Standardiser.fit({"items": own, "text": text})
        device = ctx.device
        self._mean = to_device(measured.means["items"], device)
        self._scale = to_device(measured.scales["items"], device)
        self._items = to_device(measured.apply("items", own), device)
        self._text = to_device(measured.apply("text", text), device)
        self._warm = torch.from_numpy(own.present).to(device)
        self._written = torch.from_numpy(text.present).to(device)
        self._users = to_device(user_vectors(backbone, prefixes), device)  # type: ignore[arg-type]

    def batches(self, rng: np.random.Generator) -> Iterator[Pairs]:
        """Yields prefixes in random order, each with a negative that its user has not."""
        order = rng.permutation(self.n_targets)
        negatives = self.warm[self._negatives.draw(self.owners[order], rng=rng)]
        for start in range(0, self.n_targets, self.config.batch_size):
            part = slice(start, start + self.config.batch_size)
            yield order[part], negatives[part]

    def loss(self, batch: Pairs) -> Tensor:
        """Returns the loss of the paper's equation 5."""
        rows, negatives = batch
        n, device, space = len(rows), self._items.device, self.module
        asked = np.concatenate([self.targets[rows], negatives])
        items = torch.from_numpy(asked).to(device)
        own, text = self._items[items], self._text[items]  # (2n, d), (2n, d_text)
        joint, written = space.of_items(own), space.of_texts(text)
        given_back = space.item_out(joint)
        users = self._users[torch.from_numpy(rows).to(device)].repeat(2, 1)
        logits = (users * self._decoded(given_back)).sum(dim=1)
        told = F.softplus(-logits[:n]).mean() + F.softplus(logits[n:]).mean()
        has = self._written[items].float()
        return (
            told
            + _mean_square(joint - written, has)
            + self.config.item_weight * F.mse_loss(given_back, own)
            + self.config.text_weight * _mean_square(space.text_out(written) - text, has)
        )

    def n_terms(self, batch: Pairs) -> int:
        """Returns the number of prefixes that a batch's loss is the mean of."""
        return len(batch[0])

    def score(self, histories: Histories) -> Scores:
        """Scores all items by what the decoder gives back."""
        users = user_vectors(self.backbone, histories)  # type: ignore[arg-type]
        joint = self._joint()
        found: Tensor = to_device(users, str(joint.device)) @ self._given_back(joint).T
        return found

    @torch.no_grad()
    def items(self) -> Items:
        """Returns what was learned of the items."""
        joint = self._joint()
        cold = torch.nonzero(~self._warm)[:, 0]
        decoded = self._given_back(joint[cold])
        return Items(joint.cpu().numpy(), cold.cpu().numpy(), decoded.cpu().numpy())

    def _joint(self) -> Tensor:
        """Returns all items in the joint space, ``(n_items, dim)``.

        An item with neither interactions nor text stands where the others do on average.
        """
        own = self.module.of_items(self._items)
        joint = torch.where(self._warm[:, None], own, self.module.of_texts(self._text))
        nothing = ~self._warm & ~self._written
        return torch.where(nothing[:, None], own[self._warm].mean(dim=0), joint)

    def _given_back(self, joint: Tensor) -> Tensor:
        return self._decoded(self.module.item_out(joint))

    def _decoded(self, standard: Tensor) -> Tensor:
        return standard * self._scale + self._mean


class TitleTask:
    """The second stage: the title of the next item after a prompt with soft tokens.

    Args:
        scorer: Reads prompts.
        questions: Training prompts, without their candidates.
        score: Scores the catalogue; for the loop's protocol.
    """

    def __init__(
        self,
        scorer: TitleScorer,
        questions: Questions,
        score: Callable[[Histories], FloatArray],
    ) -> None:
        self.scorer, self.questions, self.score = scorer, questions, score
        self.module: Bridge = scorer.bridge
        self.config: ALLMRecConfig = scorer.config
        self.n_targets = len(questions)
        self.n_batches = -(-self.n_targets // self.config.batch_size)
        self.pass_size = min(self.config.micro_batch, self.config.batch_size, self.n_targets)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Questions, Lists]]:
        """Yields prompts in random order, with other candidates in every epoch."""
        order = rng.permutation(self.n_targets)
        for start in range(0, self.n_targets, self.config.batch_size):
            part = self.questions.take(order[start : start + self.config.batch_size])
            yield part, list(part.candidates(self.config.candidates, rng=rng))

    def divided(
        self, batch: tuple[Questions, Lists]
    ) -> Sequence[tuple[tuple[Questions, Lists], float]]:
        """Divides a step's prompts into passes, each with its share of the tokens of answers."""
        questions, lists = batch
        counts = np.array([len(self.scorer.answers[item]) for item in questions.targets])
        total, size = max(int(counts.sum()), 1), self.pass_size
        parts = []
        for start in range(0, len(questions), size):
            rows = np.arange(start, min(start + size, len(questions)))
            part = questions.take(rows), [lists[int(row)] for row in rows]
            parts.append((part, float(counts[rows].sum()) / total))
        return parts

    def n_terms(self, batch: tuple[Questions, Lists]) -> int:
        """Returns the number of tokens that a batch's loss is the mean of."""
        return sum(len(self.scorer.answers[item]) for item in batch[0].targets)

    def loss(self, batch: tuple[Questions, Lists]) -> Tensor:
        """Returns the cross-entropy of the targets' titles, a mean over tokens."""
        return self.scorer.loss(*batch)


class CandidateValidator:
    """Follows the NDCG of validation targets among candidates that are drawn once.

    Args:
        scorer: Scores candidates.
        questions: What is asked.
        lists: Candidates of each, ``(n, C)``, the target among them.
        evaluation: The users that they come from.
    """

    metric: str = "ndcg"
    higher_is_better: bool = True

    def __init__(
        self,
        scorer: TitleScorer,
        questions: Questions,
        lists: IntArray,
        evaluation: EvaluationSet,
    ) -> None:
        self.evaluation = evaluation
        self._scorer, self._questions, self._lists = scorer, questions, lists

    def take(self, rows: NDArray[Any]) -> CandidateValidator:
        """Returns the same on some of the users, by row."""
        return CandidateValidator(
            self._scorer, self._questions.take(rows), self._lists[rows], self.evaluation.take(rows)
        )

    def __call__(self, score: Callable[[Histories], Scores]) -> Mapping[str, float]:
        """Returns the NDCG; nobody needs scores of the whole catalogue for it."""
        asked = self._questions
        found = np.stack(self._scorer.scores(asked.histories, asked.users, list(self._lists)))
        places = (self._lists == asked.targets[:, None]).argmax(axis=1)
        return {self.metric: float(ndcg_among(found, places).mean())}


def _mean_square(difference: Tensor, has: Tensor) -> Tensor:
    """Returns the mean of squares over the rows that count, ``has`` ``(n,)``."""
    found: Tensor = (difference.square().mean(dim=1) * has).sum() / has.sum().clamp(min=1)
    return found
