"""Files from the Hugging Face hub."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.digests import FileDigest
from dynmm_framework.artifacts.download import SourceFailure
from dynmm_framework.artifacts.record_types import Hub


def download_from_hub(
    hub: Hub, files: Mapping[str, FileDigest], scratch: Path, destination: Path
) -> None:
    """Downloads files of one revision of a repository.

    Args:
        hub: Repository, revision and folder.
        files: What to take.
        scratch: Folder for the hub library's own state, with which it continues downloads.
        destination: Where to write.

    Raises:
        SourceFailure: If ``huggingface_hub`` is not installed, or a file cannot be had.
    """
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise SourceFailure(
            "the package huggingface_hub is missing; install it with `pip install huggingface-hub`"
        ) from error
    for name in files:
        path = f"{hub.folder.strip('/')}/{name}".lstrip("/")
        try:
            found = library.hf_hub_download(
                hub.repo, path, revision=hub.revision, local_dir=scratch
            )
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise SourceFailure(f"{path}: {reason[0]}") from error
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, destination / name)
