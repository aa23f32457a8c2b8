"""A frozen language model alone: what it knows of titles, and nothing that was learned here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.evaluation.scoring import as_tensor
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.retrieval import best_unknown, ranked_above
from dynmm_framework.language.scoring import log_prob, read_head
from dynmm_framework.language.template import Entry, PromptWriter
from dynmm_framework.language.titles import pack_titles, titles_of, unpack_titles
from dynmm_framework.protocols import Context, FloatArray, IntArray, LanguageModel, State
from dynmm_plugins.llm_only.config import LLMOnlyConfig

UNTITLED = -100.0
"""Score of an item without a title, below that of any title: a mean log-probability of a token."""
SHOWN = 16
"""Users from which on a progress bar is worth its line."""
RETRIEVAL = "retrieval/"


class LLMOnly:
    """Ranks by the mean log-probability of each title's tokens after the user's newest titles.

    Nothing is trained but ``retrieval``, which chooses what is ranked where the whole catalogue
    is asked for. Items of the history without a title are left out of the prompt; candidates
    without one are ranked last, tied with one another. The prompts are ranked as they are, with
    no example and no popularity in them.

    A user costs one pass over the prompt, and one over all candidates' titles.
    """

    def __init__(self, config: LLMOnlyConfig) -> None:
        self.config = config
        self._ctx: Context | None = None
        self._titles: list[str] = []
        self._retrieval: Any = None
        self._reader: _Reader | None = None

    def connect(self, ctx: Context) -> None:
        self._ctx = ctx

    def fit(self, data: TrainingData, ctx: Context) -> None:
        if "title" not in data.items.column_names:
            raise StageError(
                f"stage {ctx.stage}: llm_only reads titles, and the items have no column title",
                hint="Name the column of titles in the data block, or use another recommender.",
            )
        self._ctx = ctx
        self._use(titles_of(data.items))
        self._retrieval = as_recommender(ctx.component(self.config.retrieval))
        self._retrieval.fit(data, ctx.part("retrieval"))
        untitled = self._titles.count("")
        if untitled:
            ctx.log(f"{untitled:,} of {len(self._titles):,} items have no title: ranked last")

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        if candidates is not None:
            return self._scores(histories, list(candidates))
        n_items = len(self._titles)
        if self.config.rerank >= n_items:
            everything = np.arange(n_items, dtype=np.int32)
            return self._scores(histories, [everything] * len(histories))
        return self._reranked(histories)

    def get_state(self) -> State:
        if self._retrieval is None:
            return {}
        under = self._retrieval.get_state()
        return {
            **pack_titles(self._titles),
            **{f"{RETRIEVAL}{name}": values for name, values in under.items()},
        }

    def load_state(self, state: State) -> None:
        self._use(unpack_titles(state))
        if not self._titles:
            self._retrieval = None
            return
        self._retrieval = as_recommender(self._context().component(self.config.retrieval))
        self._retrieval.load_state(
            {k.removeprefix(RETRIEVAL): v for k, v in state.items() if k.startswith(RETRIEVAL)}
        )

    def _use(self, titles: list[str]) -> None:
        self._titles = titles
        self._reader = None

    def _context(self) -> Context:
        if self._ctx is None:
            raise StageError(
                "LLMOnly does not know where its language model is",
                hint="Call connect(ctx) or fit first.",
            )
        return self._ctx

    def _scores(self, histories: Histories, candidates: Sequence[IntArray]) -> FloatArray:
        """Scores each user's candidates, ``(batch, C)``."""
        if not self._titles:
            raise StageError("LLMOnly is not fitted", hint="Call fit or load_state first.")
        if self._reader is None:
            self._reader = _Reader(self.config, self._titles, self._context())
        return self._reader.scores(histories, candidates)

    def _reranked(self, histories: Histories) -> FloatArray:
        """Scores the catalogue: the best of retrieval by the language model, above all others.

        What a user has is not retrieved: it is not asked for, and would take a place.
        """
        if self._retrieval is None:
            raise StageError("LLMOnly is not fitted", hint="Call fit or load_state first.")
        with torch.no_grad():
            base = as_tensor(self._retrieval.score(histories)).double().cpu().numpy()
        top = best_unknown(base, histories, self.config.rerank)
        found = self._scores(histories, list(top))
        # Scores of retrieval go below 0 … 1, where those of the language model are.
        return ranked_above(base, top, np.exp(found.astype(np.float64)), floor=-1)


class _Reader:
    """The language model, the titles' tokens, and what all prompts begin with, read once."""

    def __init__(self, config: LLMOnlyConfig, titles: Sequence[str], ctx: Context) -> None:
        self.config, self.ctx = config, ctx
        self.llm: LanguageModel = ctx.component(config.llm)
        self.writer = PromptWriter(config.template, self.llm)
        self.head: Prefix | None = read_head(self.llm, self.writer.head)
        self.tokens = [self.writer.title(title) for title in titles]
        self.answers = [self.writer.answer(tokens) if tokens else () for tokens in self.tokens]
        self.longest = max(map(len, self.answers), default=0)

    def scores(self, histories: Histories, candidates: Sequence[IntArray]) -> FloatArray:
        """Scores each user's candidates, ``(batch, C)``."""
        newest = histories.last(self.config.history)
        prompts = [
            self.writer.write(
                history=[Entry(self.tokens[item]) for item in newest[row]], reserve=self.longest
            )
            for row in range(len(histories))
        ]
        self.writer.tell(self.ctx.log)
        asked = [[int(item) for item in row if self.answers[item]] for row in candidates]
        found = log_prob(
            self.llm,
            prompts,
            [[self.answers[item] for item in row] for row in asked],
            head=self.head,
            max_tokens=self.config.max_tokens,
            log=self.ctx.log,
            progress=self.ctx.progress if len(histories) >= SHOWN else None,
        )
        width = max(map(len, candidates), default=0)
        out = np.full((len(histories), width), UNTITLED, dtype=np.float32)
        for row, items in enumerate(candidates):
            titled = np.array([bool(self.answers[item]) for item in items], dtype=bool)
            out[row, np.flatnonzero(titled)] = found[row]
        return out
