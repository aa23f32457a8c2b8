"""Every hook of the framework.

A plugin is a light module named by an entry point of the group ``dynmm_framework.plugins``; its
functions are marked with :data:`hookimpl`. Hooks receive keyword arguments and may declare fewer
than they are offered. Three families exist:

* *collecting* hooks hand over records. The core calls each plugin on its own, so an exception
  names and disables that plugin and leaves the rest standing.
* *first result wins*: plugins are asked in turn until one does not return ``None``. An exception
  ends the operation that asked.
* *observers* are told what happened. Their result is ignored, and an exception in one is logged
  as a warning and never ends a run.

Hook wrappers are not supported, since they would see the results of other plugins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from dynmm_framework.specs import ComponentSpec, MetricSpec

if TYPE_CHECKING:
    import click

    from dynmm_framework.protocols import Tracker

PROJECT = "dynmm"
ENTRY_POINT_GROUP = "dynmm_framework.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin module as the implementation of the hook of the same name."""


# Collecting hooks: what exists.


@hookspec
def dynmm_register_backbones() -> Iterable[ComponentSpec]:
    """Registers collaborative-filtering backbones.

    Called once for each plugin, when the catalogue is built. The target implements
    :class:`~dynmm_framework.protocols.Backbone`. ``None`` or an empty iterable registers
    nothing; an exception disables the plugin and is shown by ``dynmm plugins list``.
    """


@hookspec
def dynmm_register_encoders() -> Iterable[ComponentSpec]:
    """Registers modality encoders (:class:`~dynmm_framework.protocols.ModalityEncoder`) and
    readers of features that exist already (:class:`~dynmm_framework.protocols.FeatureReader`).

    Called, and failing, like :func:`dynmm_register_backbones`.
    """


@hookspec
def dynmm_register_adapters() -> Iterable[ComponentSpec]:
    """Registers adapters (:class:`~dynmm_framework.protocols.Adapter`).

    Each record names its ``slot``: ``align``, ``online`` or ``prompt``; a record without one is
    refused and its plugin disabled. Called, and failing, like :func:`dynmm_register_backbones`.
    """


@hookspec
def dynmm_register_evidence_extractors() -> Iterable[ComponentSpec]:
    """Registers evidence extractors (:class:`~dynmm_framework.protocols.EvidenceExtractor`).

    Called, and failing, like :func:`dynmm_register_backbones`.
    """


@hookspec
def dynmm_register_baselines() -> Iterable[ComponentSpec]:
    """Registers recommenders to compare with (:class:`~dynmm_framework.protocols.Recommender`).

    Called, and failing, like :func:`dynmm_register_backbones`.
    """


@hookspec
def dynmm_register_language_models() -> Iterable[ComponentSpec]:
    """Registers frozen language models (:class:`~dynmm_framework.protocols.LanguageModel`).

    Called, and failing, like :func:`dynmm_register_backbones`.
    """


@hookspec
def dynmm_register_datasets() -> Iterable[ComponentSpec]:
    """Registers dataset readers (:class:`~dynmm_framework.protocols.DatasetReader`).

    Called, and failing, like :func:`dynmm_register_backbones`.
    """


@hookspec
def dynmm_register_metrics() -> Iterable[MetricSpec]:
    """Registers ranking metrics (:class:`~dynmm_framework.protocols.Metric`).

    Two plugins that register one name are an error when a pipeline asks for that metric. Called,
    and failing, like :func:`dynmm_register_backbones`.
    """


@hookspec
def dynmm_register_records() -> Iterable[Path]:
    """Registers folders of registry records (YAML files, searched recursively).

    Called, and failing, like :func:`dynmm_register_backbones`. A folder that does not exist is
    shown as a warning by ``dynmm plugins list`` and skipped.
    """


@hookspec
def dynmm_register_commands(cli: click.Group) -> None:
    """Adds commands to ``dynmm``.

    Called when the command line starts, with the root group. A command that replaces an existing
    one is refused. The module must stay light: it is imported for ``dynmm --help`` too. An
    exception disables the plugin's commands and is shown as a warning.

    Args:
        cli: The root group; use ``@cli.command()``.
    """


# First result wins: who does it.


@hookspec(firstresult=True)
def dynmm_fetch_artifact(uri: str, dest: Path, sha256: str) -> Path | None:
    """Fetches one file for a URI scheme that the core does not know, such as ``s3://``.

    Called by fetches of datasets and models, for sources whose scheme is not built in.

    Args:
        uri: The source as written in the record.
        dest: Path to write to; its folder exists and is private to this fetch.
        sha256: Expected digest, which the core checks itself afterwards.

    Returns:
        ``dest`` if the file was fetched; ``None`` to let the next plugin try. If all return
        ``None`` the next source of the record is tried. An exception counts as this source's
        failure and is reported with it.
    """


@hookspec(firstresult=True)
def dynmm_create_tracker(name: str, options: Mapping[str, Any], run: str) -> Tracker | None:
    """Creates the experiment tracker that a pipeline's ``tracking`` block names.

    Called once at the start of a run.

    Args:
        name: The tracker's name in YAML, folded.
        options: Its options, unchecked; raise ``ConfigError`` for a bad one.
        run: The run's id.

    Returns:
        A tracker, or ``None`` if the name is not this plugin's. If all return ``None`` the run
        stops before any work with an error that names the tracker.
    """


# Observers: what happened.


@hookspec
def dynmm_run_started(run: str, pipeline: Mapping[str, Any]) -> None:
    """Called once before the first stage.

    Args:
        run: The run's id, also the name of its folder.
        pipeline: The resolved configuration, as plain data.
    """


@hookspec
def dynmm_stage_finished(run: str, stage: str, cached: bool, seconds: float) -> None:
    """Called after every stage, in order of completion.

    Args:
        run: The run's id.
        stage: The stage's name, such as ``fit/sasrec/seed-7``.
        cached: Whether the stage was found finished and skipped.
        seconds: Wall time of the stage; of the original computation if cached.
    """


@hookspec
def dynmm_epoch_finished(run: str, stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Called after every training epoch, and not for epochs restored from a checkpoint.

    Args:
        run: The run's id.
        stage: The stage that trains.
        epoch: The epoch, from 1.
        metrics: ``loss`` and, when validated, validation metrics as ``valid/ndcg@10``.
    """


@hookspec
def dynmm_window_finished(run: str, stage: str, window: int, metrics: Mapping[str, float]) -> None:
    """Called after every window of a stream: predicted first, then learned.

    Args:
        run: The run's id.
        stage: The stage that streams.
        window: The window, from 1.
        metrics: Prequential metrics of the window.
    """


@hookspec
def dynmm_run_finished(run: str, folder: Path, metrics: Mapping[str, Any]) -> None:
    """Called once when all files of a run are written.

    Args:
        run: The run's id.
        folder: The run's folder.
        metrics: The content of ``metrics.json``.
    """


@hookspec
def dynmm_run_failed(run: str, stage: str, error: BaseException) -> None:
    """Called once when a run stops on an error or an interruption, before it is reported.

    Args:
        run: The run's id.
        stage: The stage that failed; empty if none was running.
        error: The error, ``KeyboardInterrupt`` included.
    """
