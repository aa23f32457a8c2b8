"""Scores of candidates: the trained parts around a frozen language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dynmm_framework.language.batches import Rows, by_length, compute_batches
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.retrieval import Asked
from dynmm_framework.language.scoring import answer_loss, log_prob, read_head, slot_states
from dynmm_framework.language.soft import Prompt, PromptBatch, collate, inject, newest_items
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.protocols import Context, FloatArray, LanguageModel
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.mixing import PromptLength
from dynmm_plugins.soft_prompt.network import (
    DirectHead,
    EvidenceTokens,
    Projector,
    RecordEncoder,
    SlotHead,
)
from dynmm_plugins.soft_prompt.records import Question

SENTENCE_TOKENS = 64
"""Most tokens of a sentence that is learned."""


class Parts(nn.Module):
    """Everything that is trained.

    Args:
        config: Settings.
        widths: Width of users' and items' latents.
        llm: The language model; ``None`` for the control without one.
        owners: Number of extractors of evidence; 0 without evidence.
    """

    def __init__(
        self,
        config: SoftPromptConfig,
        widths: tuple[int, int],
        llm: LanguageModel | None,
        *,
        owners: int = 0,
    ) -> None:
        super().__init__()
        users, items = widths
        width = config.evidence_width if owners else 0
        self.records = RecordEncoder(items, owners, width) if owners else None
        if llm is None:
            self.head: nn.Module = DirectHead(users, items, config.hidden, evidence=width)
            return
        self.users = Projector(users, config.hidden, llm)
        self.items = Projector(items, config.hidden, llm)
        if config.scorer == "slots":
            self.head = SlotHead(llm.hidden_size)
        lists = config.scorer == "slots" and config.evidence_at != "segment"
        self.pairs = nn.Linear(width, llm.hidden_size, bias=False) if owners and lists else None
        self.evidence = (
            EvidenceTokens(width, config.evidence_tokens, config.hidden, llm)
            if owners and (config.evidence_at != "candidates" or config.scorer == "log_prob")
            else None
        )


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

    def scores(self, question: Question) -> Tensor:
        """Scores candidates in one pass, with gradients, ``(n, C)``; not with ``log_prob``."""
        if self.llm is None:
            return self._direct(question)
        prompts = [self._prompt(question.asked, row) for row in range(len(question))]
        return self._slots(question, prompts, np.arange(len(question)))

    def title_loss(self, question: Question) -> Tensor:
        """Returns the mean negative log-likelihood of the targets' titles after their prompts."""
        assert self.llm is not None
        asked = question.asked
        targets = asked.candidates[np.arange(len(asked)), asked.targets]
        answers = [self.answer(int(item)) for item in targets]
        return answer_loss(
            self.llm,
            [self._prompt(asked, row, reserve=len(answer)) for row, answer in enumerate(answers)],
            answers,
            embeddings=lambda batch: self._embeddings(question, batch),
            head=self.head,
        )

    def text_loss(self, question: Question) -> Tensor:
        """Returns L_nlp: the mean negative log-likelihood of the tokens of sentences.

        A sentence follows the soft tokens of its user, of its evidence, and of the target.
        """
        assert self.llm is not None
        alone = question.targets_alone()
        prompts = [
            self.writer.write(
                candidates=[Entry(self.titles[int(items[0])], soft=1)],
                user=1,
                evidence=self._evidence_tokens,
                slots="none",
                reserve=len(text),
            )
            for items, text in zip(alone.asked.candidates, alone.texts, strict=True)
        ]
        return answer_loss(
            self.llm,
            prompts,
            alone.texts,
            embeddings=lambda batch: self._embeddings(alone, batch),
            head=self.head,
        )

    def sentence(self, text: str) -> tuple[int, ...]:
        """Returns the tokens of a sentence that is learned, its end included."""
        return self.writer.answer(self.writer.text.item(text, limit=SENTENCE_TOKENS))

    @torch.no_grad()
    def evidence_embeddings(self, question: Question) -> Tensor | None:
        """Returns the soft tokens of the evidence, ``(n, E, hidden_size)``, if it has a segment."""
        encoded = self._encoded(question, self._latents(question.asked))
        if self.llm is None or self.parts.evidence is None or encoded is None:
            return None
        tokens: Tensor = self.parts.evidence(*encoded)
        return tokens

    def answer(self, item: int) -> tuple[int, ...]:
        """Returns the tokens that an item's title is scored by; none if it has no title."""
        return self.writer.answer(self.titles[item]) if self.titles[item] else ()

    # Serving.

    @torch.no_grad()
    def score_all(self, question: Question) -> FloatArray:
        """Scores candidates for any number of users, ``(n, C)``."""
        if self.llm is None:
            return self._direct(question).cpu().numpy()
        if self.config.scorer == "log_prob":
            return self._log_prob(question)
        asked = question.asked
        prompts = [self._prompt(asked, row) for row in range(len(asked))]
        self.writer.tell(self.ctx.log)
        out = np.zeros(asked.base.shape, np.float32)

        def compute(rows: Rows) -> FloatArray:
            found: FloatArray = (
                self._slots(question, [prompts[row] for row in rows], rows).cpu().numpy()
            )
            return found

        lengths = [len(prompt) - self._skip for prompt in prompts]
        groups = by_length(lengths, max_tokens=self.config.max_tokens)
        for rows, found in compute_batches(groups, compute, log=self.ctx.log):
            out[rows] = found
        return out

    def _log_prob(self, question: Question) -> FloatArray:
        llm, asked = self.llm, question.asked
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
            embeddings=lambda batch, rows: self._embeddings(question.take(rows), batch),
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

    def length(self, asked: Asked, *, seconds_a_batch: float) -> PromptLength:
        """Returns what the prompts hold, and what reading as many as a batch takes.

        Args:
            asked: The users.
            seconds_a_batch: Time for ``batch_size`` of these prompts.
        """
        tokens = self.segment_tokens(asked)
        return PromptLength(
            history=self.config.history if tokens else 0,
            evidence=self._evidence_tokens if tokens else 0,
            tokens=tokens,
            batch=self.config.batch_size,
            seconds_a_batch=seconds_a_batch,
        )

    # Parts of both.

    @property
    def _evidence_tokens(self) -> int:
        return 0 if self.parts.evidence is None else self.config.evidence_tokens

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
            evidence=self._evidence_tokens,
            slots=config.slots if listed else "none",
            reserve=reserve,
        )

    def _collated(self, prompts: Sequence[Prompt]) -> PromptBatch:
        assert self.llm is not None
        return collate(prompts, pad_id=self.llm.pad_id, skip=self._skip, device=self.ctx.device)

    def _slots(self, question: Question, prompts: Sequence[Prompt], rows: Rows) -> Tensor:
        assert self.llm is not None
        batch = self._collated(prompts)
        words = self._embeddings(question.take(np.asarray(rows)), batch)
        states = slot_states(self.llm, batch, words, prefix=self.head)
        scores: Tensor = self.parts.head(states)
        return scores

    def _embeddings(self, question: Question, batch: PromptBatch) -> Tensor:
        assert self.llm is not None
        parts, asked = self.parts, question.asked
        users = torch.from_numpy(asked.users).to(self.items.device)
        latents = self._latents(asked)
        encoded = self._encoded(question, latents)
        soft: dict[str, Tensor] = {"user": parts.users(users)[:, None]}
        if "history" in batch.soft:
            places = batch.soft["history"]
            newest = newest_items(asked.histories.last(self.config.history), places)
            soft["history"] = parts.items(self.items[newest.to(self.items.device)])
        if "evidence" in batch.soft:
            assert encoded is not None
            assert parts.evidence is not None
            soft["evidence"] = parts.evidence(*encoded)
        further: Tensor | float = 0.0
        if encoded is not None and parts.pairs is not None:
            further = parts.pairs(encoded[0].sum(dim=2))
        for name in {"candidates", "slots"} & set(batch.soft):
            soft[name] = parts.items(latents, further)
        return inject(self.llm, batch, soft)

    def _direct(self, question: Question) -> Tensor:
        asked, device = question.asked, self.items.device
        latents = self._latents(asked)
        past = self.items.new_zeros(len(asked), self.items.shape[1])
        newest = asked.histories.last(self.config.history)
        for row in range(len(asked)):
            if len(newest[row]):
                places = torch.from_numpy(newest[row].astype(np.int64)).to(device)
                past[row] = self.items[places].mean(dim=0)
        encoded = self._encoded(question, latents)
        evidence = None if encoded is None else encoded[0].sum(dim=2)
        users = torch.from_numpy(asked.users).to(device)
        scores: Tensor = self.parts.head(users, past, latents, evidence)
        return scores

    def _latents(self, asked: Asked) -> Tensor:
        """Returns the candidates' latents, ``(n, C, d)``."""
        return self.items[torch.from_numpy(asked.candidates.astype(np.int64)).to(self.items.device)]

    def _encoded(self, question: Question, latents: Tensor) -> tuple[Tensor, Tensor] | None:
        """Returns encoded records and where they are; ``None`` if the prompt knows of none."""
        if self.parts.records is None or question.records is None:
            return None
        found: tuple[Tensor, Tensor] = self.parts.records(question.records, latents)
        return found
