"""Vectors of a run's items and users, computed in chunks and written for use elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.artifacts.atomic import atomic_folder, write_json
from dynmm_framework.artifacts.manifest import RunManifest
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.data.splits import make_split
from dynmm_framework.data.tables import Dataset, Histories
from dynmm_framework.engine.seeds import spawn_seed
from dynmm_framework.engine.vector_files import WRITERS, Rows
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import Backbone, FloatArray, Scores

VectorFormat = Literal["safetensors", "parquet", "npy"]
VectorPart = Literal["items", "users", "both"]
Known = Literal["all", "test", "train"]
"""What is known of users: all their interactions, those before the test, those of training."""

CHUNK_ROWS = 8192
"""Vectors that are held at once while writing; also the rows of a Parquet row group."""
SUMMARY_FILE = "vectors.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a trained backbone; made by :meth:`dynmm_framework.Run.vectors`.

    The inner product of a user's and an item's vector is the score by which the run ranks. Row
    ``i`` belongs to row ``i`` of the dataset's table of items or users.

    Attributes:
        backbone: The trained backbone.
        dataset: The items and users, with their own ids.
        histories: What is known of each user.
        source: Where the vectors come from (run, recommender, seed …), plain data; it is written
            beside them.
    """

    backbone: Backbone
    dataset: Dataset
    histories: Histories
    source: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def items(self) -> FloatArray:
        """Vectors of all items, ``(n_items, d)`` float32.

        Raises:
            StageError: If the backbone delivers another number of vectors, or one is not finite.
        """
        found = _as_array(self.backbone.item_vectors())
        return self._checked(found, "item", self.dataset.items, slice(0, self.dataset.n_items))

    @property
    def users(self) -> FloatArray:
        """Vectors of all users at once, ``(n_users, d)`` float32.

        Raises:
            StageError: As for :attr:`items`.
        """
        return np.concatenate([np.empty((0, self.dim), np.float32), *self.user_chunks()])

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.items.shape[1])

    def user_chunks(self, size: int | None = None) -> Iterator[FloatArray]:
        """Yields the vectors of all users in order, ``(at most size, d)`` float32 each.

        Args:
            size: Users at a time; ``CHUNK_ROWS`` if ``None``.

        Raises:
            StageError: As for :attr:`items`.
        """
        for part in _chunks(len(self.histories), size or CHUNK_ROWS):
            found = _as_array(self.backbone.user_vectors(self.histories.take(part)))
            yield self._checked(found, "user", self.dataset.users, part, dim=self.dim)

    def save(
        self,
        folder: Path | str,
        *,
        format: VectorFormat = "safetensors",
        part: VectorPart = "both",
        force: bool = False,
    ) -> Path:
        """Writes the vectors to a folder, which appears as a whole or not at all.

        Users are computed and written in chunks: beyond the model, the dataset and the items, no
        memory grows with their number. What the formats hold:

        ===========  =======================================================================
        safetensors  ``vectors.safetensors`` with ``items`` and ``users``; ``items.parquet``
                     and ``users.parquet`` with the ids (and titles) of their rows
        parquet      ``items.parquet`` and ``users.parquet``: ``id``, (``title``,) ``vector``
        npy          ``items.npy``, ``users.npy``; ``items.ids.txt``, ``users.ids.txt`` (and
                     ``items.titles.txt``), one line for each row
        ===========  =======================================================================

        ``vectors.json`` tells the run, the recommender, the seed and the sizes.

        Args:
            folder: A folder of its own; missing parents are made.
            format: How to write.
            part: What to write.
            force: Replace vectors that were written there before. Anything else is never replaced.

        Raises:
            ArtifactError: If the folder holds something, or cannot be written.
            StageError: As for :attr:`items`.
            ValueError: If there is no such format or part.
        """
        for value, known in ((format, VectorFormat), (part, VectorPart)):
            if value not in get_args(known):
                raise ValueError(f"{value!r} is none of {', '.join(get_args(known))}")
        folder = Path(folder).absolute()
        _require_free(folder, force=force)
        tables = {
            "items": Rows(_names(self.dataset.items), self.dim, self._item_chunks),
            "users": Rows(_names(self.dataset.users), self.dim, self.user_chunks),
        }
        chosen = {name: rows for name, rows in tables.items() if part in (name, "both")}
        with atomic_folder(folder) as partial:
            WRITERS[format](partial, chosen, {k: str(v) for k, v in self.source.items()})
            files = sorted(path.name for path in partial.iterdir())
            write_json(partial / SUMMARY_FILE, self._summary(format, list(chosen), files))
        return folder

    def _item_chunks(self) -> Iterator[FloatArray]:
        for part in _chunks(len(self.items), CHUNK_ROWS):
            yield self.items[part]

    def _summary(self, format: str, parts: list[str], files: list[str]) -> dict[str, Any]:
        sizes = {"items": self.dataset.n_items, "users": self.dataset.n_users}
        return {
            "schema_version": SCHEMA_VERSION,
            **self.source,
            "score": "inner product",
            "dim": self.dim,
            **{name: sizes[name] for name in parts},
            "format": format,
            "files": files,
        }

    def _checked(
        self,
        vectors: NDArray[Any],
        noun: str,
        table: pa.Table,
        part: slice,
        *,
        dim: int | None = None,
    ) -> FloatArray:
        """Returns vectors as float32 if they are as many and as wide as they must be."""
        label = self.source.get("recommender") or type(self.backbone).__name__
        wanted = (part.stop - part.start, *(vectors.shape[-1:] if dim is None else (dim,)))
        if vectors.shape != wanted:
            raise StageError(
                f"{label} gave {noun} vectors of shape {vectors.shape} where {wanted} was asked"
                " for",
                hint="Report this to the authors of the component.",
            )
        bad = ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            first = table["id"][part.start + int(np.flatnonzero(bad)[0])].as_py()
            raise StageError(
                f"{label}: the vector of {noun} {first!r} is not finite",
                hint="Train again with a lower learning rate.",
            )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def known_histories(dataset: Dataset, manifest: RunManifest, known: Known) -> Histories:
    """Returns what is known of each user of a run, empty where that is nothing.

    A run keeps its data but not its split; that is made again and compared with the run's.

    Args:
        dataset: The run's dataset.
        manifest: The run's manifest.
        known: ``all``: all of the dataset's interactions, test targets included, as ``recommend``
            takes them; ``test``: those before the test, by which the run ranked; ``train``: those
            that were learned from.

    Raises:
        ArtifactError: If the split cannot be made as it was.
        DataError: If a file of a given split is missing.
        ValueError: If ``known`` is something else.
    """
    if known not in get_args(Known):
        raise ValueError(f"{known!r} is none of {', '.join(get_args(Known))}")
    if known == "all":
        return dataset.interactions.histories()
    pipeline = Pipeline.model_validate(manifest.pipeline)
    split = make_split(dataset, pipeline.split, seed=spawn_seed(pipeline.seed, "split"))
    if split.hash != manifest.split_hash:
        raise ArtifactError(
            f"the split of run {manifest.run} cannot be made as it was, so what was known before"
            f" the {'test' if known == 'test' else 'validation'} is not known any more",
            hint="Run the same pipeline again, or take all that is known of users (known: all).",
        )
    if known == "test":
        return split.known_before("test")
    return split.train.histories()


def _names(table: pa.Table) -> pa.Table:
    """Returns the columns by which people know the rows of a table."""
    titled = "title" in table.column_names and table["title"].null_count < len(table)
    return table.select(["id", "title"] if titled else ["id"])


def _as_array(vectors: Scores) -> NDArray[Any]:
    return np.asarray(vectors.detach().cpu() if hasattr(vectors, "detach") else vectors)


def _chunks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _require_free(folder: Path, *, force: bool) -> None:
    if folder.is_file() or folder.suffix[1:] in get_args(VectorFormat):
        raise ArtifactError(
            f"cannot write vectors to {folder}: they are several files, which need a folder",
            hint=f"Name a folder, such as {folder.with_suffix('').name or 'vectors'}-vectors.",
        )
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / SUMMARY_FILE).is_file():
        raise ArtifactError(
            f"cannot write vectors to {folder}: it holds other files",
            hint="Choose a folder of its own; what is not an export is never replaced.",
        )
    if not force:
        raise ArtifactError(
            f"cannot write vectors to {folder}: it holds vectors already",
            hint="Choose another folder, or replace them with --force (in Python force=True).",
        )
