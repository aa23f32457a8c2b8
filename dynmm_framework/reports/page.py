"""``report.html``: one file that holds all of a run's page, styles and charts included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dynmm_framework.reports.content import gather
from dynmm_framework.reports.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment

    from dynmm_framework.engine.results import Run

REPORT_FILE = "report.html"


def render(run: Run) -> str:
    """Returns a run's page as HTML; whatever comes from data is quoted, not interpreted.

    Raises:
        ArtifactError: If a file of the run is missing or damaged.
    """
    content = gather(run)
    return environment().get_template("page.html").render(content=content)


def environment() -> Environment:
    """Returns what renders templates: everything is quoted, and what is undefined is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from dynmm_framework.reports.text import metric_title

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    made.filters["metric_title"] = metric_title
    return made


def write_report(run: Run) -> Path:
    """Writes the page into the run's folder and returns its path.

    Raises:
        ArtifactError: If a file of the run is missing or damaged, or the page cannot be written.
    """
    from dynmm_framework.artifacts.atomic import write_text

    path = run.folder / REPORT_FILE
    write_text(path, render(run))
    return path


def _clean(value: object) -> object:
    if type(value) is not str:  # markup made by the template itself is a subclass of str
        return value
    return "\n".join(printable(line) for line in value.split("\n"))
