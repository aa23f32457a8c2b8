"""Content keys: short digests of everything that a stage's result depends on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynmm_framework.specs import Component

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dynmm_framework.artifacts.records import Registry
    from dynmm_framework.config.content import MediaBlock
    from dynmm_framework.config.load import LoadedPipeline
    from dynmm_framework.config.parts import Part

NUMERICAL_ROOMS: Mapping[str, tuple[str, ...]] = {
    "data": ("dynmm_framework.data",),
    "split": ("dynmm_framework.data",),
    "candidates": ("dynmm_framework.data",),
    "encode": ("dynmm_framework.features",),
    "fit": (
        "dynmm_framework.latents",
        "dynmm_framework.training",
        "dynmm_framework.evaluation",
    ),
    "align": (
        "dynmm_framework.latents",
        "dynmm_framework.training",
        "dynmm_framework.evaluation",
    ),
    "prompt": (
        "dynmm_framework.language",
        "dynmm_framework.latents",
        "dynmm_framework.training",
        "dynmm_framework.evaluation",
    ),
    "evidence": (
        "dynmm_framework.explain.records",
        "dynmm_framework.explain.source",
        "dynmm_framework.language.titles",
        "dynmm_framework.latents",
        "dynmm_framework.training",
    ),
    "rank": ("dynmm_framework.evaluation",),
    "explain": (
        "dynmm_framework.explain",
        "dynmm_framework.language",
        "dynmm_framework.evaluation",
    ),
    "stream": ("dynmm_framework.online", "dynmm_framework.data", "dynmm_framework.evaluation"),
    "robustness": ("dynmm_framework.evaluation",),
}
"""Packages of the core whose code decides what a kind of stage computes."""
PART_ROOMS: Mapping[str, tuple[str, ...]] = {
    "language_model": ("dynmm_framework.language",),
    "encoder": ("dynmm_framework.features",),
}
"""Packages of the core whose code decides what a part of some kind does for its owner."""


@cache
def code_digest(package: str) -> str:
    """Returns a digest of a package's Python files, found without importing the package.

    A version number alone would serve stale results to whoever edits a plugin in place.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a script's own module has no spec
        file = getattr(sys.modules.get(package), "__file__", None)
        files = [Path(file)] if file else []
    else:
        if spec is None or spec.origin is None:
            return ""
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def component_digest(component: Component) -> str:
    """Returns a digest of the code that implements a component: its target's folder."""
    module = component.spec.target.partition(":")[0]
    package = module.rpartition(".")[0] or module
    return code_digest(package)


def encoder_parts(loaded: LoadedPipeline, label: str, registry: Registry) -> dict[str, Any]:
    """Returns all that decides an encoder's vectors: provider, code, settings, weights.

    Args:
        loaded: The pipeline.
        label: The encoder, as ``encoders/text``.
        registry: Knows the digests of weights that settings name.

    Raises:
        ArtifactError: If a file of weights that the settings name does not exist.
    """
    return _digests(loaded.components[label], loaded.configs[label], registry)


def part_digests(parts: Mapping[str, Part], registry: Registry) -> dict[str, Any]:
    """Returns all that decides what a component's parts do, as an entry ``parts`` of its key.

    Args:
        parts: The parts by their place in the component's settings.
        registry: Knows the digests of weights that settings name.

    Returns:
        Nothing for a component without parts.

    Raises:
        ArtifactError: If weights that a part's settings name are not known, or not there.
    """
    found = {
        place: {
            **_digests(part.component, part.config, registry),
            "rooms": [code_digest(room) for room in PART_ROOMS.get(part.component.kind, ())],
        }
        for place, part in parts.items()
    }
    return {"parts": found} if found else {}


def _digests(component: Component, config: BaseModel, registry: Registry) -> dict[str, Any]:
    weights = getattr(config, "fingerprint", None)
    return {
        "identity": component.identity,
        "code": component_digest(component),
        "config": config.model_dump(mode="json"),
        "weights": weights(registry) if callable(weights) else "",
    }


def media_digest(media: MediaBlock) -> str:
    """Returns a digest of names, sizes and times of the files that a pattern may mean.

    Raises:
        ConfigError: If the pattern names no item.
    """
    from dynmm_framework.features.locate import possible_files

    digest = hashlib.sha256(media.pattern.encode())
    for name, stat in possible_files(media.pattern, folder=media.folder):
        line = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def content_key(parts: Mapping[str, Any]) -> str:
    """Returns the sha256 of plain data in a canonical form, as 64 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
