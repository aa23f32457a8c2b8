"""Scores of candidates: the trained parts around a frozen language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.batches import Rows, by_length, compute_batches
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.retrieval import Asked
from dynmm_framework.language.scoring import answer_loss, log_prob, read_head, slot_states
from dynmm_framework.language.soft import Prompt, PromptBatch, collate, inject, newest_items
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.protocols import Context, FloatArray, LanguageModel
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.network import DirectHead, Projector, SlotHead


class Parts(nn.Module):
    """Everything that is trained.

    Args:
        config: Settings.
        widths: Width of users' and items' latents.
        llm: The language model; ``None`` for the control without one.
    """

    def __init__(
        self, config: SoftPromptConfig, widths: tuple[int, int], llm: LanguageModel | None
    ) -> None:
        super().__init__()
        users, items = widths
        if llm is None:
            self.head: nn.Module = DirectHead(users, items, config.hidden)
            return
        self.users = Projector(users, config.hidden, llm)
        self.items = Projector(items, config.hidden, llm)
        if config.scorer == "slots":
            self.head = SlotHead(llm.hidden_size)


class PromptScorer:
    """Writes prompts, reads them with the language model, and scores candidates.

    Args:
        config: Settings.
        titles: Title of each item, empty where it has none.
        items: Standardised latents of all items, ``(n_items, d)``.
        parts: What is trained.
        llm: The language model; ``None`` for the control.
        ctx: Device, log and progress.
    """

    def __init__(
        self,
        config: SoftPromptConfig,
        titles: Sequence[str],
        items: FloatArray,
        parts: Parts,
        llm: LanguageModel | None,
        ctx: Context,
    ) -> None:
        self.config, self.parts, self.ctx = config, parts, ctx
        self.items = torch.from_numpy(np.ascontiguousarray(items)).to(ctx.device)
        self.llm = llm
        self.head: Prefix | None = None
        if llm is not None:
            self.writer = PromptWriter(config.template, llm)
            self.titles = [self.writer.title(title) for title in titles]
            self.head = read_head(llm, self.writer.head)

    # Training.

    def scores(self, asked: Asked) -> Tensor:
        """Scores candidates in one pass, with gradients, ``(n, C)``; not with ``log_prob``."""
        if self.llm is None:
            return self._direct(asked)
        prompts = [self._prompt(asked, row) for row in range(len(asked))]
        return self._slots(asked, prompts, np.arange(len(asked)))

    def title_loss(self, asked: Asked) -> Tensor:
        """Returns the mean negative log-likelihood of the targets' titles after their prompts."""
        assert self.llm is not None
        targets = asked.candidates[np.arange(len(asked)), asked.targets]
        answers = [self.answer(int(item)) for item in targets]
        return answer_loss(
            self.llm,
            [self._prompt(asked, row, reserve=len(answer)) for row, answer in enumerate(answers)],
            answers,
            embeddings=lambda batch: self._embeddings(asked, batch),
            head=self.head,
        )

    def answer(self, item: int) -> tuple[int, ...]:
        """Returns the tokens that an item's title is scored by; none if it has no title."""
        return self.writer.answer(self.titles[item]) if self.titles[item] else ()

    # Serving.

    @torch.no_grad()
    def score_all(self, asked: Asked) -> FloatArray:
        """Scores candidates for any number of users, ``(n, C)``."""
        if self.llm is None:
            return self._direct(asked).cpu().numpy()
        if self.config.scorer == "log_prob":
            return self._log_prob(asked)
        prompts = [self._prompt(asked, row) for row in range(len(asked))]
        self.writer.tell(self.ctx.log)
        out = np.zeros(asked.base.shape, np.float32)

        def compute(rows: Rows) -> FloatArray:
            found: FloatArray = (
                self._slots(asked, [prompts[row] for row in rows], rows).cpu().numpy()
            )
            return found

        lengths = [len(prompt) - self._skip for prompt in prompts]
        groups = by_length(lengths, max_tokens=self.config.max_tokens)
        for rows, found in compute_batches(groups, compute, log=self.ctx.log):
            out[rows] = found
        return out

    def _log_prob(self, asked: Asked) -> FloatArray:
        llm = self.llm
        assert llm is not None
        answers = [self.writer.answer(ids) if ids else () for ids in self.titles]
        longest = max(map(len, answers), default=0)
        prompts = [self._prompt(asked, row, reserve=longest) for row in range(len(asked))]
        self.writer.tell(self.ctx.log)
        titled = np.array([bool(ids) for ids in self.titles])[asked.candidates]
        found = log_prob(
            llm,
            prompts,
            [
                [answers[item] for item in items[has]]
                for items, has in zip(asked.candidates, titled, strict=True)
            ],
            embeddings=lambda batch, rows: self._embeddings(asked.take(rows), batch),
            head=self.head,
            max_tokens=self.config.max_tokens,
            log=self.ctx.log,
        )
        # An item without a title says nothing for or against itself.
        out = np.zeros(asked.base.shape, np.float32)
        for row, values in enumerate(found):
            out[row, ~titled[row]] = values.mean() if len(values) else 0
            out[row, titled[row]] = values
        return out

    def segment_tokens(self, asked: Asked) -> dict[str, float]:
        """Returns the mean number of tokens of each segment of the prompts; none without them."""
        if self.llm is None:
            return {}
        counts: dict[str, int] = {}
        for row in range(len(asked)):
            for name, number in self._prompt(asked, row).tokens.items():
                counts[name] = counts.get(name, 0) + number
        return {name: number / len(asked) for name, number in counts.items()}

    # Parts of both.

    @property
    def _skip(self) -> int:
        return 0 if self.head is None else self.head.length

    def _prompt(self, asked: Asked, row: int, *, reserve: int = 0) -> Prompt:
        config = self.config
        newest = asked.histories.last(config.history)[row]
        titled = len(newest) - config.history_titles
        history = [
            Entry(self.titles[item] if place >= titled else (), soft=1)
            for place, item in enumerate(newest)
        ]
        listed = config.scorer == "slots"
        candidates = [
            Entry(self.titles[item] if config.candidate_titles else (), soft=1)
            for item in asked.candidates[row]
        ]
        return self.writer.write(
            history=history,
            candidates=candidates if listed else (),
            user=1,
            slots=config.slots if listed else "none",
            reserve=reserve,
        )

    def _collated(self, prompts: Sequence[Prompt]) -> PromptBatch:
        assert self.llm is not None
        return collate(prompts, pad_id=self.llm.pad_id, skip=self._skip, device=self.ctx.device)

    def _slots(self, asked: Asked, prompts: Sequence[Prompt], rows: Rows) -> Tensor:
        assert self.llm is not None
        batch = self._collated(prompts)
        words = self._embeddings(asked.take(np.asarray(rows)), batch)
        states = slot_states(self.llm, batch, words, prefix=self.head)
        scores: Tensor = self.parts.head(states)
        return scores

    def _embeddings(self, asked: Asked, batch: PromptBatch) -> Tensor:
        assert self.llm is not None
        device = self.items.device
        users = torch.from_numpy(asked.users).to(device)
        candidates = torch.from_numpy(asked.candidates.astype(np.int64)).to(device)
        soft: dict[str, Tensor] = {"user": self.parts.users(users)[:, None]}
        if "history" in batch.soft:
            places = batch.soft["history"]
            newest = newest_items(asked.histories.last(self.config.history), places)
            soft["history"] = self.parts.items(self.items[newest.to(device)])
        if "candidates" in batch.soft:
            soft["candidates"] = self.parts.items(self.items[candidates])
        if "slots" in batch.soft:
            soft["slots"] = self.parts.items(self.items[candidates])
        return inject(self.llm, batch, soft)

    def _direct(self, asked: Asked) -> Tensor:
        device = self.items.device
        users = torch.from_numpy(asked.users).to(device)
        items = self.items[torch.from_numpy(asked.candidates.astype(np.int64)).to(device)]
        past = torch.stack(
            [
                self.items[torch.from_numpy(newest.astype(np.int64)).to(device)].mean(dim=0)
                if len(newest)
                else self.items.new_zeros(self.items.shape[1])
                for newest in _rows(asked.histories.last(self.config.history))
            ]
        )
        width = items.shape[1]
        inputs = [
            users[:, None].expand(-1, width, -1),
            items,
            past[:, None].expand(-1, width, -1),
            items.mean(dim=1, keepdim=True).expand(-1, width, -1),
        ]
        scores: Tensor = self.parts.head(torch.cat(inputs, dim=-1))
        return scores


def _rows(histories: Histories) -> list[Any]:
    return [histories[row] for row in range(len(histories))]
