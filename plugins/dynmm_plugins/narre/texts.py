"""Reviews as numbers: words, and which reviews are whose."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.data.tables import Interactions
from dynmm_plugins.narre.config import NARREConfig

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
FIRST = 2
"""Number of the first known word: 0 is none, 1 an unknown one."""


@dataclass(frozen=True, eq=False)
class Reviews:
    """Reviews of the training interactions; row 0 is none.

    Attributes:
        rows: The interaction of each, ``(n,)``; -1 for none.
        words: Numbers of the words, 0 after the end, ``(n, words)``.
        users: Who wrote each, ``(n,)``; -1 for none.
        items: What it is about, ``(n,)``; -1 for none.
        of_user: The newest reviews of each user, 0 where fewer, ``(n_users, reviews)``.
        of_item: Those of each item, ``(n_items, reviews)``.
        n_words: Numbers in use.
    """

    rows: NDArray[np.int64]
    words: NDArray[np.int64]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    of_user: NDArray[np.int64]
    of_item: NDArray[np.int64]
    n_words: int


def read_reviews(train: Interactions, texts: pa.Array, config: NARREConfig) -> Reviews:
    """Turns reviews into numbers.

    Args:
        train: Training interactions.
        texts: What was written with each, null for nothing.
        config: How many words and reviews count.
    """
    split = [_WORD.findall((text or "").lower()) for text in texts.to_pylist()]
    written = np.array([row for row, words in enumerate(split) if words], np.int64)
    documents = Counter(word for words in split for word in dict.fromkeys(words))
    known = [word for word, n in documents.most_common() if n >= config.least_reviews]
    numbers = {word: n for n, word in enumerate(known[: config.vocabulary], start=FIRST)}
    tokens = np.zeros((1 + len(written), config.words), np.int64)
    for place, row in enumerate(written, start=1):
        found = [numbers.get(word, 1) for word in split[row][: config.words]]
        tokens[place, : len(found)] = found
    none = np.array([-1])
    users = np.concatenate([none, train.users[written]])
    items = np.concatenate([none, train.items[written]])
    when = np.arange(len(train)) if train.timestamps is None else train.timestamps
    age = np.concatenate([none, when[written]])
    return Reviews(
        rows=np.concatenate([none, written]),
        words=tokens,
        users=users.astype(np.int64),
        items=items.astype(np.int64),
        of_user=_newest(users, age, train.n_users, config.reviews),
        of_item=_newest(items, age, train.n_items, config.reviews),
        n_words=FIRST + len(numbers),
    )


def _newest(owners: NDArray[np.int64], age: NDArray[np.int64], n: int, limit: int) -> NDArray:
    """Returns the numbers of each owner's newest reviews, newest first, ``(n, limit)``."""
    order = np.lexsort((-np.arange(len(owners)), -age, owners))
    order = order[owners[order] >= 0]
    counts = np.bincount(owners[order], minlength=n)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = place < limit
    out = np.zeros((n, limit), np.int64)
    out[owners[order[kept]], place[kept]] = order[kept]
    return out
