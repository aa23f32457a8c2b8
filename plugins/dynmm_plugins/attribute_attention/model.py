"""Attributes of items as evidence, weighed by learned attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.explain.passages import pack_texts, unpack_texts
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.features.cache import FeatureCache
from dynmm_framework.features.encode import encode_items
from dynmm_framework.latents.inputs import as_array
from dynmm_framework.protocols import Context, FloatArray, IntArray, Retriever, State
from dynmm_framework.training.folding import distinct_items
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.attribute_attention.attributes import Attributes
from dynmm_plugins.attribute_attention.config import AttributeAttentionConfig
from dynmm_plugins.attribute_attention.finding import find_attributes
from dynmm_plugins.attribute_attention.network import AttributeNetwork, NextItemTask

ITEMS = 4096
"""Items whose part of the logits is computed at once."""
BLOCK = 4_000_000
"""Numbers that a look-up has in memory at once."""
NAME = "attribute_attention"
ARRAYS = ("table", "static", "keys", "queries", "own", "items", "vectors", "counts")
FEW = 10.0
"""Items whose mean latent is drawn half-way to nothing: so many are few."""


class AttributeAttention:
    """Finds the attributes of a candidate that speak for it.

    Attributes are the values of columns (genres, categories), key phrases of the texts by TF-IDF,
    and, where asked for, labels of pictures by a model such as CLIP (Radford et al., ICML 2021). An
    item is never given an attribute that it has not.

    Scores are the weights of an attention that is trained here: the query is made of the latents of
    the user's newest items and of the candidate, keys are the attributes' text vectors or the mean
    latents of the other items that have them, and what the attention pools must tell users' next
    items from others as popular
    (:class:`~dynmm_plugins.attribute_attention.network.AttributeNetwork`). They are relative: those
    of one candidate's attributes add up to 1. A user without history is asked for with a query of
    the candidate alone.

    The dictionary holds, for each item, its attributes and their part of the logits, so that a
    look-up costs O(candidates · attributes · dim) and no network: memory is
    O(n_items · (attributes + dim)) and O(attributes · (d + dim)).
    """

    def __init__(self, config: AttributeAttentionConfig) -> None:
        self.config = config
        self._ctx: Context | None = None
        self._words: dict[str, list[str]] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def connect(self, ctx: Context) -> None:
        self._ctx = ctx

    def fit(self, data: TrainingData, base: Retriever, ctx: Context) -> None:
        found = find_attributes(data, self.config, ctx, owner=NAME)
        latents = torch.from_numpy(as_array(base.item_vectors()))  # (n_items, d)
        table, counts = found.table(), found.counts()
        vectors = _means(latents, table, len(found.names))
        bare = int((table[:, 0] < 0).sum())
        ctx.record(
            "evidence",
            {"items": data.n_items, "attributes": len(found.names), "without_attributes": bare},
        )
        scaled = latents / latents.norm(dim=1).mean().clamp(min=1e-12)
        keys = self._keys(found, vectors, latents, ctx)
        with seeded(ctx, "initialisation"):
            network = AttributeNetwork(
                scaled,
                keys,
                torch.from_numpy(table.astype(np.int64)),
                **self._weights(counts),
                dim=self.config.dim,
            )
        self._train(network, data, ctx)
        static = np.zeros(table.shape, np.float32)
        with torch.no_grad():
            network = network.cpu()
            for part in torch.arange(data.n_items).split(ITEMS):
                query = network.of_item(scaled[part])[..., None]
                logits = (network.seen(network.of_key, part) @ query)[..., 0] * network.scale
                static[part.numpy()] = logits.numpy()
            of_key = network.share[:, None] * network.of_key(network.keys)
            queries = network.of_user(scaled) * network.scale
            told_twice = bool(network.own.any())
            of_items = network.of_key(scaled) if told_twice else torch.zeros(data.n_items, 1)
        self._words = {"names": found.names, "groups": found.groups, "sources": found.sources}
        self._arrays = {
            "table": table,
            "static": static,
            "keys": of_key.numpy(),
            "queries": queries.numpy(),
            "own": network.own.numpy(),
            "items": of_items.numpy(),
            "vectors": vectors.numpy(),
            "counts": counts,
        }

    def attach(self, base: Retriever) -> None:
        """Needs nothing of what recommends: the dictionary holds all that is looked up."""

    def extract(self, histories: Histories, candidates: IntArray) -> EvidenceTable:
        table = self._fitted("table")
        size = max(1, BLOCK // (candidates.shape[1] * table.shape[1] * self.config.dim + 1))
        size = min(size, max(1, BLOCK // max(1, len(self._words["names"]))))
        blocks = [
            self._extract(histories.take(slice(at, at + size)), candidates[at : at + size])
            for at in range(0, len(histories), size)
        ]
        rows = [block[0] + at * size for at, block in enumerate(blocks)]
        if not rows:
            return EvidenceTable.empty()
        rest = [np.concatenate([block[part] for block in blocks]) for part in range(1, 5)]
        return EvidenceTable.of(np.concatenate(rows), *rest)

    def facts(self, references: IntArray) -> list[Fact]:
        counts, words = self._fitted("counts"), self._words
        return [
            Fact(
                kind="attribute",
                name=words["names"][number],
                group=words["groups"][number],
                values={"items": float(counts[number])},
                source=words["sources"][number],
            )
            for number in np.asarray(references).tolist()
        ]

    def vectors(self, references: IntArray) -> FloatArray:
        found: FloatArray = self._fitted("vectors")[references]
        return found

    def get_state(self) -> State:
        if not self._arrays:
            return {}
        state: dict[str, NDArray[Any]] = dict(self._arrays)
        for name, words in self._words.items():
            state.update(pack_texts(name, words))
        return state

    def load_state(self, state: State) -> None:
        self._arrays = {name: np.asarray(state[name]) for name in ARRAYS} if state else {}
        names = ("names", "groups", "sources")
        self._words = {name: unpack_texts(name, state) for name in names} if state else {}

    def _fitted(self, name: str) -> NDArray[Any]:
        if not self._arrays:
            raise StageError(f"{NAME} is not fitted", hint="Call fit or load_state first.")
        return self._arrays[name]

    def _extract(
        self, histories: Histories, candidates: IntArray
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Returns rows, columns, references, scores and support of a block of users."""
        queries = _mean_rows(histories.last(self.config.history), self._arrays["queries"])
        chosen = self._arrays["table"][candidates]  # (batch, C, most)
        present = (chosen >= 0) & (candidates >= 0)[:, :, None]
        places = np.maximum(chosen, 0)
        logits = np.einsum("br,bcar->bca", queries, self._arrays["keys"][places])
        logits += self._arrays["static"][candidates]
        if self._arrays["own"].any():
            of_item = np.einsum("br,bcr->bc", queries, self._arrays["items"][candidates])
            logits -= self._arrays["own"][places] * of_item[:, :, None]
        logits = np.where(present, logits, -np.inf)
        highest = logits.max(axis=2, keepdims=True)
        weights = np.exp(logits - np.where(np.isfinite(highest), highest, 0))
        weights /= np.maximum(weights.sum(axis=2, keepdims=True), 1e-12)
        order = np.argsort(-weights, axis=2, kind="stable")[:, :, : self.config.k]
        keep = np.take_along_axis(present, order, axis=2)
        rows, columns, _ = np.nonzero(keep)
        references = np.take_along_axis(chosen, order, axis=2)[keep]
        scores = np.take_along_axis(weights, order, axis=2)[keep]
        support = self._support(histories, candidates, rows, columns, references)
        return rows, columns, references, scores, support

    def _support(
        self,
        histories: Histories,
        candidates: IntArray,
        rows: NDArray[Any],
        columns: NDArray[Any],
        references: NDArray[Any],
    ) -> NDArray[Any]:
        """Counts the other items of each history that have what is cited."""
        n_attributes, n_items = len(self._words["names"]), histories.n_items
        own = distinct_items(histories)
        having = self._arrays["table"][own.items]  # (items, most)
        keys = own.rows[:, None] * n_attributes + having
        counts = np.bincount(keys[having >= 0], minlength=len(histories) * n_attributes)
        known = own.rows * n_items + own.items
        itself = np.isin(rows * n_items + candidates[rows, columns], known)
        support: NDArray[Any] = counts[rows * n_attributes + references] - itself
        return support

    def _keys(
        self, found: Attributes, vectors: torch.Tensor, latents: torch.Tensor, ctx: Context
    ) -> torch.Tensor:
        """Returns what stands for each attribute: words of length 1, or means of such latents."""
        keys, ref = vectors, self.config.encoder
        if ref is not None and found.names:
            encoded = encode_items(
                ctx.component(ref),
                pa.table({"id": [str(n) for n in range(len(found.names))], "text": found.names}),
                modality="text",
                cache=FeatureCache(ctx.workdir / "features"),
                ctx=ctx.part("encoder"),
                identity=ref.model_dump_json(),
                name=ref.name,
                fields=["text"],
            )
            keys = torch.from_numpy(np.array(encoded.features.vectors, np.float32))
        if not len(keys):  # nothing is looked up, and there must be a row to look at
            return torch.zeros(1, keys.shape[1])
        length = keys if ref is not None else latents
        return keys / length.norm(dim=1).mean().clamp(min=1e-12)

    def _weights(self, counts: IntArray) -> dict[str, torch.Tensor]:
        """Returns what makes an attribute's mean latent that of an item's others."""
        n = max(1, len(counts))
        if self.config.encoder is not None or not len(counts):
            return {"share": torch.ones(n), "own": torch.zeros(n)}
        having = torch.from_numpy(counts.astype(np.float32))
        others = having - 1
        # The mean of the others is (n · mean - own) / (n - 1), times n - 1 over n - 1 + FEW.
        return {"share": having / (others + FEW), "own": 1 / (others + FEW)}

    def _train(self, network: AttributeNetwork, data: TrainingData, ctx: Context) -> None:
        histories, config = data.histories, self.config
        lengths = histories.lengths
        first = np.zeros(len(histories.items), np.bool_)
        first[histories.offsets[:-1][lengths > 0]] = True
        told = network.table[:, 0].numpy() >= 0
        places = np.flatnonzero(~first & told[histories.items])
        if len(places) > config.examples:
            chosen = ctx.rng("examples").choice(places, config.examples, replace=False)
            places = np.sort(chosen)
        if not len(places):
            ctx.log("there is no next item to learn from: attributes are weighed alike")
            torch.nn.init.zeros_(network.of_user.weight)
            torch.nn.init.zeros_(network.of_item.weight)
            return
        users = histories.rows[places]
        starts = np.maximum(histories.offsets[users], places - config.history)
        sizes = places - starts
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        before = Histories(offsets, histories.items[at], histories.n_items)
        task = NextItemTask(
            network,
            histories,
            profiles=torch.from_numpy(_mean_rows(before, network.latents.numpy())),
            users=users,
            targets=histories.items[places],
            batch_size=config.batch_size,
            negatives=config.negatives,
        )
        train(task, config, ctx, validate=False)


def _mean_rows(histories: Histories, rows: FloatArray) -> FloatArray:
    """Returns the mean row of each history's items, zeros for an empty one, ``(n, width)``."""
    import scipy.sparse as sp

    matrix = sp.csr_matrix(
        (np.ones(len(histories.items), np.float32), histories.items, histories.offsets),
        shape=(len(histories), len(rows)),
    )
    lengths = np.maximum(histories.lengths, 1).astype(np.float32)
    out: FloatArray = (matrix @ rows) / lengths[:, None]
    return out


def _means(latents: torch.Tensor, table: IntArray, n_attributes: int) -> torch.Tensor:
    """Returns the mean latent of the items that have each attribute, ``(n_attributes, d)``."""
    items, places = np.nonzero(table >= 0)
    numbers = torch.from_numpy(table[items, places].astype(np.int64))
    sums = torch.zeros(n_attributes, latents.shape[1])
    sums.index_add_(0, numbers, latents[torch.from_numpy(items)])
    counts = torch.bincount(numbers, minlength=n_attributes).clamp(min=1)
    return sums / counts[:, None]
