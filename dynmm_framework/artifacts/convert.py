"""Checkpoints of PyTorch become safetensors: the one door for files that hold pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynmm_framework.artifacts.atomic import (
    atomic_path,
    read_json,
    storage_errors,
    write_json,
)
from dynmm_framework.artifacts.digests import digest_file
from dynmm_framework.artifacts.locks import waiting_lock
from dynmm_framework.artifacts.sources import default_cache
from dynmm_framework.artifacts.weights import refuse_pointer, tensor_shapes
from dynmm_framework.errors import ArtifactError

if TYPE_CHECKING:
    import torch

SCHEMA_VERSION = 1
_NESTED = ("state_dict", "model", "model_state_dict", "model_state", "net", "params", "weights")
"""Names under which trainers keep the weights beside optimisers and counters."""


@dataclass(frozen=True)
class Conversion:
    """What a conversion gave.

    Attributes:
        path: The safetensors file.
        index: A JSON file beside it: source, types and shapes in the checkpoint's own order.
        tensors: Shapes by name, in that order, which safetensors itself does not keep.
        left_out: Entries of the checkpoint that are no tensors.
    """

    path: Path
    index: Path
    tensors: Mapping[str, tuple[int, ...]]
    left_out: tuple[str, ...] = ()


def convert_checkpoint(source: Path, target: Path, *, key: str = "") -> Conversion:
    """Converts a PyTorch checkpoint to a safetensors file, with an index beside it.

    Only tensors, numbers, texts and their containers are read; a checkpoint that would build any
    other object is refused, so nothing in it is ever executed.

    Args:
        source: A ``.pt``, ``.pth``, ``.ckpt`` or ``.bin`` file.
        target: The file to write, ``*.safetensors``; one of that name is replaced.
        key: Entry that holds the weights, dotted if it lies deeper; found out by default.

    Raises:
        ArtifactError: If the source is missing, damaged, a Git LFS pointer, or holds code or no
            weights; if the target cannot be written.
    """
    from safetensors.torch import save_file

    if target.suffix != ".safetensors":
        raise ArtifactError(
            f"cannot write {target}: its name must end with .safetensors",
            hint=f"For instance {target.with_suffix('.safetensors')}.",
        )
    entries = _weights(_read(source), source, key)
    tensors = {name: _plain(value) for name, value in entries.items() if _is_dense(value)}
    left_out = tuple(name for name in entries if name not in tensors)
    if not tensors:
        raise ArtifactError(
            f"{source} holds no weights: {_keys(entries)}",
            hint="Name the entry that holds them with --key.",
        )
    digest = digest_file(source)
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    index = target.with_suffix(".json")
    write_json(
        index,
        {
            "schema_version": SCHEMA_VERSION,
            "source": {"file": source.name, "sha256": digest.sha256, "bytes": digest.bytes},
            "left_out": left_out,
            "tensors": {
                name: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": tensor.shape}
                for name, tensor in tensors.items()
            },
        },
    )
    return Conversion(target, index, {n: tuple(t.shape) for n, t in tensors.items()}, left_out)


def converted(source: Path, *, cache: Path | None = None) -> Conversion:
    """Returns a checkpoint's conversion from the cache, where it is made once.

    For files whose content is known, as those of registry records; people convert their own with
    ``dynmm artifact convert``.

    Raises:
        ArtifactError: As :func:`convert_checkpoint`.
    """
    root = (cache or default_cache()) / "converted"
    folder = root / digest_file(source).sha256[:16]
    target = folder / f"{source.stem}.safetensors"
    with waiting_lock(root / ".locks" / f"{folder.name}.lock", f"converts {source.name}"):
        try:
            # The index is written last: with it, the tensors are whole.
            index = read_json(target.with_suffix(".json"))
            order = {name: tuple(entry["shape"]) for name, entry in index["tensors"].items()}
            if tensor_shapes(target) == order:
                return Conversion(target, target.with_suffix(".json"), order)
        except ArtifactError:
            pass
        return convert_checkpoint(source, target)


def _read(source: Path) -> Any:
    import torch

    refuse_pointer(source)
    try:
        # The restricted reader, which refuses whatever is no plain data, and the only use of it.
        return torch.load(source, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:
        text = str(error)
        with storage_errors(source, action="read"), source.open("rb") as file:
            head = file.read(2)
        if not head:
            reason, hint = "it is empty", "Download it again."
        elif head != b"PK" and head[:1] != b"\x80":  # neither an archive nor a pickle
            reason = "it is no PyTorch checkpoint"
            hint = "Name a file that torch.save has written: .pt, .pth, .ckpt or .bin."
        elif "TorchScript" in text:
            reason = "it is a TorchScript program, not a checkpoint of weights"
            hint = "Use the same model's safetensors, or save its state_dict where you trust it."
        elif "WeightsUnpickler" in text or "Weights only load failed" in text:
            reason = "it holds Python objects beside weights, which are never loaded"
            hint = "Save the state_dict alone where you trust the file: torch.save(m.state_dict())."
        else:
            said = (text.splitlines() or [type(error).__name__])[0].partition(". This is an ")[0]
            reason = f"it is no whole PyTorch checkpoint ({said})"
            hint = "Download it again."
        raise ArtifactError(f"cannot convert {source}: {reason}", hint=hint) from error


def _weights(loaded: Any, source: Path, key: str) -> Mapping[str, Any]:
    """Returns the entries that hold the weights."""
    here = loaded
    for part in key.split(".") if key else ():
        if not isinstance(here, Mapping) or part not in here:
            raise ArtifactError(f"{source} has no entry {key!r}: {_keys(here)}")
        here = here[part]
    while not key and isinstance(here, Mapping) and not any(map(_is_dense, here.values())):
        nested = [name for name in _NESTED if isinstance(here.get(name), Mapping)]
        if len(nested) != 1:
            break
        here = here[nested[0]]
    if not isinstance(here, Mapping):
        raise ArtifactError(
            f"{source} holds a {type(here).__name__}, not named tensors",
            hint="Save a state_dict: names to tensors.",
        )
    return {str(name): value for name, value in here.items()}


def _is_dense(value: Any) -> bool:
    import torch

    return (
        isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized
    )


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor with memory of its own; safetensors stores no shared memory."""
    return tensor.detach().clone().contiguous()


def _keys(entries: Any) -> str:
    names = list(entries) if isinstance(entries, Mapping) else []
    return f"its entries are {', '.join(map(str, names[:8]))}" if names else "it has no entries"
