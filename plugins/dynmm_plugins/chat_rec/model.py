"""Chat-REC: a chat model orders what a recommender found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.evaluation.scoring import as_tensor
from dynmm_framework.language.chat import as_chat_model
from dynmm_framework.language.conversation import ChatModel, Message
from dynmm_framework.language.retrieval import best_unknown, ranked_above
from dynmm_framework.language.titles import pack_titles, titles_of, unpack_titles
from dynmm_framework.language.tokens import clean
from dynmm_framework.protocols import Context, FloatArray, IntArray, State
from dynmm_plugins.chat_rec.config import ChatRecConfig
from dynmm_plugins.chat_rec.parsing import parse, reordered

RETRIEVAL = "retrieval/"


class ChatRec:
    """A user's profile and the best items of a recommender go to a chat model, which orders them.

    Chat-REC (Gao et al., 2023, arXiv 2303.14524), its part that ranks; the dialogue with a user,
    the explanations, and new items by similarity of their descriptions are left out. Only items
    that the recommender found can come back, in whatever order: what the answer makes up is
    dropped and counted, and what it leaves out keeps its place. An instruction in a title may at
    worst change the order, as any word of it may.

    The order is of the recommender's best for the whole catalogue, so an item has one score,
    whatever other candidates are asked for; items below them keep the recommender's order.

    A user costs one question.
    """

    def __init__(self, config: ChatRecConfig) -> None:
        self.config = config
        self._ctx: Context | None = None
        self._titles: list[str] = []
        self._retrieval: Any = None
        self._chat: ChatModel | None = None

    def connect(self, ctx: Context) -> None:
        self._ctx = ctx

    def fit(self, data: TrainingData, ctx: Context) -> None:
        titles = titles_of(data.items)
        if not any(titles):
            raise StageError(
                f"stage {ctx.stage}: chat_rec reads titles, and no item has one",
                hint="Name the column of titles in the data block, or use another recommender.",
            )
        self._ctx, self._chat, self._titles = ctx, None, titles
        self._retrieval = as_recommender(ctx.component(self.config.retrieval))
        self._retrieval.fit(data, ctx.part("retrieval"))

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        if self._retrieval is None:
            raise StageError("ChatRec is not fitted", hint="Call fit or load_state first.")
        base = as_tensor(self._retrieval.score(histories)).double().cpu().numpy()
        top = best_unknown(base, histories, self.config.candidates)
        ranked = self._ordered(histories, top)
        places = np.broadcast_to(1 - np.arange(top.shape[1]) / top.shape[1], top.shape)
        scores = ranked_above(base, ranked, places, floor=-1.0)
        found = scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)
        return found

    def get_state(self) -> State:
        if self._retrieval is None:
            return {}
        state = {f"{RETRIEVAL}{name}": v for name, v in self._retrieval.get_state().items()}
        return {**state, **pack_titles(self._titles)}

    def load_state(self, state: State) -> None:
        self._titles = unpack_titles(state)
        self._retrieval = None
        if self._titles:
            self._retrieval = as_recommender(self._context().component(self.config.retrieval))
            self._retrieval.load_state(
                {k.removeprefix(RETRIEVAL): v for k, v in state.items() if k.startswith(RETRIEVAL)}
            )

    def _context(self) -> Context:
        if self._ctx is None:
            raise StageError(
                "ChatRec does not know where its chat model is",
                hint="Call connect(ctx) or fit first.",
            )
        return self._ctx

    def _ordered(self, histories: Histories, top: IntArray) -> IntArray:
        """Returns each row of ``top`` in the order of the chat model's answer."""
        ctx = self._context()
        if self._chat is None:
            self._chat = as_chat_model(ctx.component(self.config.llm), log=ctx.log)
        asked = [[int(item) for item in row if self._title(int(item))] for row in top]
        rows = [row for row, items in enumerate(asked) if len(items) > 1]
        newest = histories.last(self.config.history)
        questions = [self._question(newest[row], asked[row], self._chat) for row in rows]
        answers = self._chat.complete(questions, max_new_tokens=self.config.max_new_tokens)
        out = top.copy()
        unknown = left_out = unread = cut = 0
        for row, answer in zip(rows, answers, strict=True):
            items = asked[row]
            found = parse(answer.text, [self._title(item) for item in items], cut=answer.cut)
            unknown += found.unknown
            left_out += len(items) - len(found.order)
            unread += not found.order
            cut += answer.cut
            # Items without a title were not asked for; they keep their place.
            places = np.flatnonzero(np.isin(out[row], items))
            out[row, places] = np.array(items)[reordered(len(items), found.order)]
        if len(rows) > 1 and (unknown or left_out or cut):
            ctx.log(
                f"{len(rows):,} answers: {unknown:,} lines named no candidate and were dropped, "
                f"{left_out:,} candidates were left out and kept their place, {unread:,} answers "
                f"named none, {cut:,} answers were cut off at max_new_tokens"
            )
        return out

    def _question(
        self, history: IntArray, items: Sequence[int], chat: ChatModel
    ) -> tuple[Message, ...]:
        """Returns what is asked, without the oldest items of the history if it is too long.

        Raises:
            StageError: If it does not fit without any history either.
        """
        words = self.config.template
        known = [title for title in (self._title(int(item)) for item in history) if title]
        numbered = [f"{place}. {self._title(item)}" for place, item in enumerate(items, start=1)]
        while True:
            profile = [words.history, "<titles>", *known, "</titles>"] if known else []
            lines = [*profile, words.candidates, "<titles>", *numbered, "</titles>", words.task]
            asked = (Message("system", words.system), Message("user", "\n".join(lines)))
            if chat.fits(asked, max_new_tokens=self.config.max_new_tokens):
                return asked
            if not known:
                raise StageError(
                    f"a question with {len(items)} candidates and no history, and an answer of "
                    f"{self.config.max_new_tokens} tokens, do not fit into the model's context",
                    hint="Lower candidates, title_characters or max_new_tokens, or choose a model "
                    "with a longer context.",
                )
            known = known[1:]

    def _title(self, item: int) -> str:
        """Returns a title as one line that can close no marker."""
        return clean(self._titles[item])[: self.config.title_characters].strip()
