"""What compression of item vectors saves and costs, measured on a run's test users."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.data.splits import make_split
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.seeds import spawn_rng, spawn_seed
from dynmm_framework.errors import ArtifactError, DataError
from dynmm_framework.latents.compression import (
    Compression,
    check_fixed_ratio,
    default_compression,
    faiss_module,
)
from dynmm_framework.latents.index import ItemIndex
from dynmm_framework.protocols import FloatArray

K = 10
TIMED_QUERIES = 1000


@dataclass(frozen=True)
class Measured:
    """One line of the table.

    Attributes:
        compression: What was used; ``none`` for the exact vectors.
        ratio: What was asked for.
        real_ratio: Bytes before over bytes after.
        bytes_before: Size of the vectors as float32.
        bytes_after: Size of the index.
        recall: Share of the exact best 10 among the 10 found.
        recall_reranked: The same after the best were scored again by the exact vectors.
        ndcg_before: NDCG@10 of the exact vectors, full ranking, known items masked.
        ndcg_after: The same of the vectors as the index knows them, without re-rank.
        training_seconds: Time that training took.
        query_ms: Milliseconds that 1,000 queries take, re-rank included.
        scalar_instead: Whether scalar quantisation took the place of product quantisation.
        notes: What is otherwise than asked for.
    """

    compression: str
    ratio: int
    real_ratio: float
    bytes_before: int
    bytes_after: int
    recall: float
    recall_reranked: float
    ndcg_before: float
    ndcg_after: float
    training_seconds: float
    query_ms: float
    scalar_instead: bool
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Returns plain data."""
        return {**asdict(self), "notes": list(self.notes)}


class _Latents:
    """A backbone of given item vectors, and user vectors that are computed once.

    Args:
        items: ``(n_items, d)``.
        users: Vectors of the evaluation's users, ``(n, d)``.
        rows: Row of ``users`` of each user id, ``(n_users,)``.
    """

    def __init__(self, items: FloatArray, users: FloatArray, rows: NDArray[np.int64]) -> None:
        self._items, self._users, self._rows = items, users, rows

    def item_vectors(self) -> FloatArray:
        return self._items

    def user_vectors(self, histories: Histories) -> FloatArray:
        assert histories.users is not None  # histories of an evaluation know whose they are
        return self._users[self._rows[histories.users]]


def measure(
    run: Run,
    label: str | None = None,
    *,
    seed: int | None = None,
    ratios: Sequence[int] = (4, 8, 16, 32),
    compression: Compression | None = None,
    rerank: int = 50,
    users: int | None = None,
) -> tuple[dict[str, Any], list[Measured]]:
    """Compresses the item vectors of a run and measures each choice.

    Only item vectors are quantised. Indexes are built and thrown away.

    Args:
        run: A finished run.
        label: A recommender with vectors; the pipeline's own one by default.
        seed: The model seed; the first one by default.
        ratios: 4, 8, 16, 32.
        compression: One for all ratios; by default what serves each best.
        rerank: How many of the best are scored again.
        users: Take at most so many of the test users, drawn by the run's seed.

    Returns:
        What was measured (run, recommender, seed, items, width, users), and a line for each
        ratio after one for the exact search.

    Raises:
        ArtifactError: As for :meth:`Run.vectors`.
        ConfigError: If the vectors are too narrow for a ratio, or ``compression`` has another.
        PluginError: If faiss is not installed.
    """
    from dynmm_framework.engine.vectors import CHUNK_ROWS

    faiss_module()
    for ratio in ratios:
        check_fixed_ratio(compression or default_compression(ratio), ratio)
    vectors = run.vectors(label, seed=seed, known="test")
    evaluation = _test_users(run, users)
    items = vectors.items
    chunks = [
        np.asarray(_plain(vectors.backbone.user_vectors(evaluation.histories.take(part))))
        for part in (
            slice(start, start + CHUNK_ROWS) for start in range(0, len(evaluation), CHUNK_ROWS)
        )
    ]
    queries = np.concatenate(chunks).astype(np.float32, copy=False)
    rows = np.zeros(run.dataset.n_users, np.int64)
    rows[evaluation.users] = np.arange(len(evaluation))

    def ndcg(decoded: FloatArray) -> float:
        return _ndcg(_Latents(decoded, queries, rows), evaluation)

    index = ItemIndex.build(items)
    best, _ = index.search(queries, K)
    before = ndcg(items)
    lines = [_line(index, 1, 1.0, 1.0, before, before, _query_ms(index, queries))]
    for ratio in sorted(set(ratios)):
        index = ItemIndex.build(
            items,
            compression=compression or default_compression(ratio),
            ratio=ratio,
            rerank=rerank,
            seed=spawn_seed(vectors.source["seed"], f"compression/{ratio}"),
        )
        plain, _ = index.search(queries, K, rerank=0)
        again, _ = index.search(queries, K)
        lines.append(
            _line(
                index,
                ratio,
                recall(plain, best),
                recall(again, best),
                before,
                ndcg(index.decode()),
                _query_ms(index, queries),
            )
        )
    facts = {key: vectors.source[key] for key in ("run", "recommender", "seed")}
    sizes = {"items": len(items), "dim": vectors.dim, "users": len(evaluation), "rerank": rerank}
    return {**facts, **sizes}, lines


def recall(found: NDArray[np.int64], best: NDArray[np.int64]) -> float:
    """Returns the share of the best items, ``(n, k)``, that were found; ``-1`` is no item."""
    hits = (best[:, :, None] == found[:, None, :]).any(axis=2) & (best >= 0)
    return float(hits.sum() / max((best >= 0).sum(), 1))


def _line(
    index: ItemIndex,
    ratio: int,
    found: float,
    reranked: float,
    before: float,
    after: float,
    query_ms: float,
) -> Measured:
    size = index.bytes_after
    return Measured(
        compression=index.codes.compression,
        ratio=ratio,
        real_ratio=index.bytes_before / size,
        bytes_before=index.bytes_before,
        bytes_after=size,
        recall=found,
        recall_reranked=reranked,
        ndcg_before=before,
        ndcg_after=after,
        training_seconds=index.training_seconds,
        query_ms=query_ms,
        scalar_instead=index.codes.scalar_instead,
        notes=index.codes.notes,
    )


def _ndcg(backbone: Any, evaluation: EvaluationSet) -> float:
    from dynmm_framework.evaluation.metrics import ndcg
    from dynmm_framework.evaluation.ranking import rank

    outcome = rank(backbone, evaluation, depth=0, name="the compressed vectors")
    return float(outcome.by_user(ndcg(outcome, K), len(evaluation)).mean())


def _query_ms(index: ItemIndex, queries: FloatArray) -> float:
    batch = np.resize(queries, (TIMED_QUERIES, queries.shape[1]))
    started = time.perf_counter()
    index.search(batch, K)
    return (time.perf_counter() - started) * 1000


def _plain(vectors: Any) -> Any:
    return vectors.detach().cpu() if hasattr(vectors, "detach") else vectors


def _test_users(run: Run, most: int | None) -> EvaluationSet:
    """Returns the run's test users, at most so many, in the order of their ids."""
    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    split = make_split(run.dataset, pipeline.split, seed=spawn_seed(pipeline.seed, "split"))
    if split.hash != run.manifest.split_hash:
        raise ArtifactError(
            f"the split of run {run.id} cannot be made as it was, so nothing can be measured on"
            " its test users",
            hint="Run the same pipeline again.",
        )
    evaluation = split.evaluation("test")
    if not len(evaluation):
        raise DataError(f"run {run.id} has no test users to measure with")
    if most is None or most >= len(evaluation):
        return evaluation
    chosen = spawn_rng(pipeline.seed, "compression/users").choice(
        len(evaluation), most, replace=False
    )
    return evaluation.take(np.sort(chosen))
