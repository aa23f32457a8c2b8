"""The door of the reader of sequences."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_datasets() -> list[ComponentSpec]:
    """Registers ``sequence_file``."""
    return [
        ComponentSpec(
            name="sequence_file",
            target="dynmm_plugins.sequence_file.reader:SequenceFile",
            config="dynmm_plugins.sequence_file.config:SequenceFileConfig",
            summary="Items of users in time order, one user or one pair a line, as the files of "
            "SASRec and S3-Rec",
        )
    ]
