"""Scores of candidates by the probability of their titles after a prompt with soft tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.scoring import answer_loss, log_prob, read_head
from dynmm_framework.language.soft import Prompt, PromptBatch, inject, newest_items
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.protocols import Context, FloatArray, IntArray, LanguageModel
from dynmm_plugins.a_llmrec.config import ALLMRecConfig
from dynmm_plugins.a_llmrec.inputs import Questions
from dynmm_plugins.a_llmrec.network import Bridge

UNTITLED = -10_000.0
"""Score of an item without a title, below that of any title: the log-probability of its tokens."""
SHOWN = 16
"""Users from which on a progress bar is worth its line."""

Lists = Sequence[IntArray]


class TitleScorer:
    """Writes prompts, reads them with the language model, and scores titles.

    Args:
        config: Settings.
        titles: Title of each item, empty where it has none.
        joint: The items in the joint space, ``(n_items, dim)``.
        places: Items are listed in the order of these numbers, ``(n_items,)``, when they are
            scored, so that no score can come from the order in which they are asked for.
        bridge: What is trained.
        llm: The language model.
        ctx: Device, log and progress.
    """

    def __init__(
        self,
        config: ALLMRecConfig,
        titles: Sequence[str],
        joint: FloatArray,
        places: NDArray[np.float64],
        bridge: Bridge,
        llm: LanguageModel,
        ctx: Context,
    ) -> None:
        self.config, self.bridge, self.llm, self.ctx = config, bridge, llm, ctx
        self.places = places
        self.joint = torch.from_numpy(np.ascontiguousarray(joint)).to(ctx.device)
        self.writer = PromptWriter(config.template, llm)
        self.head: Prefix | None = read_head(llm, self.writer.head)
        self.tokens = [self.writer.title(title) for title in titles]
        self.answers = [self.writer.answer(ids) if ids else () for ids in self.tokens]
        self.longest = max(map(len, self.answers), default=0)

    def loss(self, questions: Questions, lists: Lists) -> Tensor:
        """Returns the mean negative log-likelihood of the targets' titles after their prompts."""
        return answer_loss(
            self.llm,
            self._prompts(questions.histories, lists),
            [self.answers[item] for item in questions.targets],
            embeddings=lambda batch: self._embeddings(
                batch, questions.histories, questions.users, lists
            ),
            head=self.head,
        )

    def scores(self, histories: Histories, users: FloatArray, lists: Lists) -> list[FloatArray]:
        """Scores each user's candidates; an item twice in a list has one score.

        A score is the log-probability of the whole title, as what is listed are alternatives: a
        title that stands in the prompt is copied once it has begun, so that a mean over tokens
        would say how long it is.

        Args:
            histories: The users.
            users: Their standardised vectors, ``(n, d)``.
            lists: Items for each.
        """
        unique = [np.unique(items, return_inverse=True) for items in lists]
        listed = [items[np.argsort(self.places[items], kind="stable")] for items, _ in unique]
        titled = [items[[bool(self.answers[item]) for item in items]] for items in listed]
        prompts = self._prompts(histories, listed)
        self.writer.tell(self.ctx.log)
        found = log_prob(
            self.llm,
            prompts,
            [[self.answers[item] for item in items] for items in titled],
            embeddings=lambda batch, rows: self._embeddings(
                batch, histories.take(rows), users[rows], [listed[row] for row in rows]
            ),
            head=self.head,
            max_tokens=self.config.max_tokens,
            log=self.ctx.log,
            progress=self.ctx.progress if len(histories) >= SHOWN else None,
        )
        out = []
        for (items, inverse), asked, values in zip(unique, titled, found, strict=True):
            scores = np.full(len(items), UNTITLED, np.float32)
            lengths = np.array([len(self.answers[item]) for item in asked], np.float32)
            scores[np.searchsorted(items, asked)] = values * lengths
            out.append(scores[inverse])
        return out

    def _prompts(self, histories: Histories, lists: Lists) -> list[Prompt]:
        newest = histories.last(self.config.history)
        return [
            self.writer.write(
                history=[Entry(self.tokens[item], soft=1) for item in newest[row]],
                candidates=[Entry(self.tokens[item], soft=1) for item in items],
                user=1,
                slots="none",
                reserve=self.longest,
            )
            for row, items in enumerate(lists)
        ]

    def _embeddings(
        self, batch: PromptBatch, histories: Histories, users: FloatArray, lists: Lists
    ) -> Tensor:
        device = self.joint.device
        soft = {"user": self.bridge.users(torch.from_numpy(users).to(device))[:, None]}
        if "history" in batch.soft:
            newest = newest_items(histories.last(self.config.history), batch.soft["history"])
            soft["history"] = self.bridge.items(self.joint[newest.to(device)])
        if "candidates" in batch.soft:
            asked = np.zeros(batch.soft["candidates"].shape, np.int64)
            for row, items in enumerate(lists):
                asked[row, : len(items)] = items
            soft["candidates"] = self.bridge.items(self.joint[torch.from_numpy(asked).to(device)])
        return inject(self.llm, batch, soft)
