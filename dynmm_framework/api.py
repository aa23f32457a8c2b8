"""The Python API, of the same size as the YAML: load a pipeline, run it, search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from dynmm_framework.config.load import LoadedPipeline
    from dynmm_framework.engine.results import Run
    from dynmm_framework.tuning.results import Search


def run(
    pipeline: LoadedPipeline,
    *,
    runs_dir: Path | str = "runs",
    offline: bool = False,
    console: Console | None = None,
) -> Run:
    """Runs a pipeline, writes its folder with ``report.html``, and returns the run.

    Example::

        run = dynmm.run(dynmm.load_pipeline("quickstart.yaml", overrides=["seed=1"]))
        run.metrics["recommenders"]["sasrec"]["full"]["ndcg@10"]["mean"]
        run.recommend(history=["50", "181"], k=5)

    Args:
        pipeline: A checked pipeline, from :func:`dynmm_framework.load_pipeline`.
        runs_dir: Folder that holds runs and the stage cache.
        offline: Whether to refuse fetching data.
        console: Where to show progress; nothing is shown without one.

    Raises:
        DynmmError: For anything that the user can mend.
    """
    if isinstance(pipeline, str | Path):
        raise TypeError(f"run() takes a loaded pipeline: run(load_pipeline({str(pipeline)!r}))")
    from dynmm_framework.engine.run import run as run_stages
    from dynmm_framework.reports.page import REPORT_FILE, write_report

    finished = run_stages(pipeline, runs_dir=runs_dir, offline=offline, console=console)
    if not (finished.folder / REPORT_FILE).is_file():
        write_report(finished)
    return finished


def tune(
    pipeline: LoadedPipeline,
    *,
    runs_dir: Path | str = "runs",
    trials: int | None = None,
    address: str | None = None,
    resume: bool = False,
    test: bool = True,
    offline: bool = False,
    console: Console | None = None,
) -> Search:
    """Searches for better settings by a pipeline's ``search`` block, and returns the search.

    Trials are judged on validation users alone; the best is run once on test users at the end.
    The search's folder holds ``best.yaml``, an ordinary pipeline, ``trials.jsonl``,
    ``search.json`` and ``report.html``.

    Example::

        search = dynmm.tune(dynmm.load_pipeline("search.yaml"), trials=16)
        search.best.params, search.best.metrics
        run = dynmm.run(dynmm.load_pipeline(search.best_file))

    Args:
        pipeline: A checked pipeline, from :func:`dynmm_framework.load_pipeline`.
        runs_dir: Folder that holds runs, searches and the stage cache.
        trials: Trials in all, in place of ``search.trials``.
        address: Ray cluster, in place of ``search.address``.
        resume: Go on with a search that was begun before.
        test: Whether to run the best pipeline on test users in the end.
        offline: Whether to refuse fetching data.
        console: Where to show progress; nothing is shown without one.

    Raises:
        DynmmError: For anything that the user can mend.
        KeyboardInterrupt: After what is finished was written.
    """
    from dynmm_framework.reports.page import REPORT_FILE, write_report
    from dynmm_framework.tuning.search import run_search

    found = run_search(
        pipeline,
        runs_dir=Path(runs_dir),
        trials=trials,
        address=address,
        resume=resume,
        test=test,
        offline=offline,
        console=console,
    )
    if name := found.manifest.test.get("run"):
        from dynmm_framework.engine.results import Run

        folder = Path(runs_dir) / name
        if not (folder / REPORT_FILE).is_file():
            write_report(Run.load(folder, catalogue=pipeline.catalogue))
    return found
