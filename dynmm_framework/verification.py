"""Runs the pipelines of the registry's numbers again and compares what comes out.

A component's record names numbers, and for each the pipeline that gives it. Verifying is an
ordinary run: what is finished already is found in the stage store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dynmm_framework.artifacts.record_types import ComponentRecord, PipelineRecord, VerifiedMetric
from dynmm_framework.artifacts.records import Record, Registry
from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.config.protocols import AUCProtocol
from dynmm_framework.errors import ArtifactError, ConfigError, Problem
from dynmm_framework.reports.text import DASH
from dynmm_framework.specs import split_metric

if TYPE_CHECKING:
    from rich.console import Console

    from dynmm_framework.engine.results import Run

Status = Literal["met", "exceeded", "missed"]


@dataclass(frozen=True)
class Claim:
    """A number of a record.

    Attributes:
        record: The component's or pipeline's record that holds the number.
        number: The number, and where it is to be had.
    """

    record: ComponentRecord | PipelineRecord
    number: VerifiedMetric

    @property
    def title(self) -> str:
        """Names the record: ``component/sasrec``."""
        return f"{self.record.kind}/{self.record.name}"

    def recommender(self, labels: Sequence[str]) -> str:
        """Returns which recommender of a pipeline it is about: a pipeline's own, or by name."""
        return self.record.name if isinstance(self.record, ComponentRecord) else labels[0]


@dataclass(frozen=True)
class Verdict:
    """A number and what has come of it.

    Attributes:
        claim: The number.
        recommender: Label of the recommender that it is about.
        ours: What the run gave; ``None`` if the metric is undefined there.
        difference: ``ours`` relative to the number, 0.05 for 5 % above; ``None`` as ``ours``.
        status: ``met`` within the tolerance; ``exceeded`` if better by more than it, which is no
            failure; ``missed``.
    """

    claim: Claim
    recommender: str
    ours: float | None
    difference: float | None
    status: Status

    @property
    def percent(self) -> str:
        """The difference as people read it: ``+5.0 %``, or a dash."""
        if self.difference is None:
            return DASH
        return f"{round(100 * self.difference, 1) + 0.0:+.1f} %"  # + 0.0: there is no -0.0


@dataclass(frozen=True)
class Check:
    """A pipeline that is ready to run, and the numbers that it has to give."""

    pipeline: str
    loaded: LoadedPipeline
    claims: tuple[Claim, ...]

    @property
    def command(self) -> str:
        """The command that verifies just this pipeline."""
        return f"dynmm registry verify {self.pipeline}"


@dataclass(frozen=True)
class Verification:
    """A pipeline's run and its verdicts."""

    check: Check
    run: Run
    verdicts: tuple[Verdict, ...]

    @property
    def minutes(self) -> float:
        """What all stages took when they were computed, loading of data included."""
        return sum(stage.seconds for stage in self.run.manifest.stages) / 60

    @property
    def met(self) -> bool:
        """Whether no number is missed."""
        return all(verdict.status != "missed" for verdict in self.verdicts)


def verify(
    *names: str,
    runs_dir: Path | str = "runs",
    data: Path | str | None = None,
    offline: bool = False,
    console: Console | None = None,
    overrides: Sequence[str] = (),
    catalogue: Catalogue | None = None,
) -> list[Verification]:
    """Runs the pipelines behind the numbers of components or pipelines.

    Example::

        for found in verify("popularity", data="~/data"):
            for verdict in found.verdicts:
                print(verdict.claim.number.metric, verdict.ours, verdict.status)

    Args:
        names: Components or pipelines of the registry; all that have numbers if there is none.
        runs_dir: Folder that holds runs and the stage cache.
        data: Folder of data files that are here already; searched with its subfolders.
        offline: Whether to refuse fetching data.
        console: Where to show progress; nothing is shown without one.
        overrides: Settings of ``compute``, such as ``compute.threads=1``.
        catalogue: Where components and records are found; the installed plugins by default.

    Raises:
        DynmmError: For an unknown name, one without numbers, a record that its pipeline does not
            fit, data that cannot be had, and whatever a run raises.
    """
    catalogue = load_catalogue() if catalogue is None else catalogue
    registry = Registry.load(catalogue.record_folders(), strict=False)
    claims = find_claims(registry, [registry.find(name) for name in names] or None)
    checks = prepare(claims, registry, catalogue=catalogue, overrides=overrides)
    return list(
        run_checks(
            checks,
            registry,
            runs_dir=runs_dir,
            data=data,
            offline=offline,
            console=console,
        )
    )


def find_claims(registry: Registry, records: Iterable[Record] | None = None) -> list[Claim]:
    """Returns the numbers of records; of a pipeline also those that components give it.

    Args:
        registry: All records.
        records: Components and pipelines; all if ``None``.

    Raises:
        ArtifactError: If one of the records has no numbers; names those that have.
    """
    known = [
        Claim(record, number)
        for record in registry.records()
        if isinstance(record, ComponentRecord | PipelineRecord)
        for number in record.metrics
    ]
    if records is None:
        return known
    chosen: list[Claim] = []
    without: list[Record] = []
    for record in records:
        found = [
            claim
            for claim in known
            if claim.record is record
            or (record.kind == "pipeline" and claim.number.pipeline == record.name)
        ]
        chosen += [claim for claim in found if claim not in chosen]
        without += [] if found else [record]
    if without:
        names = " and ".join(f"{record.kind} {record.name}" for record in without)
        have = dict.fromkeys(
            claim.record.name for claim in known if claim.record.kind == "component"
        )
        raise ArtifactError(
            f"the registry has no numbers of {names}, so there is nothing to verify",
            hint=f"Components with numbers: {', '.join(have) or 'none'}.",
        )
    return chosen


def prepare(
    claims: Iterable[Claim],
    registry: Registry,
    *,
    catalogue: Catalogue,
    overrides: Sequence[str] = (),
) -> list[Check]:
    """Loads the pipelines of numbers, each once, and checks that they can give them.

    Raises:
        ArtifactError: If a pipeline or a dataset has no record.
        ConfigError: If a pipeline is wrong, or is not one that gives the numbers; every problem.
    """
    by_pipeline: dict[str, list[Claim]] = {}
    for claim in claims:
        by_pipeline.setdefault(claim.number.pipeline, []).append(claim)
    checks: list[Check] = []
    problems: list[Problem] = []
    for name, group in by_pipeline.items():
        loaded = load_pipeline(
            registry.pipeline_file(name), overrides=overrides, catalogue=catalogue
        )
        for claim in group:
            registry.find(claim.number.dataset, "dataset")
            if message := _misfit(claim, loaded):
                file = str(registry.path(claim.record))
                problems.append(Problem(message, file=file, path="metrics"))
        checks.append(Check(name, loaded, tuple(group)))
    if problems:
        raise ConfigError(problems, hint="Correct the record, or the pipeline that it names.")
    return checks


def _misfit(claim: Claim, loaded: LoadedPipeline) -> str:
    """Says why a pipeline cannot give a number; empty if it can."""
    number, evaluate = claim.number, loaded.pipeline.evaluate
    labels = list(loaded.pipeline.recommenders)
    label = claim.recommender(labels)
    protocols = [protocol.name for protocol in evaluate.protocols]
    metrics = [
        f"{spec.name}@{k}" if spec.at_cutoff else spec.name
        for spec in loaded.metrics
        for k in (evaluate.at if spec.at_cutoff else [0])
    ]
    judging = [block.name for block in evaluate.protocols if isinstance(block, AUCProtocol)]
    if number.protocol in judging:  # its metrics are its own, whatever the pipeline asks for
        metrics = ["auc", "uauc"]
    for what, value, offered in (
        ("recommender", label, labels),
        ("protocol", number.protocol, protocols),
        ("metric", number.metric, metrics),
    ):
        if value not in offered:
            return (
                f"the pipeline {number.pipeline} has no {what} {value!r}; "
                f"it has {', '.join(offered)}"
            )
    return ""


def run_checks(
    checks: Sequence[Check],
    registry: Registry,
    *,
    runs_dir: Path | str,
    data: Path | str | None = None,
    offline: bool = False,
    console: Console | None = None,
) -> Iterator[Verification]:
    """Gets all data first, then runs one pipeline after the other.

    Raises:
        DynmmError: As :func:`verify`.
    """
    from dynmm_framework.api import run
    from dynmm_framework.engine.context import Surroundings
    from dynmm_framework.engine.progress import Display

    display = Display(console)
    for name in dict.fromkeys(c.number.dataset for check in checks for c in check.claims):
        if registry.find_files(f"dataset/{name}").layouts:  # others are known to their readers
            Surroundings(
                checks[0].loaded.catalogue,
                display,
                offline,
                folder=None if data is None else Path(data),
            ).fetch(f"dataset/{name}")
    for number, check in enumerate(checks, start=1):
        display.line(f"pipeline {check.pipeline} ({number}/{len(checks)})")
        finished = run(check.loaded, runs_dir=runs_dir, offline=offline, console=console)
        yield Verification(check, finished, judge(check, finished.metrics))


def judge(check: Check, metrics: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Compares the numbers of a pipeline with those of its run.

    Args:
        check: The pipeline.
        metrics: Content of the run's ``metrics.json``.
    """
    labels = list(metrics["recommenders"])
    verdicts = []
    for claim in check.claims:
        number, label = claim.number, claim.recommender(labels)
        values = metrics["recommenders"].get(label, {}).get(number.protocol, {})
        ours = values.get(number.metric, {}).get("mean")
        family, _ = split_metric(number.metric)
        higher = bool(metrics.get("higher_is_better", {}).get(family, True))
        difference = None if ours is None else _relative(ours, number.value)
        status = _status(difference, number.tolerance, higher_is_better=higher)
        verdicts.append(Verdict(claim, label, ours, difference, status))
    return tuple(verdicts)


def _relative(ours: float, number: float) -> float:
    if number:
        return (ours - number) / abs(number)
    return math.copysign(math.inf, ours) if ours else 0.0


def _status(difference: float | None, tolerance: float, *, higher_is_better: bool) -> Status:
    if difference is None:
        return "missed"
    if abs(difference) <= tolerance + 1e-12:  # a bound that decimals cannot write exactly
        return "met"
    return "exceeded" if (difference > 0) == higher_is_better else "missed"
