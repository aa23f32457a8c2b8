"""How TALLRec's adapters learn, and by what their training is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dynmm_framework.data.judgements import Judgements
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.evaluation.judging import area_under_curve
from dynmm_framework.language.lora import AdaptedLM
from dynmm_framework.protocols import FloatArray, Scores
from dynmm_plugins.tallrec.config import TALLRecConfig
from dynmm_plugins.tallrec.prompts import Writer
from dynmm_plugins.tallrec.reading import judge_items, liked_of

IGNORED = -100


class AnswerTask:
    """Learns the answers: the mean cross-entropy of their tokens after each prompt.

    Args:
        llm: The adapted language model.
        writer: Writes prompts.
        examples: What was judged, and how.
        config: Settings.
        judge: Scores the items of each history, ``(batch, n_items)``; for the loop's protocol.
    """

    def __init__(
        self, llm: AdaptedLM, writer: Writer, examples: Judgements, config: TALLRecConfig
    ) -> None:
        self.llm, self.writer, self.config = llm, writer, config
        self.n_targets = len(examples)
        self.pass_size = min(config.batch_size, len(examples))
        histories = examples.histories(config.history)
        liked = liked_of(histories, config.liked_above)
        self._texts: list[tuple[list[int], int]] = []
        for row, (item, good) in enumerate(zip(examples.items, examples.liked, strict=True)):
            answer = writer.answers.yes if good else writer.answers.no
            asked = writer.continuation(item)
            place = slice(histories.offsets[row], histories.offsets[row + 1])
            prompt = writer.prompt(
                histories[row], liked[place], reserve=len(asked) + writer.answers.longest
            )
            text = [*writer.head, *prompt, *asked, *answer]
            self._texts.append((text, len(answer)))

    @property
    def module(self) -> nn.Module:
        return self.llm.adapters

    @property
    def n_batches(self) -> int:
        return -(-self.n_targets // self.config.batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yields the examples of each batch, in an order of their own every epoch."""
        order = rng.permutation(self.n_targets)
        for start in range(0, self.n_targets, self.config.batch_size):
            yield order[start : start + self.config.batch_size]

    def divided(self, batch: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], float]]:
        """Divides a step's examples into passes, each with its share of the tokens of answers."""
        starts = range(0, len(batch), self.pass_size)
        parts = [batch[start : start + self.pass_size] for start in starts]
        return [(part, self.n_terms(part) / self.n_terms(batch)) for part in parts]

    def n_terms(self, batch: NDArray[np.int64]) -> int:
        """Returns the number of tokens that a batch's loss is the mean of."""
        return sum(self._texts[row][1] for row in batch)

    def loss(self, batch: NDArray[np.int64]) -> torch.Tensor:
        """Returns the mean cross-entropy of the tokens of the answers."""
        texts = [self._texts[row] for row in batch]
        length = max(len(ids) for ids, _ in texts) - 1
        longest = max(answer for _, answer in texts)
        ids = torch.full((len(texts), length), self.llm.pad_id)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        at = torch.zeros(len(texts), longest, dtype=torch.long)
        wanted = torch.full(at.shape, IGNORED)
        for row, (tokens, answer) in enumerate(texts):
            ids[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
            mask[row, : len(tokens) - 1] = True
            first = len(tokens) - 1 - answer
            at[row, :answer] = torch.arange(first, first + answer)
            wanted[row, :answer] = torch.tensor(tokens[-answer:])
        states = self.llm.forward(self.llm.embed(ids), mask=mask, at=at)
        logits = self.llm.logits(states)  # (batch, answer, vocabulary)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), wanted.flatten().to(logits.device), ignore_index=IGNORED
        )

    def score(self, histories: Histories) -> Scores:
        """Scores all items."""
        everything = [np.arange(histories.n_items, dtype=np.int32)] * len(histories)
        return judge_items(self.llm, self.writer, self.config, histories, everything)


class AUCValidator:
    """Follows the AUC of validation judgements.

    Args:
        task: Its model and its prompts are used.
        judgements: What is asked.
        evaluation: The users that it comes from.
    """

    metric: str = "auc"
    higher_is_better: bool = True

    def __init__(self, task: AnswerTask, judgements: Judgements, evaluation: EvaluationSet) -> None:
        self.evaluation = evaluation
        self._task, self._judgements = task, judgements

    def limited(self, users: int, *, rng: np.random.Generator) -> AUCValidator:
        """Returns the same on the judgements of at most so many users, drawn at random."""
        rows = np.unique(self._judgements.rows)
        if users >= len(rows):
            return self
        chosen = np.isin(self._judgements.rows, rng.choice(rows, users, replace=False))
        return AUCValidator(self._task, self._judgements.take(chosen), self.evaluation)

    def __call__(self, score: Callable[[Histories], Scores]) -> Mapping[str, float]:
        """Returns the AUC of the task's model; nobody needs scores of all items for it."""
        task = self._task
        found: FloatArray = judge_items(
            task.llm,
            task.writer,
            task.config,
            self._judgements.histories(task.config.history),
            list(self._judgements.items[:, None]),
        )
        return {self.metric: area_under_curve(found[:, 0], self._judgements.liked)}
