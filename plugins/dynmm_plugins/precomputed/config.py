"""Settings of features that exist already."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from dynmm_framework.artifacts.digests import digest_file
from dynmm_framework.config.blocks import Block

if TYPE_CHECKING:
    from dynmm_framework.artifacts.records import Registry

ENDINGS = (".npy", ".safetensors", ".parquet")


class PrecomputedConfig(Block):
    """Settings of features that exist already: one row of a file for each item."""

    path: str
    """The file: ``.npy`` (a matrix), ``.safetensors`` or ``.parquet``."""
    ids: str | None = None
    """Which item each row belongs to: a file with as many identifiers (``.npy``, ``.json``, or text
    with one a line); in Parquet the column, in safetensors the tensor of that name.
    """
    rows: Literal["order", "number"] | None = None
    """Without ``ids``: ``order`` says that row i belongs to the i-th item of the dataset, all of
    which must have one; ``number`` that the row with the number i, from 0, belongs to the item
    whose identifier is i. Null is ``order``; in Parquet, the column ``id``.
    """
    tensor: str | None = None
    """Name of the matrix in a safetensors file; null if there is only one."""
    columns: list[str] = []
    """In Parquet: one column of lists, or several of numbers; null takes the only one of lists, or
    else all of numbers.
    """
    dim: Annotated[int, Field(ge=1)] | None = None
    """Width that the features must have; null takes any."""
    not_finite: Literal["refuse", "missing"] = "refuse"
    """What to do about rows with NaN or infinity: refuse the file, or count the items as missing.
    """
    zeros_are_missing: bool = False
    """Count items whose row is all zeros as missing, as many published features mean it."""

    @model_validator(mode="after")
    def _settings_fit_format(self) -> PrecomputedConfig:
        ending = Path(self.path).suffix.lower()
        if ending not in ENDINGS:
            raise ValueError(f"path {self.path}: must end with {', '.join(ENDINGS)}")
        if self.tensor is not None and ending != ".safetensors":
            raise ValueError("tensor is for safetensors files only")
        if self.columns and ending != ".parquet":
            raise ValueError("columns are for Parquet files only")
        if self.ids is not None and ending == ".npy" and not self.names_a_file:
            raise ValueError(f"ids {self.ids!r} must be a file: .npy, .json or .txt")
        if self.ids is not None and self.rows is not None:
            raise ValueError("ids and rows both say which item a row belongs to; leave one out")
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        path = Path(self.path).expanduser()
        if self.ids is None or path.suffix.lower() == ".parquet" or not self.names_a_file:
            return (path,)
        return path, Path(self.ids).expanduser()

    @property
    def names_a_file(self) -> bool:
        """Whether ``ids`` is a file rather than a name inside the file."""
        return self.ids is not None and Path(self.ids).suffix.lower() in (".npy", ".json", ".txt")

    def fingerprint(self, registry: Registry) -> str:
        """Returns a digest of the files' contents.

        Raises:
            ArtifactError: If one cannot be read.
        """
        digests = [digest_file(path).sha256 for path in self.files]
        return hashlib.sha256("".join(digests).encode()).hexdigest()
