"""Reads the folder that ``Dataset.save`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dynmm_framework.data.files import require_file
from dynmm_framework.data.rows import Findings
from dynmm_framework.data.storage import DATASET_FILES, read_dataset
from dynmm_framework.data.tables import Dataset
from dynmm_framework.protocols import Context
from dynmm_plugins.saved_dataset.config import SavedDatasetConfig


class SavedDataset:
    """Reads a saved dataset, as in-memory data enters a pipeline: saved, named, fingerprinted."""

    def __init__(self, config: SavedDatasetConfig) -> None:
        self.folder = Path(config.path).expanduser()

    def files(self, ctx: Context) -> Sequence[Path]:
        findings = Findings()
        for name in DATASET_FILES:
            with findings.collecting():
                require_file(self.folder / name)
        findings.raise_if_any(hint="Name a folder that Dataset.save(folder) has written.")
        return [self.folder / name for name in DATASET_FILES]

    def read(self, ctx: Context) -> Dataset:
        self.files(ctx)
        return read_dataset(self.folder)
