"""What the tests of bad input share: pipelines, what must hold after an error, a hostile system."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dynmm_framework.cli.app import build_cli

PIPELINE = """\
version: 1
data:
  name: interaction_file
  config: {path: DATA}
split: {strategy: leave_one_out}
baseline: popularity
evaluate: {at: [5]}
"""

TRAINING = """\
version: 1
data:
  name: interaction_file
  config: {path: DATA}
split: {strategy: leave_one_out}
backbone:
  name: sasrec
  config: {hidden_size: 16, layers: 1, heads: 1, max_length: 10, epochs: 30, patience: 0,
           checkpoint_seconds: 0}
evaluate: {at: [5], monitor: ndcg@5}
compute: {device: cpu, threads: 1}
"""


HOOK = """\
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec

@hookimpl
def dynmm_register_baselines():
    return [ComponentSpec(name="popularity", target="dynmm_plugins.popularity.model:Popularity",
                          config="dynmm_plugins.popularity.config:PopularityConfig",
                          summary="Ours, by another name")]
"""
"""A plugin that registers one baseline."""

SIGNAL = """\
import os, signal
from dynmm_framework.hookspecs import hookimpl

@hookimpl
def dynmm_epoch_finished(epoch):
    if epoch == 5:
        HOW
"""
"""A plugin that interrupts the process in the middle of training."""


def assert_one_error(result: Result, *words: str, next_step: bool = True) -> None:
    """The command ended with one message that holds all ``words``, and a next step below it."""
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    before, _, message = f"\n{result.stderr}".rpartition("\nError: ")
    assert "\nError: " not in before
    for word in words:
        assert word in message
    if next_step:
        assert message.splitlines()[-1].startswith("  "), message


def assert_nothing_half_written(runs: Path) -> None:
    """Every finished stage is whole, no run is taken for finished, no temporary file is left."""
    stages = [path for path in runs.glob(".cache/[!.]*/*") if path.is_dir()]
    assert all((stage / "stage.json").is_file() for stage in stages)
    assert not list(runs.glob(".cache/.tmp/*"))
    assert not [path for path in runs.rglob(".*") if ".tmp" in path.suffixes]
    for manifest in runs.glob("*/manifest.json"):
        assert json.loads(manifest.read_text(encoding="utf-8"))["status"] != "finished"
    assert not list(runs.glob("*/report.html"))


def run_once(folder: Path, text: str, data: Path) -> Path:
    """Runs a pipeline in this process and returns its runs folder."""
    path = folder / "pipeline.yaml"
    path.write_text(text.replace("DATA", str(data)), encoding="utf-8")
    result = CliRunner().invoke(build_cli(), ["run", str(path), "--runs", str(folder / "runs")])
    assert result.exit_code == 0, result.stderr
    return folder / "runs"


def numbers(runs: Path) -> dict[str, Any]:
    """``metrics.json`` of the only run, less what the clock says."""
    (path,) = runs.glob("*/metrics.json")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    del document["efficiency"]
    assert document["recommenders"]
    return document


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()  # a run's files may share their content with the cache's
    if how != "missing":
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2]}.get(how, data[::-1]))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Lets the system refuse to write any file beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
"""Capabilities by which root disregards permissions."""


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Subjects root to permissions like anyone."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    before = ctypes.create_string_buffer(24)
    if libc.capget(header, before):
        pytest.skip("cannot read the capabilities of this process")
    effective, *others = struct.unpack("6I", before.raw[:24])
    effective &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    if libc.capset(header, ctypes.create_string_buffer(struct.pack("6I", effective, *others))):
        pytest.skip("cannot give up capabilities here")
    try:
        yield
    finally:
        libc.capset(header, before)


def assert_resumes(
    dynmm: Callable[..., Result], path: Path, runs: Path, undisturbed: dict[str, Any], *words: str
) -> None:
    result = dynmm("run", path, "--runs", runs)
    assert result.exit_code == 0, result.stderr
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert numbers(runs) == undisturbed
    assert not list(runs.rglob("checkpoint.json"))
    assert not list(runs.glob(".cache/.tmp/*"))


def with_lines(data: bytes, *lines: str) -> bytes:
    """Puts lines after the fifth."""
    head, tail = data.splitlines(keepends=True)[:5], data.splitlines(keepends=True)[5:]
    return b"".join([*head, *(f"{line}\n".encode() for line in lines), *tail])
