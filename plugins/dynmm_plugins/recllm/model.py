"""RecLLM's ranker: each item is graded by a user's profile in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.evaluation.scoring import as_tensor
from dynmm_framework.language.continuations import next_logits
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.retrieval import best_unknown, ranked_above
from dynmm_framework.language.scoring import read_head
from dynmm_framework.language.titles import pack_titles, titles_of, unpack_titles
from dynmm_framework.protocols import Context, FloatArray, IntArray, LanguageModel, State
from dynmm_plugins.recllm.config import RecLLMConfig
from dynmm_plugins.recllm.profile import Writer

UNTITLED = -1.0
"""Score of an item without a title, below that of any title."""
KINDS, RETRIEVAL = "kinds/", "retrieval/"
DEFAULT_COLUMNS = ("categories", "genres")
BETWEEN = "\x1f"
"""Stands between an item's kinds where they are stored."""


class RecLLM:
    """A frozen language model grades each item by a profile of the user in words.

    The ranker of RecLLM (Friedman et al., 2023, arXiv 2305.07961) as far as it can be had without
    its data: one item at a time is matched with what is known of the user, in words. The profile
    is made by templates from the history, of the kinds that a user has most of and the newest
    titles; an item is its title and its kinds. The score is the mean grade by the probabilities of
    the answers, never parsed from text.

    Left out, as model, conversations and human labels of the paper are not public: the dialogue
    and its management, the retrieval that is tuned with it, the simulated users, the tuning of
    ranker and profiles, and the explanation that its model writes with a grade (``explain`` of a
    pipeline gives explanations, from evidence).

    A user costs a pass over the profile, and one over the candidates, side by side.
    """

    def __init__(self, config: RecLLMConfig) -> None:
        self.config = config
        self._ctx: Context | None = None
        self._titles: list[str] = []
        self._kinds: list[list[str]] = []
        self._retrieval: Any = None
        self._reader: _Reader | None = None

    def connect(self, ctx: Context) -> None:
        self._ctx = ctx

    def fit(self, data: TrainingData, ctx: Context) -> None:
        titles = titles_of(data.items)
        if not any(titles):
            raise StageError(
                f"stage {ctx.stage}: recllm reads titles, and no item has one",
                hint="Name the column of titles in the data block, or use another recommender.",
            )
        self._ctx, self._reader = ctx, None
        self._titles, self._kinds = titles, kinds_of(data.items, self.config.columns, ctx.stage)
        if not any(self._kinds):
            ctx.log("no item has a kind: profiles are titles alone")
        self._retrieval = as_recommender(ctx.component(self.config.retrieval))
        self._retrieval.fit(data, ctx.part("retrieval"))

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        if self._retrieval is None:
            raise StageError("RecLLM is not fitted", hint="Call fit or load_state first.")
        if candidates is not None:
            return self._grades(histories, list(candidates))
        n_items = len(self._titles)
        if self.config.rerank >= n_items:
            everything = np.arange(n_items, dtype=np.int32)
            return self._grades(histories, [everything] * len(histories))
        with torch.no_grad():
            base = as_tensor(self._retrieval.score(histories)).double().cpu().numpy()
        top = best_unknown(base, histories, self.config.rerank)
        return ranked_above(base, top, self._grades(histories, list(top)), floor=UNTITLED - 1)

    def get_state(self) -> State:
        if self._retrieval is None:
            return {}
        under = self._retrieval.get_state()
        kinds = pack_titles([BETWEEN.join(own) for own in self._kinds])
        return {
            **pack_titles(self._titles),
            **{f"{KINDS}{name}": values for name, values in kinds.items()},
            **{f"{RETRIEVAL}{name}": values for name, values in under.items()},
        }

    def load_state(self, state: State) -> None:
        self._reader = self._retrieval = None
        self._titles = unpack_titles(state)
        if not self._titles:
            return
        stored = unpack_titles(_under(state, KINDS))
        self._kinds = [own.split(BETWEEN) if own else [] for own in stored]
        self._retrieval = as_recommender(self._context().component(self.config.retrieval))
        self._retrieval.load_state(_under(state, RETRIEVAL))

    def profile(self, history: IntArray) -> str:
        """Returns what the language model is told of a user, in words."""
        reader = self._read()
        return str(reader.llm.tokenizer.decode(list(reader.writer.profile(history, reserve=0))))

    def _grades(self, histories: Histories, candidates: Sequence[IntArray]) -> FloatArray:
        return self._read().grades(histories, candidates)

    def _read(self) -> _Reader:
        if self._reader is None:
            self._reader = _Reader(self.config, self._titles, self._kinds, self._context())
        return self._reader

    def _context(self) -> Context:
        if self._ctx is None:
            raise StageError(
                "RecLLM does not know where its language model is",
                hint="Call connect(ctx) or fit first.",
            )
        return self._ctx


class _Reader:
    """The language model, its writer, and what all prompts begin with, read once."""

    def __init__(
        self,
        config: RecLLMConfig,
        titles: Sequence[str],
        kinds: Sequence[Sequence[str]],
        ctx: Context,
    ) -> None:
        self.config, self.ctx = config, ctx
        self.llm: LanguageModel = ctx.component(config.llm)
        self.writer = Writer(config, titles, kinds, self.llm)
        self.head: Prefix | None = read_head(self.llm, self.writer.head)

    def grades(self, histories: Histories, candidates: Sequence[IntArray]) -> FloatArray:
        """Returns the mean grade of each candidate, 0 … 1, ``(batch, C)``."""
        writer = self.writer
        asked = [[int(item) for item in row if writer.titled(item)] for row in candidates]
        questions = {item: writer.question(item) for row in asked for item in row}
        reserve = max(map(len, questions.values()), default=0)
        profiles = [
            writer.profile(histories[row], reserve=reserve) for row in range(len(histories))
        ]
        if writer.cut:
            self.ctx.log(f"{writer.cut:,} of {writer.written:,} profiles lost their oldest titles")
            writer.cut = writer.written = 0
        found = next_logits(
            self.llm,
            profiles,
            [[questions[item] for item in row] for row in asked],
            writer.grades,
            head=self.head,
            max_tokens=self.config.max_tokens,
            log=self.ctx.log,
        )
        worth = np.linspace(0, 1, len(writer.grades))
        width = max(map(len, candidates), default=0)
        out = np.full((len(histories), width), UNTITLED, dtype=np.float32)
        for row, items in enumerate(candidates):
            titled = np.array([writer.titled(item) for item in items], dtype=bool)
            logits = found[row].astype(np.float64)
            chances = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
            shares = chances / chances.sum(axis=1, keepdims=True)
            out[row, np.flatnonzero(titled)] = shares @ worth
        return out


def kinds_of(items: pa.Table, columns: Sequence[str], stage: str) -> list[list[str]]:
    """Returns what each item is: the values of columns, each once, in their order.

    Args:
        items: The item table.
        columns: Columns with a text or a list of texts; the usual ones that are there if empty.
        stage: Named in the error.

    Raises:
        StageError: If a column that is named is not there.
    """
    missing = [name for name in columns if name not in items.column_names]
    if missing:
        raise StageError(
            f"stage {stage}: recllm finds no column {', '.join(map(repr, missing))} in the items",
            hint=f"They have {', '.join(items.column_names)}.",
        )
    usual = [name for name in DEFAULT_COLUMNS if name in items.column_names]
    found: list[list[str]] = [[] for _ in range(len(items))]
    for name in columns or usual:
        for own, value in zip(found, items[name].to_pylist(), strict=True):
            values = value if isinstance(value, list) else [value]
            own += [str(word).replace(BETWEEN, " ") for word in values if word]
    return [list(dict.fromkeys(own)) for own in found]


def _under(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
