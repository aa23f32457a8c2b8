"""Pretrained weights: where they are, what they are, and whether they are what was asked for.

Nothing here imports torch, so that a plan can tell weights apart without loading them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from dynmm_framework.artifacts.arrays import read_metadata
from dynmm_framework.artifacts.atomic import read_json, storage_errors
from dynmm_framework.artifacts.digests import digest_file
from dynmm_framework.artifacts.record_types import ModelRecord
from dynmm_framework.artifacts.records import Registry
from dynmm_framework.config.blocks import Block
from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import Context
from dynmm_framework.specs import fold

Origin = Literal["record", "local", "hub"]
"""A record of the registry, a file or folder of one's own, a repository of the model hub."""

KEPT = ("*.safetensors", "*.json", "*.txt", "*.model", "*.bpe", "*.jinja")
"""What is taken from a repository: tensors, settings, vocabularies; nothing that is code."""
PICKLED = (".bin", ".ckpt", ".pt", ".pth")
"""Endings of checkpoints that hold pickles."""
CONVERT = "Convert it first: dynmm artifact convert {file} -o {target}"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BRANCHES = ("main", "master")
_POINTER = b"version https://git-lfs"
_SHOWN = 5


class WeightsConfig(Block):
    """Settings of a component that loads pretrained weights; narrow ``model`` and document it."""

    model: str | None = None
    """The weights: a model record of the registry (``dynmm registry list --kind model``), a file or
    folder (with a slash: ``./weights``), or ``owner/name`` on the Hugging Face hub.
    """
    revision: str | None = None
    """Commit or tag of a hub repository; required there, for a branch would change under cached
    results.
    """

    @model_validator(mode="after")
    def _revision_fits_model(self) -> WeightsConfig:
        where = origin_of(self.model) if self.model is not None else "local"
        if where == "hub" and self.revision is None:
            raise ValueError(
                f"model {self.model} is on the hub: name a revision (commit or tag), for a branch "
                "would change under cached results; a folder of your own is written ./folder"
            )
        if where == "hub" and self.revision in _BRANCHES:
            raise ValueError(
                f"revision {self.revision} is a branch, which would change under cached results; "
                "name a commit or a tag"
            )
        if where != "hub" and self.revision is not None:
            raise ValueError(f"a revision belongs to a model on the hub, not to {self.model!r}")
        return self

    def fingerprint(self, registry: Registry) -> str:
        """Returns a digest of what the weights are; see :func:`fingerprint`."""
        return fingerprint(self.model, self.revision, registry=registry) if self.model else ""


def origin_of(model: str) -> Origin:
    """Tells what kind of place a model's name means.

    A plain name such as ``all_minilm_l6_v2`` is a record; what exists, and what starts with
    ``/``, ``.`` or ``~``, is local; ``owner/name`` is on the hub.
    """
    if model.startswith(("/", ".", "~")):
        return "local"
    if model == fold(model):
        return "record"
    if Path(model).exists() or not _HUB_ID.fullmatch(model):
        return "local"
    return "hub"


def locate(model: str, revision: str | None, ctx: Context, *, instead: str = "") -> Path:
    """Returns the file or folder of a model's weights, fetched if need be, and checked.

    Args:
        model: See :func:`origin_of`.
        revision: Commit or tag of a hub repository.
        ctx: The stage's context; fetches records.
        instead: What else can be used if the weights cannot be had, for the error's hint.

    Raises:
        ArtifactError: If there are none, a file is damaged, cut off or a Git LFS pointer, or a
            repository holds pickles only; names the file and the fix.
    """
    where = origin_of(model)
    if where == "record":
        found = ctx.fetch(model)
    elif where == "hub":
        found = _from_hub(model, revision, ctx, instead)
    else:
        found = Path(model).expanduser()
        if not found.exists():
            near = f" {instead}" if instead else ""
            raise ArtifactError(
                f"there are no weights at {found}: no such file or folder",
                hint="Name a file, a folder, a record (dynmm registry list --kind model), or"
                f" owner/name on the hub.{near}",
            )
    check_weights(found)
    return found


def fingerprint(model: str, revision: str | None, *, registry: Registry) -> str:
    """Returns the SHA-256 of what determines a model's weights, without loading them.

    Args:
        model: See :func:`origin_of`.
        revision: Commit or tag of a hub repository.
        registry: Knows the digests of records.

    Returns:
        For a record a digest of its files' digests, for the hub one of id and revision, for local
        files one of their contents, wherever they lie.

    Raises:
        ArtifactError: If there is no such record, or no such file.
    """
    where = origin_of(model)
    parts: list[Any] = [where]
    if where == "record":
        try:
            record = registry.find(model, "model")
        except ArtifactError as error:
            raise ArtifactError(
                error.message,
                hint=f"{error.hint}\n  A folder of your own is written ./{model}, a repository of "
                "the hub owner/name.",
            ) from error
        assert isinstance(record, ModelRecord)  # the kind asked for
        parts += [
            {name: digest.sha256 for name, digest in files.items()} for files in record.layouts
        ]
    elif where == "hub":
        parts += [model, revision]
    else:
        path = Path(model).expanduser()
        with storage_errors(path, action="read"):
            path.stat()
        parts += [[name, digest_file(file).sha256] for name, file in _files_of(path)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check_weights(path: Path) -> None:
    """Looks at the headers of all safetensors files at ``path``, a file or a folder.

    Raises:
        ArtifactError: If one is damaged, cut off or a Git LFS pointer, or a part that an index
            names is missing.
    """
    for _, file in _files_of(path):
        if file.suffix == ".safetensors":
            tensor_shapes(file)
        elif file.name.endswith(".safetensors.index.json"):
            parts = set(read_json(file).get("weight_map", {}).values())
            absent = sorted(part for part in parts if not (file.parent / part).exists())
            if absent:
                raise ArtifactError(
                    f"{file} names parts that are missing: {_listed(absent)}",
                    hint="Download all parts of the checkpoint again.",
                )
        else:
            refuse_pointer(file)


def refuse_pointer(path: Path) -> None:
    """Refuses what a clone without Git LFS leaves in place of a large file.

    Raises:
        ArtifactError: If ``path`` is a Git LFS pointer, or cannot be read.
    """
    with storage_errors(path, action="read"), path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ArtifactError(
                f"cannot read {path}: it is a Git LFS pointer, not the file itself",
                hint="Fetch the real file with `git lfs pull`.",
            )


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a safetensors file, without reading them.

    Raises:
        ArtifactError: If it is damaged, cut off or a Git LFS pointer.
    """
    from safetensors import safe_open

    read_metadata(path)
    with safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def weights_file(path: Path, *, preferred: Sequence[str] = ("model.safetensors",)) -> Path:
    """Returns the one safetensors file at ``path``, a file or a folder.

    Args:
        path: What :func:`locate` returned.
        preferred: Names that are taken first if a folder holds several.

    Raises:
        ArtifactError: If there is none, with the way to convert what there is; or if there are
            several and none is preferred.
    """
    files = [path] if path.is_file() else sorted(path.iterdir())
    found = [file for file in files if file.suffix == ".safetensors"]
    for name in preferred:
        found = [file for file in found if file.name == name] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = _listed([file.name for file in found])
        raise ArtifactError(
            f"{path} holds several checkpoints: {names}", hint="Name the file itself in model."
        )
    pickled = [file for file in files if file.suffix in PICKLED]
    if pickled:
        target = pickled[0].with_suffix(".safetensors")
        raise ArtifactError(
            f"{pickled[0]} is a pickled checkpoint, which could run code when it is loaded",
            hint=CONVERT.format(file=pickled[0], target=target),
        )
    held = _listed([file.name for file in files]) or "nothing"
    raise ArtifactError(
        f"{path} has no weights: no *.safetensors file (found: {held})",
        hint="Name a safetensors file, or the folder of one.",
    )


def check_fit(
    wanted: Mapping[str, Sequence[int]],
    found: Mapping[str, Sequence[int]],
    *,
    file: Path,
    architecture: str,
) -> None:
    """Compares a checkpoint's tensors with those of a model.

    Args:
        wanted: Shapes of the model's tensors by name.
        found: Shapes of the file's tensors by name.
        file: The file, for the message.
        architecture: The model, for the message.

    Raises:
        ArtifactError: If names or shapes differ; the file is of another architecture.
    """
    problems = [
        f"{name} is {_shape(found[name])}, not {_shape(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    problems += [f"no {name}" for name in wanted if name not in found]
    problems += [f"{name} is not part of the model" for name in found if name not in wanted]
    refuse_misfit(problems, file=file, architecture=architecture)


def refuse_misfit(problems: Sequence[str], *, file: Path, architecture: str) -> None:
    """Refuses weights that do not fit their model.

    Raises:
        ArtifactError: If there are ``problems``; names the first few.
    """
    if problems:
        raise ArtifactError(
            f"{file} is a checkpoint of another architecture than {architecture}: "
            f"{_listed(problems, separator='; ')}",
            hint="Name the architecture that the checkpoint was made for, or other weights.",
        )


def _from_hub(repository: str, revision: str | None, ctx: Context, instead: str) -> Path:
    other = f"download the repository elsewhere and name its folder (./{repository})"
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ArtifactError(
            f"weights {repository} are on the hub, and the package huggingface_hub is missing",
            hint="pip install 'dynmm-framework[text]'",
        ) from error
    if not ctx.offline:
        ctx.log(f"looking up {repository}@{revision} on the hub")
    try:
        folder = Path(
            library.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(KEPT),
                local_files_only=ctx.offline,
            )
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = f"cannot be had from the hub: {reason}"
        first = "Check the network, name and revision"
        if ctx.offline:  # the library's own advice is to change its arguments
            reason = "are not in the hub's cache, and fetching is not allowed (offline)"
            first = "Run once without --offline"
        raise ArtifactError(
            f"weights {repository}@{revision} {reason}",
            hint=f"{first}, or {other}." + (f"\n  {instead}" if instead else ""),
        ) from error
    if not any(folder.rglob("*.safetensors")):
        names: list[str] = []
        with suppress(Exception):  # only for the message
            names = list(library.list_repo_files(repository, revision=revision))
        pickled = [name for name in names if name.endswith(PICKLED)]
        what = f"; it has {_listed(pickled)}" if pickled else ""
        raise ArtifactError(
            f"weights {repository}@{revision}: the repository has no safetensors file{what}, and "
            "pickles are never loaded from the hub",
            hint="Look for a revision with safetensors (often refs/convert/safetensors, by its "
            "commit), or download and convert: dynmm artifact convert FILE -o model.safetensors",
        )
    return folder


def _files_of(path: Path) -> list[tuple[str, Path]]:
    """Returns the files that make up a model, by their path inside its folder."""
    if path.is_file():
        return [(path.name, path)]
    found: dict[str, Path] = {}
    for pattern in (*KEPT, "*.gguf", *(f"*{ending}" for ending in PICKLED)):
        for file in path.rglob(pattern):
            name = file.relative_to(path).as_posix()
            if file.is_file() and not any(part.startswith(".") for part in name.split("/")):
                found[name] = file
    return sorted(found.items())


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "a number"


def _listed(names: Sequence[str], *, separator: str = ", ") -> str:
    more = f"{separator}{len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more
