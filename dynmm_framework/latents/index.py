"""Search over items by inner product, over vectors as they are or made smaller."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.artifacts.atomic import atomic_folder, read_json, storage_errors, write_json
from dynmm_framework.artifacts.digests import digest_file
from dynmm_framework.errors import ArtifactError, DataError
from dynmm_framework.latents.compression import (
    MOST_TRAINING,
    Codes,
    Compression,
    Kind,
    choose_codes,
    faiss_module,
)
from dynmm_framework.protocols import FloatArray

INDEX_FILE = "index.faiss"
FACTS_FILE = "index.json"
EXACT_FILE = "exact.npy"
SCHEMA_VERSION = 1
QUERIES = 4096
"""Queries searched at once: faiss is many times slower a query in batches below 1,000."""
ROWS = 65_536
"""Vectors added or decoded at once."""
_logger = logging.getLogger("dynmm")


@dataclass(eq=False)
class ItemIndex:
    """Items that are found by the inner product with a query; made by :meth:`build`.

    Attributes:
        index: The index of faiss.
        codes: What it stores.
        n_items: Number of items.
        dim: Width of the vectors.
        rerank: How many of the best are scored again by the exact vectors.
        exact: The vectors as they are, ``(n_items, dim)`` float32, perhaps mapped from a file;
            ``None`` if they were not kept, and then nothing is re-ranked.
        training_seconds: Time that training took.
    """

    index: Any
    codes: Codes
    n_items: int
    dim: int
    rerank: int = 50
    exact: NDArray[np.float32] | None = field(default=None, repr=False)
    training_seconds: float = 0.0

    @classmethod
    def build(
        cls,
        vectors: FloatArray,
        *,
        kind: Kind = "exact",
        compression: Compression = "none",
        ratio: int = 16,
        rerank: int = 50,
        seed: int = 0,
        keep_exact: bool = True,
        training_rows: int = MOST_TRAINING,
        probes: int | None = None,
        log: Callable[[str], object] | None = None,
    ) -> ItemIndex:
        """Trains an index and adds all items to it.

        The same vectors and seed give the same index: training uses one thread.

        Args:
            vectors: ``(n, d)`` float32, one row for each item.
            kind: ``exact`` looks at every item, ``ivf`` at those of the nearest lists.
            compression: ``none``, or how vectors are stored.
            ratio: 4, 8, 16 or 32: how much smaller product quantisation makes them.
            rerank: How many of the best are scored again by the exact vectors.
            seed: Chooses the training vectors and the first centroids.
            keep_exact: Keep a reference to ``vectors`` for that, an array or a memory map.
            training_rows: Most vectors to train with.
            probes: Lists that a query visits with ``ivf``; an eighth of them by default.
            log: Told what is done otherwise than asked; the framework's log by default.

        Raises:
            ConfigError: As for :func:`~dynmm_framework.latents.compression.choose_codes`.
            DataError: If the vectors are not a matrix of finite numbers with a row at least.
            PluginError: If faiss is not installed.
        """
        faiss = faiss_module()
        _check_vectors(vectors)
        n, dim = vectors.shape
        codes = choose_codes(
            n,
            dim,
            kind=kind,
            compression=compression,
            ratio=ratio,
            n_training=min(n, training_rows),
        )
        for note in codes.notes:
            (log or _logger.info)(f"index: {note}")
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            index = faiss.index_factory(dim, codes.factory, faiss.METRIC_INNER_PRODUCT)
            _seed(faiss, index, seed)
            started = time.perf_counter()
            if codes.trains:
                index.train(_training_rows(vectors, training_rows, seed))
            seconds = time.perf_counter() - started
            for start in range(0, n, ROWS):
                index.add(_floats(vectors[start : start + ROWS]))
        finally:
            faiss.omp_set_num_threads(threads)
        if codes.n_lists:
            # Residual codes alone are no reason to leave items out.
            few = max(1, codes.n_lists // 8) if probes is None else probes
            lists = faiss.extract_index_ivf(index)
            lists.nprobe = min(few, codes.n_lists) if kind == "ivf" else codes.n_lists
        exact = vectors if keep_exact else None
        return cls(index, codes, n, dim, rerank, exact, seconds)

    @property
    def bytes_before(self) -> int:
        """Size of the vectors as float32."""
        return 4 * self.n_items * self.dim

    @property
    def bytes_after(self) -> int:
        """Size of the index, written or in memory; the exact vectors are not counted."""
        faiss = faiss_module()
        writer = faiss.VectorIOWriter()
        faiss.write_index(self.index, writer)
        return int(writer.data.size())

    def search(
        self, queries: FloatArray, k: int, *, rerank: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Finds the items with the largest inner products.

        Args:
            queries: ``(n, d)`` float32.
            k: Items for each query.
            rerank: Score so many of the best again; :attr:`rerank` if ``None``, 0 for none. It
                needs the exact vectors.

        Returns:
            Items ``(n, k)`` int64, best first, and their scores ``(n, k)`` float32; ``-1`` and
            ``-inf`` where there are fewer.

        Raises:
            DataError: If the queries have another width or are not finite.
        """
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise DataError(
                f"queries of shape {queries.shape} do not fit an index of width {self.dim}",
                hint="Give one row for each query, as wide as the items' vectors.",
            )
        if not np.isfinite(queries).all():
            raise DataError("a query is not finite", hint="Look at the vectors of the users.")
        again = self.rerank if rerank is None else rerank
        if self.exact is None or self.codes.compression == "none":
            again = 0
        n_found = min(self.n_items, max(k, again))
        items = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for start in range(0, len(queries), QUERIES):
            part = _floats(queries[start : start + QUERIES])
            values, found = self.index.search(part, n_found)
            if again:
                found, values = self._exactly(part, found)
            width = min(k, n_found)
            items[start : start + len(part), :width] = found[:, :width]
            scores[start : start + len(part), :width] = np.where(
                found[:, :width] < 0, -np.inf, values[:, :width]
            )
        return items, scores

    def decode(self) -> NDArray[np.float32]:
        """Returns the vectors as the index knows them, ``(n_items, dim)`` float32."""
        faiss = faiss_module()
        if self.codes.n_lists:
            faiss.extract_index_ivf(self.index).make_direct_map(True)
        vectors = np.empty((self.n_items, self.dim), np.float32)
        for start in range(0, self.n_items, ROWS):
            rows = min(ROWS, self.n_items - start)
            vectors[start : start + rows] = self.index.reconstruct_n(start, rows)
        if self.codes.n_lists:  # it takes 8 bytes an item, and is not wanted any more
            faiss.extract_index_ivf(self.index).make_direct_map(False)
        return vectors

    def save(self, folder: Path | str) -> Path:
        """Writes the index to a folder, which appears as a whole or not at all.

        Raises:
            ArtifactError: If it cannot be written.
        """
        faiss = faiss_module()
        folder = Path(folder)
        with atomic_folder(folder) as partial:
            faiss.write_index(self.index, str(partial / INDEX_FILE))
            if self.exact is not None:
                np.save(partial / EXACT_FILE, _floats(self.exact), allow_pickle=False)
            names = [name for name in (INDEX_FILE, EXACT_FILE) if (partial / name).is_file()]
            facts = {
                "schema_version": SCHEMA_VERSION,
                "items": self.n_items,
                "dim": self.dim,
                "score": "inner product",
                "rerank": self.rerank,
                "codes": asdict(self.codes),
                "probes": self._probes(faiss),
                "training_seconds": self.training_seconds,
                "sha256": {name: digest_file(partial / name).sha256 for name in names},
            }
            write_json(partial / FACTS_FILE, facts)
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> ItemIndex:
        """Reads an index; exact vectors are mapped, not read.

        Raises:
            ArtifactError: If a file is missing, damaged or of a newer version.
            PluginError: If faiss is not installed.
        """
        faiss = faiss_module()
        folder = Path(folder)
        facts = _facts(folder)
        for name, digest in facts["sha256"].items():
            with storage_errors(folder / name, action="read"):
                same = digest_file(folder / name).sha256 == digest
            if not same:
                raise _damaged(folder / name, "its content is not what was written")
        try:
            index = faiss.read_index(str(folder / INDEX_FILE))
            codes = Codes(**{**facts["codes"], "notes": tuple(facts["codes"]["notes"])})
            exact = None
            if EXACT_FILE in facts["sha256"]:
                exact = np.load(folder / EXACT_FILE, mmap_mode="r", allow_pickle=False)
            if (index.ntotal, index.d) != (facts["items"], facts["dim"]):
                raise ValueError(f"it holds {index.ntotal} vectors of width {index.d}")
            found = cls(
                index,
                codes,
                facts["items"],
                facts["dim"],
                facts["rerank"],
                exact,
                facts["training_seconds"],
            )
            if codes.n_lists:
                faiss.extract_index_ivf(index).nprobe = facts["probes"]
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise _damaged(folder / INDEX_FILE, str(error)) from error
        return found

    def _probes(self, faiss: Any) -> int:
        return int(faiss.extract_index_ivf(self.index).nprobe) if self.codes.n_lists else 0

    def _exactly(
        self, queries: NDArray[np.float32], found: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Orders candidates ``(batch, c)`` by their exact inner products, then by item."""
        assert self.exact is not None
        values = np.empty(found.shape, np.float32)
        most = max(1, (64 << 20) // (4 * self.dim * max(found.shape[1], 1)))
        for start in range(0, len(found), most):
            part = slice(start, start + most)
            chosen = np.asarray(self.exact[found[part].clip(min=0)], dtype=np.float32)
            values[part] = np.matmul(chosen, queries[part, :, None])[:, :, 0]
        values[found < 0] = -np.inf
        order = np.lexsort((found, -values), axis=1)
        return np.take_along_axis(found, order, 1), np.take_along_axis(values, order, 1)


def _facts(folder: Path) -> Mapping[str, Any]:
    facts = read_json(folder / FACTS_FILE)
    version = facts.get("schema_version") if isinstance(facts, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"cannot read {folder}: its index is of version {version}, this release knows"
            f" {SCHEMA_VERSION}",
            hint="Install a newer release of dynmm-framework.",
        )
    wanted = {"items", "dim", "rerank", "codes", "probes", "training_seconds", "sha256"}
    if version != SCHEMA_VERSION or wanted - facts.keys() or INDEX_FILE not in facts["sha256"]:
        raise _damaged(folder / FACTS_FILE, "entries are missing")
    return dict(facts)


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"cannot read {path}: it is damaged ({reason})", hint="Build and save the index again."
    )


def _check_vectors(vectors: FloatArray) -> None:
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise DataError(
            f"an index needs a matrix with a row for each item, not shape {vectors.shape}"
        )
    for start in range(0, len(vectors), ROWS):
        bad = ~np.isfinite(vectors[start : start + ROWS]).all(axis=1)
        if bad.any():
            first = start + int(np.flatnonzero(bad)[0])
            raise DataError(f"the vector of item {first} is not finite, so it cannot be searched")


def _floats(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _training_rows(vectors: FloatArray, most: int, seed: int) -> NDArray[np.float32]:
    if len(vectors) <= most:
        return _floats(vectors)
    rows = np.random.default_rng(seed).choice(len(vectors), most, replace=False)
    return _floats(vectors[np.sort(rows)])


def _seed(faiss: Any, index: Any, seed: int) -> None:
    """Hands the seed to every clustering of an index."""
    number = seed % (1 << 31)
    inner = faiss.downcast_index(index)
    if hasattr(inner, "chain"):
        inner = faiss.downcast_index(inner.index)
    for part in (inner, getattr(inner, "pq", inner)):
        if hasattr(part, "cp"):
            part.cp.seed = number
