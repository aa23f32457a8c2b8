"""Counts of choices over groups of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.latents.inputs import as_array
from dynmm_framework.training.folding import distinct_items
from dynmm_plugins.cohort.config import CohortConfig

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, Retriever, State

NAME = "cohort"
ARRAYS = ("centres", "sizes", "offsets", "items", "counts", "vectors")
USERS = 4096
"""Users whose vectors are in memory at once."""


class Cohort:
    """Tells how many people of similar taste chose an item: "37 of 120".

    Training users are put into groups by the direction of their vectors (k-means, about
    ``size`` people each); a user who asks gets the group of the nearest centre. Its numbers are
    told for an item only if at least ``k`` people of the group chose it **and** more than ``k`` did
    not: of an item that all of a group chose, the number would tell what each of them did; one
    more than ``k``, so that ``k`` others remain besides a member who asks. A group of fewer than
    2 ``k`` + 1 people thus says nothing. An item that the user has already is not told of, as its
    own choice is among those counted.

    Nothing here holds a user: the state is the groups' centres, sizes, and counts that pass both
    bounds. What k-anonymity does not bound is the comparison of two dictionaries, made before and
    after one person's choice; ``epsilon`` does.

    With ``epsilon``, every person counts with at most ``contribution`` items, c, drawn at random,
    so that adding or removing one changes the counts of one group by at most c and its size by 1,
    and Laplace noise of scale (c + 1) / ε is added to all of them, zeros included; bounds then look
    at noisy numbers alone, since a look at true ones would tell of them: that at least ``k``
    people are behind a number holds up to the noise. ε covers the numbers, given the groups. It
    covers neither the centres nor the vectors that the groups are made of, which were trained on
    the same people without noise. Noise and drawn items come from the system, not from the seed:
    who knows the seed could take seeded noise away, and two dictionaries of one seed would differ
    by nothing but the person who was added. So no seed gives the same dictionary again; it is kept.

    The score is the share of the group. The vector is the mean latent of the items that the group
    chose, by their counts. Learning takes O(users · groups · d) and, with noise, O(groups · items);
    memory is what is told, 16 bytes each, and O(groups · d). A look-up takes the user's vector and
    O(groups · d + candidates · log items).
    """

    def __init__(self, config: CohortConfig) -> None:
        self.config = config
        self._base: Retriever | None = None
        self._arrays: dict[str, NDArray[Any]] = {}
        self._numbers: NDArray[np.int64] | None = None

    def fit(self, data: TrainingData, base: Retriever, ctx: Context) -> None:
        self.attach(base)
        known = np.flatnonzero(data.histories.lengths > 0)
        if not len(known):
            raise StageError(
                f"stage {ctx.stage}: {NAME} groups people by what they chose, and there are no "
                "training interactions",
                hint="Check the split and data.filters.",
            )
        users = data.histories.take(known)
        units = self._units(users)
        n_groups = max(1, min(len(known), round(len(known) / self.config.size)))
        model = MiniBatchKMeans(
            n_groups,
            batch_size=max(1024, 3 * n_groups),
            n_init=3,
            random_state=int(ctx.rng("groups").integers(2**31)),
        ).fit(units)
        centres = model.cluster_centers_.astype(np.float32)
        groups = _nearest(units, centres)
        sizes = np.bincount(groups, minlength=n_groups).astype(np.float64)
        if self.config.epsilon is None:
            counts = self._counts(users, groups, n_groups)
        else:
            secret = np.random.default_rng()  # of the system: see the class
            counts = self._counts(users, groups, n_groups, secret)
            counts, sizes = self._noisy(counts, sizes, secret, ctx)
        self._numbers = None
        told = self._told(counts, sizes)
        told.sort_indices()
        latents = as_array(base.item_vectors())
        total = np.maximum(np.asarray(told.sum(axis=1)), 1)
        self._arrays = {
            "centres": centres,
            "sizes": np.rint(sizes).astype(np.int32),
            "offsets": told.indptr.astype(np.int64),
            "items": told.indices.astype(np.int32),
            "counts": told.data.astype(np.int32),
            "vectors": ((told @ latents) / total).astype(np.float32),
        }
        ctx.record("evidence", {"groups": n_groups, "told": int(told.nnz)})
        if not told.nnz:
            ctx.log(
                f"no item was chosen by {self.config.k} people of a group and left by more: "
                "nothing is told"
            )

    def attach(self, base: Retriever) -> None:
        self._base = base

    def extract(self, histories: Histories, candidates: IntArray) -> EvidenceTable:
        arrays = self._fitted()
        if not len(arrays["items"]) or not candidates.size:
            return EvidenceTable.empty()
        told = np.flatnonzero(histories.lengths > 0)  # an empty history has no taste
        if not len(told):
            return EvidenceTable.empty()
        groups = np.full(len(histories), -1, np.int64)
        groups[told] = _nearest(self._units(histories.take(told)), arrays["centres"])
        n_items, keys = histories.n_items, self._keys(histories.n_items)
        wanted = groups[:, None] * n_items + candidates
        places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        found = (keys[places] == wanted) & (groups >= 0)[:, None] & (candidates >= 0)
        rows, columns = np.nonzero(found)
        own = histories.rows * n_items + histories.items
        new = ~np.isin(rows * n_items + candidates[rows, columns], own)
        rows, columns = rows[new], columns[new]
        references = places[rows, columns]
        shares = arrays["counts"][references] / arrays["sizes"][keys[references] // n_items]
        return EvidenceTable.of(rows, columns, references, np.clip(shares, 0, 1))

    def facts(self, references: IntArray) -> list[Fact]:
        arrays = self._fitted()
        chosen = np.asarray(references)
        groups = np.searchsorted(arrays["offsets"], chosen, side="right") - 1
        noise = {} if self.config.epsilon is None else {"epsilon": self.config.epsilon}
        return [
            Fact(
                kind="cohort",
                values={"count": float(count), "users": float(people), **noise},
                source="interactions",
            )
            for count, people in zip(
                arrays["counts"][chosen].tolist(), arrays["sizes"][groups].tolist(), strict=True
            )
        ]

    def vectors(self, references: IntArray) -> FloatArray:
        arrays = self._fitted()
        groups = np.searchsorted(arrays["offsets"], np.asarray(references), side="right") - 1
        found: FloatArray = arrays["vectors"][groups]
        return found

    def get_state(self) -> State:
        return dict(self._arrays)

    def load_state(self, state: State) -> None:
        self._numbers = None
        self._arrays = {name: np.asarray(state[name]) for name in ARRAYS} if state else {}

    def _fitted(self) -> dict[str, NDArray[Any]]:
        if not self._arrays:
            raise StageError(f"{NAME} is not fitted", hint="Call fit or load_state first.")
        return self._arrays

    def _keys(self, n_items: int) -> NDArray[np.int64]:
        """Returns the group and item of every reference as one number, ascending."""
        if self._numbers is None:
            arrays = self._arrays
            groups = np.repeat(np.arange(len(arrays["sizes"])), np.diff(arrays["offsets"]))
            self._numbers = groups * n_items + arrays["items"]
        return self._numbers

    def _units(self, histories: Histories) -> FloatArray:
        """Returns directions of users' vectors, ``(len(histories), d)``."""
        if self._base is None:
            raise StageError(f"{NAME} is attached to nothing", hint="Call fit or attach first.")
        blocks = [
            as_array(self._base.user_vectors(histories.take(slice(at, at + USERS))))
            for at in range(0, len(histories), USERS)
        ]
        rows = np.concatenate(blocks)
        units: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return units

    def _counts(
        self,
        users: Histories,
        groups: NDArray[Any],
        n_groups: int,
        secret: np.random.Generator | None = None,
    ) -> sp.csr_matrix:
        """Returns how many people of each group chose each item, ``(n_groups, n_items)``.

        Given where to draw from, a person counts with at most ``contribution`` items.
        """
        chosen = distinct_items(users)
        rows, items = chosen.rows, chosen.items
        if secret is not None:
            draws = secret.random(len(items))
            order = np.lexsort((draws, rows))
            place = np.arange(len(items)) - chosen.offsets[rows]  # the rows stay where they are
            kept = order[place < self.config.contribution]
            rows, items = rows[kept], items[kept]
        ones = np.ones(len(items), np.float64)
        shape = (n_groups, users.n_items)
        return sp.coo_matrix((ones, (groups[rows], items)), shape=shape).tocsr()

    def _noisy(
        self,
        counts: sp.csr_matrix,
        sizes: NDArray[np.float64],
        secret: np.random.Generator,
        ctx: Context,
    ) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
        """Adds noise to all counts, those of zero too, and to sizes; keeps what can be told."""
        assert self.config.epsilon is not None  # asked by the caller
        scale = (self.config.contribution + 1) / self.config.epsilon
        sizes = np.maximum(np.rint(sizes + secret.laplace(0, scale, len(sizes))), 0)
        rows = []
        for group in range(counts.shape[0]):
            row = counts[group].toarray()[0] + secret.laplace(0, scale, counts.shape[1])
            rows.append(sp.csr_matrix(np.where(row >= self.config.k, np.rint(row), 0)[None]))
        ctx.log(
            f"Laplace noise of scale {scale:g} on every number: epsilon {self.config.epsilon:g}, "
            f"{self.config.contribution} items of a person"
        )
        return sp.vstack(rows, format="csr"), sizes

    def _told(self, counts: sp.csr_matrix, sizes: NDArray[np.float64]) -> sp.csr_matrix:
        """Returns the counts that may be told."""
        entries = counts.tocoo()
        size = sizes[entries.row]
        everyone = np.asarray(counts.sum(axis=0))[0] / max(sizes.sum(), 1)
        fit = (entries.data >= self.config.k) & (size - entries.data > self.config.k)
        share = entries.data / np.maximum(size, 1)
        # Rounding must not leave out a group that is everyone.
        fit &= share * (1 + 1e-9) >= self.config.least_lift * everyone[entries.col]
        return sp.csr_matrix(
            (entries.data[fit], (entries.row[fit], entries.col[fit])), shape=counts.shape
        )


def _nearest(units: FloatArray, centres: FloatArray) -> NDArray[np.int64]:
    """Returns the number of the nearest centre of each row."""
    distances = (centres**2).sum(axis=1) - 2 * units @ centres.T
    nearest: NDArray[np.int64] = distances.argmin(axis=1)
    return nearest
