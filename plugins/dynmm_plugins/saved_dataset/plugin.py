"""The door of the reader of saved datasets."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_datasets() -> list[ComponentSpec]:
    """Registers ``saved_dataset``."""
    return [
        ComponentSpec(
            name="saved_dataset",
            target="dynmm_plugins.saved_dataset.reader:SavedDataset",
            config="dynmm_plugins.saved_dataset.config:SavedDatasetConfig",
            summary="A dataset saved from Python: Dataset.from_pandas(frame).save(folder)",
        )
    ]
