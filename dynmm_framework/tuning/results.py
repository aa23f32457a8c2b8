"""What a search gave: the best pipeline as a file, the front, and a reader of a search's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.atomic import write_text
from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.errors import ArtifactError
from dynmm_framework.reports.search import SEARCH_REPORT, write_search_report
from dynmm_framework.reports.text import as_yaml, number
from dynmm_framework.tuning.records import (
    BEST_FILE,
    FRONT_FOLDER,
    SearchFolder,
    SearchManifest,
    TrialRecord,
)
from dynmm_framework.tuning.sampler import best_of, front_of
from dynmm_framework.tuning.trial import best_settings


@dataclass(frozen=True)
class Search:
    """A search's folder, read.

    Attributes:
        folder: The folder.
        manifest: What was searched and what came of it.
        trials: All trials that ended, by number.
    """

    folder: Path
    manifest: SearchManifest
    trials: tuple[TrialRecord, ...]

    @classmethod
    def load(cls, folder: Path | str) -> Search:
        """Reads a search's folder: JSON alone, so a foreign one does no harm.

        Raises:
            ArtifactError: If it is none, or damaged.
        """
        found = SearchFolder(Path(folder))
        return cls(found.path, found.manifest(), tuple(found.trials()))

    @property
    def id(self) -> str:
        return self.manifest.search

    @property
    def best(self) -> TrialRecord | None:
        """The finished trial with the best value of the first objective."""
        return best_of(self.trials, self.manifest.objectives[0])

    @property
    def best_file(self) -> Path:
        """The best trial's pipeline.

        Raises:
            ArtifactError: If no trial was finished.
        """
        path = self.folder / BEST_FILE
        if not path.is_file():
            raise ArtifactError(
                f"no trial of {self.id} was finished, so there is no {BEST_FILE}",
                hint="trials.jsonl in its folder has the reason of every trial.",
            )
        return path

    @property
    def report(self) -> Path:
        return self.folder / SEARCH_REPORT


def write_results(
    loaded: LoadedPipeline,
    folder: SearchFolder,
    manifest: SearchManifest,
    trials: Sequence[TrialRecord],
    *,
    importance: Mapping[str, float],
) -> SearchManifest:
    """Writes ``best.yaml``, the front, ``search.json`` and ``report.html``.

    Returns:
        The manifest as it was written.

    Raises:
        ArtifactError: If something cannot be written.
    """
    objectives = manifest.objectives
    best = best_of(trials, objectives[0])
    front = front_of(trials, objectives) if len(objectives) > 1 else []
    wanted = {BEST_FILE: best} if best is not None else {}
    for trial in trials:
        if trial.number in front:
            wanted[f"{FRONT_FOLDER}/trial-{trial.number}.yaml"] = trial
    for name, trial in wanted.items():
        write_text(folder.path / name, _pipeline(loaded, manifest, trial))
    for path in folder.files():  # of an earlier sitting, beaten since
        if path.relative_to(folder.path).as_posix() not in wanted:
            path.unlink()
    manifest = manifest.model_copy(
        update={
            "best": best.number if best is not None else None,
            "front": front,
            "importance": dict(importance),
            "test": manifest.test if best and manifest.test.get("trial") == best.number else {},
        }
    )
    folder.write(manifest)
    report(folder, manifest, trials)
    return manifest


def report(folder: SearchFolder, manifest: SearchManifest, trials: Sequence[TrialRecord]) -> Path:
    """Writes the page of a search and returns its path.

    Raises:
        ArtifactError: If it cannot be written.
    """
    plain = [trial.model_dump(mode="json") for trial in trials]
    return write_search_report(folder.path, manifest.model_dump(mode="json"), plain)


def _pipeline(loaded: LoadedPipeline, manifest: SearchManifest, trial: TrialRecord) -> str:
    metric = manifest.objectives[0].name
    reached = ", ".join(f"{name} {number(value)}" for name, value in trial.metrics.items())
    # A value of several lines, such as a prompt's template, must not end the comment.
    params = "\n".join(f"#   {p}: {' '.join(str(v).split())}" for p, v in trial.params.items())
    head = (
        f"# Trial {trial.number} of {manifest.search}; on {trial.users:,} validation users:"
        f" {reached}.\n# What was found, the rest being as in {manifest.source or 'the pipeline'}:"
        f"\n{params}\n"
    )
    settings: dict[str, Any] = best_settings(loaded, metric, trial.params)
    return head + as_yaml(settings)
