"""TALLRec: a language model that says whether a user will like an item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dynmm_framework.data.judgements import Judgements, asked_judgements, judged
from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.evaluation.scoring import as_tensor
from dynmm_framework.language.lora import AdaptedLM, read_adapter
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.retrieval import best_unknown, ranked_above
from dynmm_framework.language.scoring import read_head
from dynmm_framework.language.titles import pack_titles, titles_of, unpack_titles
from dynmm_framework.protocols import Context, FloatArray, IntArray, State
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.tallrec.config import TALLRecConfig
from dynmm_plugins.tallrec.prompts import Writer
from dynmm_plugins.tallrec.reading import judge_items
from dynmm_plugins.tallrec.task import AnswerTask, AUCValidator

RETRIEVAL, ADAPTER = "retrieval/", "adapter/"


class TALLRec:
    """Low-rank adapters of a frozen language model learn to answer Yes or No (Bao et al., 2023).

    A prompt names what a user liked and what not, and asks for one item; the score is
    P(Yes) / (P(Yes) + P(No)) of the answer's first token, so one pass over a prompt gives it, and
    several items of one user share the pass over what they have in common. The language model
    that others use stays as it is: the adapters sit on modules of their own
    (:class:`~dynmm_framework.language.lora.AdaptedLM`).

    Differences from the paper's code: the loss is that of the answer's tokens, not of the whole
    text; no warm-up; the rate is constant. Where nobody rated a history, all of it counts as
    liked. Where no example has a history that is long enough, the language model is asked as it
    is.
    """

    def __init__(self, config: TALLRecConfig) -> None:
        self.config = config
        self._ctx: Context | None = None
        self._titles: list[str] = []
        self._retrieval: Any = None
        self._adapter: State | None = None
        self._reader: _Reader | None = None

    def connect(self, ctx: Context) -> None:
        self._ctx = ctx

    def fit(self, data: TrainingData, ctx: Context) -> None:
        config = self.config
        self._ctx, self._reader = ctx, None
        titles = titles_of(data.items)
        if not any(titles):
            raise StageError(
                f"stage {ctx.stage}: tallrec reads titles, and no item has one",
                hint="Name the column of titles in the data block, or use another recommender.",
            )
        if data.train.ratings is None and config.adapter is None and config.examples != 0:
            raise StageError(
                f"stage {ctx.stage}: tallrec learns what users liked and what they did not, and "
                "this data has no ratings",
                hint="Name the column of ratings in the data block, give a trained adapter, or use "
                "another recommender, such as llm_only.",
            )
        llm = self._adapted(ctx)
        writer = Writer(config.template, titles, llm)
        if config.adapter is not None:
            read_adapter(config.adapter, llm, ctx)
        else:
            self._learn(llm, writer, data, ctx)
        self._titles, self._adapter = titles, llm.adapter_state()
        self._reader = _Reader(config, writer, llm, ctx)
        self._retrieval = as_recommender(ctx.component(config.retrieval))
        self._retrieval.fit(data, ctx.part("retrieval"))

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        if candidates is not None:
            return self._open().scores(histories, list(candidates))
        n_items = len(self._titles)
        if self.config.rerank >= n_items > 0:
            everything = np.arange(n_items, dtype=np.int32)
            return self._open().scores(histories, [everything] * len(histories))
        return self._reranked(histories)

    def get_state(self) -> State:
        if self._adapter is None:
            return {}
        return {
            **pack_titles(self._titles),
            **{f"{RETRIEVAL}{name}": v for name, v in self._retrieval.get_state().items()},
            **{f"{ADAPTER}{name}": array for name, array in self._adapter.items()},
        }

    def load_state(self, state: State) -> None:
        self._reader = None
        self._titles = unpack_titles(state)
        self._adapter = _under(state, ADAPTER) if self._titles else None
        if self._titles:
            self._retrieval = as_recommender(self._context().component(self.config.retrieval))
            self._retrieval.load_state(_under(state, RETRIEVAL))

    def _adapted(self, ctx: Context) -> AdaptedLM:
        config = self.config
        with seeded(ctx, "adapter"):
            model = AdaptedLM(
                ctx.component(config.llm),
                rank=config.rank,
                alpha=config.alpha,
                dropout=config.dropout,
                targets=config.layers,
            )
        model.adapters.to(ctx.device)
        return model

    def _learn(self, llm: AdaptedLM, writer: Writer, data: TrainingData, ctx: Context) -> None:
        config = self.config
        if config.examples == 0:
            return
        every = judged(data.histories, config.min_history, liked_above=config.liked_above)
        examples = _titled(_drawn(every, config.examples, ctx, "examples"), writer)
        if not len(examples):
            ctx.log(
                f"no interaction comes after {config.min_history} others of its user "
                "(min_history): the language model is asked as it is"
            )
            return
        ctx.log(
            f"{len(examples):,} of {len(every):,} examples, {int(examples.liked.sum()):,} liked"
        )
        task = AnswerTask(llm, writer, examples, config)
        if writer.cut:
            ctx.log(f"{writer.cut:,} of {writer.written:,} prompts lost their oldest titles")
        validator = self._validator(task, writer, ctx)
        train(task, config, ctx, validator=validator, validate=validator is not None)

    def _validator(self, task: AnswerTask, writer: Writer, ctx: Context) -> AUCValidator | None:
        """Returns what stops the training; nothing if there is nothing to tell apart."""
        config = self.config
        if ctx.validator is None:
            return None
        evaluation = ctx.validator.evaluation
        if evaluation.targets.ratings is None or evaluation.histories.ratings is None:
            return None
        every = asked_judgements(evaluation, liked_above=config.liked_above)
        chosen = _titled(_drawn(every, config.validation, ctx, "validation"), writer)
        if chosen.liked.all() or not chosen.liked.any():
            ctx.log("all validation judgements are alike: no early stopping")
            return None
        return AUCValidator(task, chosen, evaluation)

    def _context(self) -> Context:
        if self._ctx is None:
            raise StageError(
                "TALLRec does not know where its language model is",
                hint="Call connect(ctx) or fit first.",
            )
        return self._ctx

    def _open(self) -> _Reader:
        if self._adapter is None:
            raise StageError("TALLRec is not fitted", hint="Call fit or load_state first.")
        if self._reader is None:
            ctx = self._context()
            llm = self._adapted(ctx)
            llm.load_adapter_state(self._adapter)
            writer = Writer(self.config.template, self._titles, llm)
            self._reader = _Reader(self.config, writer, llm, ctx)
        return self._reader

    def _reranked(self, histories: Histories) -> FloatArray:
        """Scores the catalogue: the best of retrieval by the language model, above all others."""
        reader = self._open()
        with torch.no_grad():
            base = as_tensor(self._retrieval.score(histories)).double().cpu().numpy()
        top = best_unknown(base, histories, self.config.rerank)
        found = reader.scores(histories, list(top))
        return ranked_above(base, top, found, floor=-2.0)  # those read are 0 … 1, or -1 untitled


class _Reader:
    """The adapted model and what all prompts begin with, read once."""

    def __init__(self, config: TALLRecConfig, writer: Writer, llm: AdaptedLM, ctx: Context) -> None:
        self.config, self.writer, self.llm, self.ctx = config, writer, llm, ctx
        self.head: Prefix | None = read_head(llm, writer.head)

    def scores(self, histories: Histories, candidates: Sequence[IntArray]) -> FloatArray:
        """Scores each user's candidates, ``(batch, C)``."""
        return judge_items(
            self.llm,
            self.writer,
            self.config,
            histories,
            candidates,
            head=self.head,
            log=self.ctx.log,
        )


def _drawn(every: Judgements, number: int | None, ctx: Context, name: str) -> Judgements:
    if number is None or number >= len(every):
        return every
    return every.take(np.sort(ctx.rng(name).choice(len(every), number, replace=False)))


def _titled(judgements: Judgements, writer: Writer) -> Judgements:
    titled = np.array([writer.titled(item) for item in judgements.items], dtype=bool)
    return judgements if titled.all() else judgements.take(titled)


def _under(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
