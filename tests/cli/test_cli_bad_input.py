"""Bad input at the command line: one clear error or a clean resume, and nothing half-written.

What the command line is tested for elsewhere:

===============================================  ===============================================
five mistakes of a pipeline, one line each       test_cli_commands.py
an override, a device, a runs folder             test_cli_commands.py::test_run_refuses_...
a run, a user, an item, a metric, a recommender  test_cli_commands.py::test_an_unknown_run_...,
that do not exist                                test_recommend_refuses_..., test_compare_...
every problem of a data file, with its line      test_cli_commands.py::test_data_check_...
a setting of a reader, a dataset, a record       test_cli_commands.py::test_a_wrong_setting_...,
that do not exist; a damaged fetched file        test_data_list_..., test_registry_...
Ctrl-C from a terminal, in training              test_cli_errors.py::test_ctrl_c_...
a full disk or a closed pipe as the output       test_cli_errors.py
a command of a plugin that replaces one of ours  test_cli_errors.py::test_a_failing_plugin_...
===============================================  ===============================================
"""

from __future__ import annotations

import errno
import gzip
import importlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from bad_input import (
    HOOK,
    PIPELINE,
    SIGNAL,
    TRAINING,
    assert_nothing_half_written,
    assert_one_error,
    assert_resumes,
    bound_by_permissions,
    damage,
    file_size_limit,
    numbers,
    run_once,
    with_lines,
)
from click.testing import Result

from dynmm_framework.hookspecs import ENTRY_POINT_GROUP
from dynmm_framework.testing import generate_dataset

Dynmm = Callable[..., Result]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of generated interactions with times and ratings."""
    dataset = generate_dataset(n_users=60, n_items=40)
    table = dataset.interactions
    columns = {
        "user": dataset.users["id"].take(pa.array(table.users)),
        "item": dataset.items["id"].take(pa.array(table.items)),
        "timestamp": table.timestamps,
        "rating": table.ratings,
    }
    path = tmp_path_factory.mktemp("generated") / "good.csv"
    pyarrow.csv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture
def pipeline(tmp_path: Path) -> Callable[..., Path]:
    """Writes a pipeline that reads the given file."""

    def write(data: Path, text: str = PIPELINE) -> Path:
        path = tmp_path / "pipeline.yaml"
        path.write_text(text.replace("DATA", str(data)), encoding="utf-8")
        return path

    return write


# The pipeline.


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("baseline: p", "baselin: p", (":6: baselin: unknown", "did you mean baseline?")),
        ("at: [5]", "at: five", (":7: evaluate.at: must be a list",)),
        ("at: [5]", "at: [5], max_users: many", ("evaluate.max_users", "'many'")),
        ("popularity", "populrity", (":6: baseline", "'populrity'", "did you mean popularity?")),
        ("interaction_file", "no/where", (":3: data.name", "'no/where'")),
        ("version: 1", "version: 1\nversion: 1", ("pipeline.yaml:2", "version")),
        ("at: [5]", "at: [5", ("pipeline.yaml:7",)),
        ("version: 1", "version: 1\nextends: absent.yaml", ("absent.yaml",)),
    ],
)
def test_a_wrong_pipeline_is_refused_before_anything_is_written(
    dynmm: Dynmm, pipeline, good: Path, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
):
    path = pipeline(good, PIPELINE.replace(old, new))
    result = dynmm("run", path, "--runs", tmp_path / "runs")
    assert_one_error(result, *words, next_step=False)
    assert not (tmp_path / "runs").exists()


def test_a_pipeline_that_is_no_text(dynmm: Dynmm, tmp_path: Path):
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(b"version: 1\nname: \xff\xfe\n")
    result = dynmm("run", path, "--runs", tmp_path / "runs")
    assert_one_error(result, "pipeline.yaml:2: not UTF-8 text", "save it as", next_step=False)
    path.write_bytes(b"")
    result = dynmm("validate", path)
    assert result.exit_code == 2
    assert "empty" in result.stdout


# Plugins.

MODULES = itertools.count()

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution whose plugin, of the same name, has the given source."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.delenv("DYNMM_PLUGINS", raising=False)
    monkeypatch.delenv("DYNMM_STRICT_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(site))

    def install(name: str, source: str) -> None:
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        module = f"{name}_{next(MODULES)}"  # what was imported once would be found again
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{name} = {module}\n")
        (site / f"{module}.py").write_text(source, encoding="utf-8")

    return install


def test_two_providers_of_one_name_are_told_apart_in_the_pipeline(
    dynmm: Dynmm, pipeline, good: Path, install: Install, tmp_path: Path
):
    install("acme", HOOK)
    path, runs = pipeline(good), tmp_path / "runs"
    result = dynmm("run", path, "--runs", runs)
    words = ("provided by acme==1.0 and by dynmm-framework", "acme/popularity or dynmm-framework/")
    assert_one_error(result, ":6: baseline", *words, next_step=False)
    assert not runs.exists()
    result = dynmm("run", path, "baseline=acme/popularity", "--runs", runs)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import surely_not_installed\n" + HOOK, "No module named 'surely_not_installed'"),
        ("raise SystemExit(3)\n", "SystemExit"),
        (HOOK.replace("register_baselines", "register_baseline"), "dynmm_register_baseline"),
        ("def broken(:\n", "SyntaxError"),
    ],
)
def test_a_broken_plugin_is_shown_and_harms_nothing_else(
    dynmm: Dynmm,
    json_of,
    pipeline,
    good: Path,
    install: Install,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    reason: str,
):
    install("broken_plugin", source)
    path, runs = pipeline(good), tmp_path / "runs"
    rows = json_of(dynmm("plugins", "list", "--json"))
    (row,) = [row for row in rows if row["distribution"] == "broken_plugin"]
    assert row["status"] in ("failed", "incompatible")
    assert reason in row["reason"]
    result = dynmm("validate", path)
    assert result.exit_code == 0, result.stdout
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("DYNMM_STRICT_PLUGINS", "1")
    assert_one_error(dynmm("run", path, "--runs", runs), "broken_plugin", reason)
    assert not runs.exists()


def test_a_component_of_a_broken_plugin_says_that_it_is_broken(
    dynmm: Dynmm, pipeline, good: Path, install: Install, tmp_path: Path
):
    install("acme", "import surely_not_installed\n" + HOOK)
    path = pipeline(good, PIPELINE.replace("baseline: popularity", "baseline: acme/popularity"))
    result = dynmm("run", path, "--runs", tmp_path / "runs")
    words = (":6: baseline: unknown", "could not be loaded: acme (see dynmm plugins list)")
    assert_one_error(result, *words, next_step=False)


# The data.


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("absent.csv", None, ("absent.csv: does not exist", "data.config.path")),
        ("empty.csv", lambda data: b"", ("empty.csv: is empty",)),
        ("head.csv", lambda data: data[: data.index(b"\n") + 1], ("head.csv: has no rows",)),
        ("cut.csv", lambda data: data[:-12], ("cut.csv:1118: ", "seems to be cut off here")),
        ("cut.csv.gz", lambda data: gzip.compress(data)[:-200], ("cut.csv.gz:", "truncated")),
        (
            "utf16.csv",
            lambda data: data.decode().encode("utf-16"),
            ("utf16.csv:1: ", "not utf-8; the file is in utf-16", "encoding"),
        ),
        (
            "latin.csv",
            lambda data: data.replace(b'"u1"', b'"\xfc1"'),
            ("problems\n  ", "latin.csv:29: ", "is the file in latin-1 or cp1252?", "encoding"),
        ),
        (
            "rows.csv",
            lambda data: with_lines(data, '"u1","i2",soon,3', '"u1"', '"",i1,5,3'),
            ("3 problems", "csv:6: timestamp: 'soon'", "csv:7: has 1 field, not 4", "csv:8: user"),
        ),
        (
            "times.csv",
            lambda data: with_lines(data, "u1,i2,nan,3", "u2,i2,-5,3", "u2,i3,,3"),
            ("3 problems", "csv:6: timestamp: nan", "csv:7: timestamp: -5 is neg", "csv:8: time"),
        ),
        (
            "columns.csv",
            lambda data: data.replace(b'"item"', b'"sku"', 1),
            ("columns.csv", "'item'", "columns.item", "sku"),
        ),
    ],
)
def test_a_bad_data_file_is_one_error_with_its_lines(
    dynmm: Dynmm, pipeline, good: Path, tmp_path: Path, name: str, change, words: tuple[str, ...]
):
    data, runs = tmp_path / name, tmp_path / "runs"
    if change is not None:
        data.write_bytes(change(good.read_bytes()))
    result = dynmm("run", pipeline(data), "--runs", runs)
    assert_one_error(result, *words)
    assert_nothing_half_written(runs)
    if change is not None:  # the same command goes on once the file is mended
        data.write_bytes(gzip.compress(good.read_bytes()) if ".gz" in name else good.read_bytes())
        result = dynmm("run", pipeline(data), "--runs", runs)
        assert result.exit_code == 0, result.stderr


def test_repeated_rows_are_counted_and_one_of_each_is_kept(
    dynmm: Dynmm, json_of, pipeline, good: Path, tmp_path: Path
):
    data = tmp_path / "twice.csv"
    lines = good.read_bytes().splitlines(keepends=True)
    data.write_bytes(b"".join([*lines, *lines[1:]]))
    result = dynmm("run", pipeline(data), "--runs", tmp_path / "runs")
    assert result.exit_code == 0, result.stderr
    assert "1,117 of 2,234 rows repeat an earlier pair of user and item" in result.stderr
    assert json_of(dynmm("data", "stats", pipeline(data), "--json"))["interactions"] == 1117


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["split.min_interactions=1000"], ("no test user", "min_interactions")),
        (
            ["data.filters.k_core=500"],
            ("k_core 500", "leaves none of 1,117 interactions", "data.filters"),
        ),
        (["evaluate.protocols=[sampled:39]"], ("39 negatives", "Sample at most")),
        (["evaluate.protocols=[full, cold:1]"], ("cold:1 has nobody to ask", "cold_items")),
    ],
)
def test_data_that_are_too_few_for_the_pipeline(
    dynmm: Dynmm, pipeline, good: Path, tmp_path: Path, overrides: list[str], words: tuple[str, ...]
):
    runs = tmp_path / "runs"
    result = dynmm("run", pipeline(good), *overrides, "--runs", runs)
    assert_one_error(result, *words)
    assert_nothing_half_written(runs)


# Stored files.


@pytest.fixture(scope="module")
def first_runs(tmp_path_factory: pytest.TempPathFactory, good: Path) -> Path:
    return run_once(tmp_path_factory.mktemp("first"), PIPELINE, good)


@pytest.fixture
def finished(first_runs: Path, tmp_path: Path) -> Path:
    """A runs folder with one finished run."""
    return Path(shutil.copytree(first_runs, tmp_path / "runs"))


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("data/*/interactions.parquet", "missing"),
        ("split/*/stage.json", "cut"),
        ("fit__*/*/state.safetensors", "turned"),
        ("rank__*/*/result.json", "empty"),
    ],
)
def test_a_corrupt_cache_is_moved_aside_and_computed_again(
    dynmm: Dynmm, json_of, pipeline, good: Path, finished: Path, file: str, how: str
):
    before = numbers(finished)
    (path,) = finished.glob(f".cache/{file}")
    damage(path, how)
    result = dynmm("run", pipeline(good), "--runs", finished)
    assert result.exit_code == 0, result.stderr
    stage = file.partition("/")[0].replace("__*", "/popularity/seed-7")
    assert f"Warning: the stored result of stage {stage}" in result.stderr
    assert "is damaged" in result.stderr
    assert "computed again" in result.stderr
    assert "Traceback" not in result.stderr
    assert numbers(finished) == before
    plan = json_of(dynmm("plan", pipeline(good), "--runs", finished, "--json"))
    assert all(stage["cached"] for stage in plan["stages"])


@pytest.mark.parametrize("how", ["missing", "cut"])
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("manifest.json", ("recommend", "RUN", "--user", "u1")),
        ("metrics.json", ("compare", "RUN", "RUN")),
        ("per_user.parquet", ("compare", "RUN", "RUN")),
        ("training.json", ("report", "RUN")),
        ("models/popularity/seed-7/state.safetensors", ("recommend", "RUN", "--user", "u1")),
        ("data/items.parquet", ("recommend", "RUN", "--user", "u1")),
        ("data/interactions.parquet", ("recommend", "RUN", "--user", "u1")),
    ],
)
def test_a_corrupt_run_is_one_error_and_is_written_again(
    dynmm: Dynmm, pipeline, good: Path, finished: Path, file: str, words: tuple[str, ...], how: str
):
    (folder,) = (path.parent for path in finished.glob("*/manifest.json"))
    damage(folder / file, how)
    result = dynmm(*(str(folder) if word == "RUN" else word for word in words))
    assert_one_error(result, str(folder), Path(file).name)
    result = dynmm("run", pipeline(good), "--runs", finished)
    assert result.exit_code == 0, result.stderr
    result = dynmm(*(str(folder) if word == "RUN" else word for word in words))
    assert result.exit_code == 0, result.stderr


# The disk.


def test_a_file_that_cannot_grow_ends_the_run_cleanly(
    dynmm: Dynmm, pipeline, good: Path, tmp_path: Path
):
    path, runs = pipeline(good), tmp_path / "runs"
    for size in (0, 600, 1800):
        with file_size_limit(size):
            result = dynmm("run", path, "--runs", runs)
        assert_one_error(result, "cannot write", str(runs), "file is too large")
        assert_nothing_half_written(runs)
    result = dynmm("run", pipeline(good), "--runs", runs)
    assert result.exit_code == 0, result.stderr


def test_a_disk_that_is_full_at_any_moment_ends_the_run_cleanly(
    dynmm: Dynmm, pipeline, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs, left, flush = tmp_path / "runs", 0, os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        for writes in (0, 1, 5, 12):
            left = writes
            result = dynmm("run", pipeline(good), "--runs", runs)
            assert_one_error(result, "cannot write", str(runs), "the disk is full", "Free some")
            assert_nothing_half_written(runs)
    result = dynmm("run", pipeline(good), "--runs", runs)
    assert result.exit_code == 0, result.stderr


@pytest.fixture
def mode() -> Iterator[Callable[[Path, int], None]]:
    """Changes modes for the test."""
    changed: list[Path] = []

    def change(path: Path, bits: int) -> None:
        changed.append(path)
        path.chmod(bits)

    yield change
    for path in changed:
        path.chmod(0o700)


def test_folders_and_files_without_permission(
    dynmm: Dynmm, pipeline, good: Path, tmp_path: Path, mode
):
    runs, data = tmp_path / "parent" / "runs", tmp_path / "mine.csv"
    shutil.copy(good, data)
    runs.parent.mkdir()
    mode(runs.parent, 0o500)
    with bound_by_permissions():
        result = dynmm("run", pipeline(data), "--runs", runs)
    assert_one_error(result, "cannot write", str(runs), "permission denied", "Check the owner")
    assert not runs.exists()
    mode(runs.parent, 0o700)
    mode(data, 0o000)
    with bound_by_permissions():
        result = dynmm("run", pipeline(data), "--runs", runs)
    assert_one_error(result, str(data), "permission")
    assert_nothing_half_written(runs)
    pipeline_file = pipeline(good)
    mode(pipeline_file, 0o000)
    with bound_by_permissions():
        result = dynmm("run", pipeline_file, "--runs", runs)
    assert_one_error(result, "pipeline.yaml: no permission to read", next_step=False)


def test_a_stored_stage_without_permission_is_not_taken_for_damaged(
    dynmm: Dynmm, pipeline, good: Path, finished: Path, mode
):
    (stage,) = finished.glob(".cache/split/*/stage.json")
    mode(stage, 0o000)
    with bound_by_permissions():
        result = dynmm("run", pipeline(good), "--runs", finished)
    assert_one_error(result, str(stage), "permission denied")
    assert stage.exists()


# Interruptions.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, good: Path) -> dict[str, Any]:
    return numbers(run_once(tmp_path_factory.mktemp("undisturbed"), TRAINING, good))


def test_kill_minus_nine_in_training_and_the_same_command_again(
    dynmm: Dynmm, pipeline, process, install: Install, good: Path, tmp_path: Path, undisturbed
):
    path, runs, spoilt = pipeline(good, TRAINING), tmp_path / "runs", tmp_path / "spoilt"
    install("deadly", SIGNAL.replace("HOW", "os.kill(os.getpid(), signal.SIGKILL)"))
    child = process("run", path, "--runs", runs, env={"PYTHONPATH": str(tmp_path / "site")})
    _, err = child.communicate(timeout=120)
    assert child.returncode == -signal.SIGKILL, err
    (document,) = runs.rglob("checkpoint.json")
    assert json.loads(document.read_text())["progress"]["epoch"] == 4
    assert not list(runs.glob(".cache/fit__*"))
    result = dynmm("report", next(runs.glob("pipeline-*")))
    assert_one_error(result, "is not finished", "Run the same pipeline again")
    shutil.copytree(runs, spoilt)

    shutil.rmtree(tmp_path / "site")
    importlib.invalidate_caches()
    assert_resumes(dynmm, path, runs, undisturbed, "resumed after epoch 4")
    (document,) = spoilt.rglob("checkpoint.json")
    damage(document.parent / json.loads(document.read_text())["arrays"], "cut")
    words = ("Warning: checkpoint", "is damaged", "training starts over")
    assert_resumes(dynmm, path, spoilt, undisturbed, *words)


def test_ctrl_c_in_training_and_the_same_command_again(
    dynmm: Dynmm, pipeline, install: Install, good: Path, tmp_path: Path, undisturbed, request
):
    # A shell that starts the tests in the background has Ctrl-C ignored by all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    path, runs = pipeline(good, TRAINING), tmp_path / "runs"
    install("impatient", SIGNAL.replace("HOW", "signal.raise_signal(signal.SIGINT)"))
    result = dynmm("run", path, "--runs", runs)
    assert result.exit_code == 130, result.stderr
    assert "Interrupted; what is finished is kept: resume by running the same" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert_nothing_half_written(runs)
    shutil.rmtree(tmp_path / "site")
    importlib.invalidate_caches()
    assert_resumes(dynmm, path, runs, undisturbed, "resumed after epoch 4")
