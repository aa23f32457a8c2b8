"""How likely TALLRec's language model is to answer with Yes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.continuations import next_logits
from dynmm_framework.language.prefix import Prefix
from dynmm_framework.language.scoring import read_head
from dynmm_framework.protocols import FloatArray, IntArray, LanguageModel
from dynmm_plugins.tallrec.config import TALLRecConfig
from dynmm_plugins.tallrec.prompts import Writer

UNTITLED = -1.0
"""Score of an item without a title, below that of any title."""


def judge_items(
    llm: LanguageModel,
    writer: Writer,
    config: TALLRecConfig,
    histories: Histories,
    candidates: Sequence[IntArray],
    *,
    head: Prefix | None = None,
    log: Callable[[str], None] | None = None,
) -> FloatArray:
    """Returns P(Yes) / (P(Yes) + P(No)) of each candidate of each user, ``(batch, C)``.

    Args:
        llm: The language model, adapted or not.
        writer: Writes prompts.
        config: Settings.
        histories: The users.
        candidates: As many items for each.
        head: What all prompts begin with; read anew if ``None``.
        log: Told when memory runs out.
    """
    newest = histories.last(config.history)
    liked = liked_of(newest, config.liked_above)
    asked = [[int(item) for item in row if writer.titled(item)] for row in candidates]
    texts = {item: writer.continuation(item) for row in asked for item in row}
    reserve = max(map(len, texts.values()), default=0) + writer.answers.longest
    prompts = [
        writer.prompt(
            newest[row], liked[newest.offsets[row] : newest.offsets[row + 1]], reserve=reserve
        )
        for row in range(len(newest))
    ]
    wanted = (writer.answers.yes[0], writer.answers.no[0])
    found = next_logits(
        llm,
        prompts,
        [[texts[item] for item in row] for row in asked],
        wanted,
        head=head or read_head(llm, writer.head),
        max_tokens=config.max_tokens,
        log=log,
    )
    width = max(map(len, candidates), default=0)
    out = np.full((len(histories), width), UNTITLED, dtype=np.float32)
    for row, items in enumerate(candidates):
        titled = np.array([writer.titled(item) for item in items], dtype=bool)
        margin = found[row][:, 0].astype(np.float64) - found[row][:, 1]
        out[row, np.flatnonzero(titled)] = 1 / (1 + np.exp(-margin))
    return out


def liked_of(histories: Histories, above: float) -> NDArray[np.bool_]:
    """Tells which items of histories were liked; all that were chosen if nobody rated them."""
    if histories.ratings is None:
        return np.ones(len(histories.items), np.bool_)
    return histories.ratings > above
