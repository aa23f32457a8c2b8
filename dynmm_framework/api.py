"""The Python API, of the same size as the YAML: load a pipeline, run it, ask the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from dynmm_framework.config.load import LoadedPipeline
    from dynmm_framework.engine.results import Run


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
