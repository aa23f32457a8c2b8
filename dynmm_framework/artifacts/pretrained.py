"""Models of the transformers library from local folders: strictly, quietly, without their code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.weights import refuse_misfit, weights_file
from dynmm_framework.errors import ArtifactError


def load_strictly(
    factory: Any, folder: Path, *, unused: Iterable[str] = (), **settings: Any
) -> Any:
    """Loads a model from a folder, and refuses weights that are missing or of another shape.

    The library itself draws what a checkpoint lacks at random, with no more than a warning.

    Args:
        factory: A class with ``from_pretrained``, such as ``transformers.AutoModel``.
        folder: Holds ``config.json`` and safetensors weights.
        unused: Parts of names of weights that may be missing, since the caller does not use them.
        **settings: Passed to ``from_pretrained``.

    Raises:
        ArtifactError: If the folder lacks a file, the architecture is unknown or needs code of its
            own, or the weights do not fit; names the file.
    """
    index = folder / "model.safetensors.index.json"
    file = index if index.is_file() else weights_file(folder)
    if not (folder / "config.json").is_file():
        raise ArtifactError(
            f"{folder} has no config.json, which says what kind of model its weights are",
            hint="Download the whole repository, or name the folder that holds it.",
        )
    try:
        with quiet_transformers():
            model, info = factory.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **settings,
            )
    except Exception as error:
        raise unloadable(folder, error) from error
    unused = tuple(unused)
    problems = [
        f"no {name}"
        for name in sorted(info["missing_keys"])
        if not any(part in name for part in unused)
    ]
    for name, found, wanted in sorted(info["mismatched_keys"]):
        problems.append(f"{name} is {'×'.join(map(str, found))}, not {'×'.join(map(str, wanted))}")
    refuse_misfit(problems, file=file, architecture=f"{folder / 'config.json'} describes")
    return model


def unloadable(folder: Path, error: Exception) -> ArtifactError:
    """Returns the error that explains why a folder cannot be loaded as a model."""
    reason = (str(error).strip().splitlines() or ["no message"])[0]
    return ArtifactError(
        f"{folder} cannot be loaded: {type(error).__name__}: {reason}",
        hint="It needs config.json and safetensors weights of a model that the installed "
        "transformers knows, and a tokenizer for texts; code in it is never run.",
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps the library's bars and reports of loading off the screen; errors are raised anyway."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
