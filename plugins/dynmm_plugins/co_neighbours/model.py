"""Items chosen by the same people, as a sparse dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.language.titles import pack_titles, titles_of, unpack_titles
from dynmm_framework.latents.inputs import as_array
from dynmm_plugins.co_neighbours.config import CoNeighboursConfig

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, Retriever, State

BLOCK_ITEMS = 1024
"""Items whose counts with all others are in memory at once."""


class CoNeighbours:
    """Cites items of the user's own history that the same people chose as the recommended one.

    The dictionary holds, of each item, those chosen together with it most: the number of people who
    chose both over the root of the product of the numbers who chose either (a cosine), counted in
    training. Pairs of fewer than ``least`` people are not kept, so none is told of. For a user the
    cosine is multiplied by ``decay`` for every item chosen since, and the ``k`` best are cited;
    an item that is in the history more than once counts where it is newest.

    Where an alignment or a backbone recommends by vectors, ``cf_neighbours`` says what lies near in
    these vectors; this says what people did, which a backbone of sequences need not hold.

    A training example is asked about without itself (``extract_without_own``): where a user's own
    choice is among the numbers, it is taken out of them, exactly, but that the dictionary's
    ``neighbours`` stay those that they were with it.

    Complexity: learning takes Σ_u |history_u|² and memory for a block of counts; a user with C
    candidates takes C · neighbours. Memory is 8 · neighbours + 4 bytes an item besides its title.

    Args:
        config: Settings.
    """

    def __init__(self, config: CoNeighboursConfig) -> None:
        self.config = config
        self._offsets = np.zeros(1, np.int64)
        self._items = np.empty(0, np.int32)
        self._cosines = np.empty(0, np.float32)
        self._people = np.empty(0, np.int32)
        self._titles: list[str] = []
        self._vectors: FloatArray | None = None

    def fit(self, data: TrainingData, base: Retriever, ctx: Context) -> None:
        self._titles = titles_of(data.items)
        train = data.train
        chosen = sp.csr_matrix(
            (np.ones(len(train), np.float32), (train.users, train.items)),
            shape=(train.n_users, data.n_items),
        )
        chosen.data[:] = 1  # the constructor has added repeated choices up
        by_item = chosen.T.tocsr()  # (n_items, n_users)
        self._people = np.diff(by_item.indptr).astype(np.int32)
        norms = np.sqrt(np.maximum(self._people, 1)).astype(np.float32)
        lengths, items, cosines = [], [], []
        with ctx.progress("items chosen together", data.n_items) as advance:
            for start in range(0, data.n_items, BLOCK_ITEMS):
                counts = (by_item[start : start + BLOCK_ITEMS] @ chosen).tocoo()
                kept = (counts.data >= self.config.least) & (counts.row + start != counts.col)
                row, item = counts.row[kept], counts.col[kept].astype(np.int32)
                cosine = counts.data[kept] / (norms[row + start] * norms[item])
                order = np.lexsort((item, -cosine, row))
                row, item, cosine = row[order], item[order], cosine[order]
                ends = np.searchsorted(row, np.arange(counts.shape[0] + 1))
                best = np.arange(len(row)) - ends[row] < self.config.neighbours
                lengths.append(np.bincount(row[best], minlength=counts.shape[0]))
                items.append(item[best])
                cosines.append(cosine[best].astype(np.float32))
                advance(counts.shape[0])
        found = np.concatenate(lengths)
        self._offsets = np.concatenate([[0], np.cumsum(found)]).astype(np.int64)
        self._items, self._cosines = np.concatenate(items), np.concatenate(cosines)
        alone = int((found == 0).sum())
        ctx.record("evidence", {"items": data.n_items, "without_neighbours": alone})
        self.attach(base)

    # Looking up.

    def attach(self, base: Retriever) -> None:
        vectors = as_array(base.item_vectors())
        if len(vectors) != len(self._offsets) - 1:
            raise StageError(
                f"co_neighbours knows {len(self._offsets) - 1:,} items and is put on "
                f"{len(vectors):,}",
                hint="Call fit or load_state first, with the same items.",
            )
        self._vectors = vectors

    def extract(self, histories: Histories, candidates: IntArray) -> EvidenceTable:
        return self._extract(histories, candidates, np.zeros(candidates.shape, np.bool_))

    def extract_without_own(
        self, histories: Histories, candidates: IntArray, own: NDArray[np.bool_]
    ) -> EvidenceTable:
        self._ready()
        if len(self._people) != len(self._offsets) - 1:
            raise StageError(
                "co_neighbours was stored by a version that did not keep how many people chose"
                " each item, so it cannot leave anybody out",
                hint="Train it again.",
            )
        return self._extract(histories, candidates, own)

    def _extract(
        self, histories: Histories, candidates: IntArray, without: NDArray[np.bool_]
    ) -> EvidenceTable:
        self._ready()
        age = np.full(len(self._offsets) - 1, -1, np.int64)
        newest = histories.last(self.config.history)
        parts = []
        for row in range(len(histories)):
            own = newest[row]
            age[own] = np.arange(len(own))[::-1]  # of an item's places the newest counts
            asked = candidates[row].astype(np.int64)
            parts.append(self._of_user(asked, age, row, without[row]))
            age[own] = -1
        if not parts:
            return EvidenceTable.empty()
        rows, columns, items, scores = (np.concatenate(p) for p in zip(*parts, strict=True))
        return EvidenceTable.of(rows, columns, items, scores, np.ones(len(rows)))

    def _of_user(
        self,
        asked: NDArray[np.int64],
        age: NDArray[np.int64],
        row: int,
        without: NDArray[np.bool_],
    ) -> tuple[NDArray[np.generic], ...]:
        """Returns rows, columns, cited items and scores of one user's candidates."""
        known = np.flatnonzero(asked >= 0)
        starts = self._offsets[asked[known]]
        sizes = self._offsets[asked[known] + 1] - starts
        columns = np.repeat(known, sizes)
        within = np.arange(len(columns)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        places = np.repeat(starts, sizes) + within
        mine = age[self._items[places]] >= 0
        columns, places = columns[mine], places[mine]
        items, cosines = self._items[places], self._cosines[places]
        if without[columns].any():
            cosines = self._less_one(cosines, asked[columns], items, without[columns])
            told = cosines > 0
            columns, items, cosines = columns[told], items[told], cosines[told]
        scores = cosines * self.config.decay ** age[items]
        order = np.lexsort((items, -scores, columns))
        columns, items, scores = columns[order], items[order], scores[order]
        first = np.searchsorted(columns, columns)
        best = np.arange(len(columns)) - first < self.config.k
        columns = columns[best]
        return np.full(len(columns), row), columns, items[best], scores[best].clip(0, 1)

    def _less_one(
        self,
        cosines: FloatArray,
        asked: NDArray[np.int64],
        cited: IntArray,
        without: NDArray[np.bool_],
    ) -> FloatArray:
        """Returns the cosines had one of those who chose both not chosen the item asked about.

        Where then fewer than ``least`` chose both it is 0.
        """
        people = self._people[asked].astype(np.float64)
        others = self._people[cited].astype(np.float64)
        both = np.rint(cosines * np.sqrt(people * others)) - 1
        less = both / np.sqrt(np.maximum(people - 1, 1) * others)
        less[both < self.config.least] = 0
        out: FloatArray = np.where(without, less, cosines).astype(np.float32)
        return out

    def facts(self, references: IntArray) -> Sequence[Fact]:
        return [
            Fact("neighbour", name=self._titles[item], item=item, source="interactions")
            for item in references.tolist()
        ]

    def vectors(self, references: IntArray) -> FloatArray:
        vectors = self._ready()
        found: FloatArray = vectors[references]
        return found

    # State.

    def get_state(self) -> State:
        if not self._titles:
            return {}
        return {
            "offsets": self._offsets,
            "items": self._items,
            "cosines": self._cosines,
            "people": self._people,
            **pack_titles(self._titles),
        }

    def load_state(self, state: State) -> None:
        self._vectors = None
        if not state:
            return
        self._offsets = np.asarray(state["offsets"])
        self._items = np.asarray(state["items"])
        self._cosines = np.asarray(state["cosines"])
        self._people = np.asarray(state.get("people", np.empty(0, np.int32)))
        self._titles = unpack_titles(state)

    def _ready(self) -> FloatArray:
        if self._vectors is None:
            raise StageError(
                "co_neighbours is attached to nothing",
                hint="Call fit, or load_state and attach, first.",
            )
        return self._vectors
