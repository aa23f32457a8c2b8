"""Training checkpoints: all that an interrupted training needs to go on as if undisturbed.

A checkpoint is one safetensors file of arrays and a JSON document that names it. The document is
replaced last, so that a kill at any moment leaves either the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.artifacts.atomic import write_json
from dynmm_framework.errors import ArtifactError
from dynmm_framework.training.state import load_module_state, module_state, to_array

logger = logging.getLogger("dynmm")

SCHEMA_VERSION = 1

Arrays = dict[str, NDArray[Any]]
"""Named arrays."""


class Progress(BaseModel):
    """How far a training has come: the JSON part of a checkpoint.

    Attributes:
        epoch: Epochs finished.
        steps: Batches finished.
        history: One record for each of them.
        best_epoch: Epoch of the best validation so far; 0 before the first.
        best_value: Its value of the monitored metric.
        waited: Validations since then.
    """

    model_config = ConfigDict(extra="forbid")

    epoch: int = 0
    steps: int = 0
    history: list[dict[str, float]] = []
    best_epoch: int = 0
    best_value: float = 0.0
    waited: int = 0


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: int
    digest: str
    arrays: str
    sha256: str
    progress: Progress
    optimizer: dict[str, Any]


def training_digest(module: nn.Module, settings: Mapping[str, Any]) -> str:
    """Identifies a training by its settings and its initial weights."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, array in module_state(module).items():
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class CheckpointFolder:
    """Keeps the newest checkpoint of one training.

    Args:
        folder: Where; created on the first save.
        digest: Identity of the training; a checkpoint of another one is not used.
    """

    def __init__(self, folder: Path, *, digest: str) -> None:
        self.folder = folder
        self.digest = digest

    @property
    def _document(self) -> Path:
        return self.folder / "checkpoint.json"

    def save(
        self,
        progress: Progress,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        kept: Mapping[str, Arrays],
    ) -> None:
        """Replaces the checkpoint.

        Args:
            progress: How far the training has come.
            module: Its parameters and buffers.
            optimizer: Its state.
            kept: Further groups of arrays, such as the best weights so far.

        Raises:
            ArtifactError: If it cannot be written; the previous one stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        described, arrays = _flatten(optimizer)
        arrays |= {f"module/{name}": value for name, value in module_state(module).items()}
        for group, values in kept.items():
            arrays |= {f"kept/{group}/{name}": value for name, value in values.items()}
        path = self.folder / f"epoch-{progress.epoch:06d}.safetensors"
        save_arrays(path, arrays)
        document = _Document(
            schema_version=SCHEMA_VERSION,
            digest=self.digest,
            arrays=path.name,
            sha256=_sha256(path),
            progress=progress,
            optimizer=described,
        )
        write_json(self._document, document.model_dump(mode="json"))
        for old in self.folder.glob("epoch-*.safetensors"):
            if old != path:
                old.unlink(missing_ok=True)

    def load(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        any_settings: bool = False,
    ) -> tuple[Progress, dict[str, Arrays]] | None:
        """Restores module and optimiser in place; the optimiser's settings stay as they are.

        Args:
            module: Gets the parameters and buffers.
            optimizer: Gets its state, such as moments.
            any_settings: Take what a training with other settings has left.

        Returns:
            The progress and the further groups of arrays; ``None``, said in the log, if there is no
            checkpoint, it is damaged, or it belongs to another training.
        """
        if not self._document.exists():
            return None
        try:
            document, arrays = self._read()
        except (ArtifactError, OSError, ValueError) as error:
            logger.warning(
                "checkpoint %s is unusable (%s); training starts over", self.folder, error
            )
            return None
        if document.digest != self.digest and not any_settings:
            logger.warning(
                "checkpoint %s belongs to a training with other settings; training starts over",
                self.folder,
            )
            return None
        load_module_state(module, _under("module/", arrays))
        _restore(optimizer, document.optimizer, _under("optimizer/", arrays))
        kept: dict[str, Arrays] = {}
        for key, value in _under("kept/", arrays).items():
            group, name = key.split("/", 1)
            kept.setdefault(group, {})[name] = value
        return document.progress, kept

    def delete(self) -> None:
        """Removes the checkpoint."""
        self._document.unlink(missing_ok=True)
        for path in self.folder.glob("epoch-*.safetensors"):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _read(self) -> tuple[_Document, dict[str, NDArray[Any]]]:
        try:
            document = _Document.model_validate_json(self._document.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{error.error_count()} errors in {self._document.name}") from error
        if document.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema version {document.schema_version}, not {SCHEMA_VERSION}")
        path = self.folder / Path(document.arrays).name
        if _sha256(path) != document.sha256:
            raise ValueError(f"{path.name} is damaged")
        return document, load_arrays(path)


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flatten(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Splits an optimiser's state into a JSON part and arrays ``optimizer/<index>/<name>``."""
    state = optimizer.state_dict()
    arrays: dict[str, NDArray[Any]] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                arrays[f"optimizer/{index}/{name}"] = to_array(value)
            else:
                plain.setdefault(str(index), {})[name] = value
    return {"plain": plain}, arrays


def _restore(
    optimizer: torch.optim.Optimizer,
    described: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in described["plain"].items()
    }
    for key, value in arrays.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = torch.from_numpy(np.array(value))
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
