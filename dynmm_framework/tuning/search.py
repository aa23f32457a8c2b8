"""A search from a loaded pipeline to its folder: what :func:`dynmm_framework.tune` calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.config.search import SearchBlock
from dynmm_framework.engine.progress import Display
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ConfigError, Problem
from dynmm_framework.tuning.display import SearchView
from dynmm_framework.tuning.driver import Prepared, open_folder, prepare, search
from dynmm_framework.tuning.engine import address_of, check_resources, choose_engine
from dynmm_framework.tuning.executor import Executor
from dynmm_framework.tuning.local import LocalExecutor
from dynmm_framework.tuning.records import BEST_FILE, RAY_FOLDER, SearchFolder, SearchManifest
from dynmm_framework.tuning.results import Search, report
from dynmm_framework.tuning.sampler import import_optuna


def run_search(
    loaded: LoadedPipeline,
    *,
    runs_dir: Path,
    trials: int | None = None,
    address: str | None = None,
    resume: bool = False,
    test: bool = True,
    offline: bool = False,
    console: Console | None = None,
) -> Search:
    """Searches, and runs the best pipeline once on test users.

    See :func:`dynmm_framework.tune`.
    """
    if loaded.pipeline.search is None:
        raise ConfigError(
            [Problem("there is no search block", file=loaded.source)],
            hint="Add one, at least `search: {space: default}`; see docs/tuning.md.",
        )
    block = _with(loaded.pipeline.search, trials=trials, address=address)
    import_optuna()
    engine, line = choose_engine(block)
    where = address_of(loaded, block)
    check_resources(loaded, block, engine, where)
    display = Display(console)
    if line:
        display.line(line)
    prepared = prepare(loaded, block, runs_dir=runs_dir, offline=offline, console=console)
    open_folder(prepared.folder, resume=resume)
    with prepared.folder.held():
        with _executor(prepared, engine, where) as executor, SearchView(console) as view:
            manifest = search(prepared, executor, viewer=view)
        if test and manifest.best is not None:
            manifest = _tested(prepared, manifest, console)
    return Search.load(prepared.folder.path)


def _with(block: SearchBlock, **given: Any) -> SearchBlock:
    """Returns the block with what the call says, checked again."""
    changed = {key: value for key, value in given.items() if value is not None}
    try:
        return SearchBlock.model_validate({**block.model_dump(mode="json"), **changed})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        place = ".".join(map(str, ("search", *error.errors()[0]["loc"])))
        raise ConfigError([Problem(message, path=place)]) from error


@contextmanager
def _executor(prepared: Prepared, engine: str, address: str) -> Iterator[Executor]:
    if engine == "local":
        quiet = replace(prepared.surroundings, display=Display(None))
        yield LocalExecutor(prepared.block.scheduler, quiet)
        return
    from dynmm_framework.tuning.cluster import RayTuneExecutor

    executor = RayTuneExecutor(
        prepared.block,
        prepared.loaded.space,
        address=address,
        device=prepared.loaded.pipeline.compute.device,
        folder=prepared.folder.path / RAY_FOLDER,
    )
    executor.open()
    try:
        yield executor
    finally:
        executor.close()


def _tested(
    prepared: Prepared, manifest: SearchManifest, console: Console | None
) -> SearchManifest:
    """Runs ``best.yaml`` as anyone would: the only look at the test users."""
    folder: SearchFolder = prepared.folder
    done = manifest.test.get("trial") if folder.exists else None
    if done == manifest.best:
        return manifest
    loaded = load_pipeline(folder.path / BEST_FILE, catalogue=prepared.loaded.catalogue)
    loaded = replace(loaded, name=prepared.loaded.name)
    finished = run(loaded, runs_dir=prepared.runs_dir, offline=prepared.offline, console=console)
    label, protocols = next(iter(finished.metrics["recommenders"].items()))
    protocol, values = next(iter(protocols.items()))
    test = {
        "trial": manifest.best,
        "run": finished.id,
        "recommender": label,
        "protocol": protocol,
        "metrics": {name: found["mean"] for name, found in values.items()},
    }
    if finished.metrics.get("stream"):
        test["stream"] = finished.metrics["stream"].get("means", {})
    manifest = manifest.model_copy(update={"test": test})
    folder.write(manifest)
    report(folder, manifest, folder.trials())
    return manifest
