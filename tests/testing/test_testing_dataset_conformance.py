"""Each check of readers fails for a reader that has just that fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

SUITE = '''
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework import ComponentSpec, hookimpl
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.blocks import Block
from dynmm_framework.data.assemble import assemble
from dynmm_framework.testing import DatasetConformance

ROWS = {"user": ["a", "a", "b"], "item": ["x", "y", "x"], "timestamp": [1, 2, 3]}


class Config(Block):
    path: str = "events"
    """The file."""


class Good:
    def __init__(self, config):
        self.path = Path(config.path)

    def files(self, ctx):
        return [self.path]

    def read(self, ctx):
        return assemble(pa.table(ROWS), name="good")

    def changed(self, ctx, **columns):
        dataset = Good.read(self, ctx)
        return replace(dataset, interactions=replace(dataset.interactions, **columns))


class NoFiles(Good):
    def files(self, ctx):
        return []


class NamesAFolder(Good):
    def files(self, ctx):
        return [self.path.parent]


class Appends(Good):
    def read(self, ctx):
        with self.path.open("a") as file:
            file.write("more")
        return super().read(ctx)


class ATable(Good):
    def read(self, ctx):
        return pa.table(ROWS)


class ForeignItems(Good):
    def read(self, ctx):
        return self.changed(ctx, items=np.array([0, 5, 0], np.int32))


class Unordered(Good):
    def read(self, ctx):
        return self.changed(ctx, timestamps=np.array([2, 1, 3]))


class NaNRatings(Good):
    def read(self, ctx):
        return self.changed(ctx, ratings=np.array([1, np.nan, 2], np.float32))


class RepeatedNames(Good):
    def read(self, ctx):
        return replace(super().read(ctx), items=pa.table({"id": ["x", "x"]}))


class Drifting(Good):
    calls = 0

    def read(self, ctx):
        Drifting.calls += 1
        users = pa.table({"id": ["a", f"b{Drifting.calls}"]})
        return replace(super().read(ctx), users=users)


READERS = (Good, NoFiles, NamesAFolder, Appends, ATable, ForeignItems, Unordered, NaNRatings,
           RepeatedNames, Drifting)


class Door:
    @hookimpl
    def dynmm_register_datasets(self):
        return [ComponentSpec(name=reader.__name__, target=f"test_readers:{reader.__name__}",
                              config="test_readers:Config", summary="x") for reader in READERS]


@pytest.fixture(scope="session")
def dynmm_catalogue():
    catalogue = load_catalogue(only=["ranking_metrics"])
    catalogue.register(Door(), name="readers")
    return catalogue


class WithFile(DatasetConformance):
    @pytest.fixture
    def settings(self, tmp_path):
        (tmp_path / "events").write_text("a x 1")
        return {"path": str(tmp_path / "events")}

    def test_door_and_config_import_nothing_heavy(self):
        pytest.skip("this module is no door")


for reader in READERS:
    name = f"Test{reader.__name__}"
    globals()[name] = type(name, (WithFile,), {"component": reader.__name__})
del WithFile, DatasetConformance
'''

FAULTS = {
    "NoFiles": {"it_names_the_files_that_it_reads": "names no file"},
    "NamesAFolder": {
        "it_names_the_files_that_it_reads": "names what is no file",
        "it_reads_without_changing_its_files": "Is a directory",
    },
    "Appends": {"it_reads_without_changing_its_files": "reading changed the files"},
    "ForeignItems": {
        "interactions_name_users_and_items_that_exist": "int32 ids from 0 to 1; they are int32"
    },
    "Unordered": {"interactions_are_in_order_of_user_and_time": "are not by user, then time"},
    "NaNRatings": {"ratings_and_times_are_finite": "ratings hold NaN"},
    "RepeatedNames": {"items_and_users_have_names_of_their_own": "2 different ids"},
    "Drifting": {"reading_again_gives_the_same": "the dataset differs"},
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, str]]:
    """Reader to failed check to reason."""
    folder = tmp_path_factory.mktemp("readers")
    (folder / "test_readers.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
        "-p", "dynmm_framework.testing.installed", "--dynmm-findings", "found.jsonl",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, dict[str, str]] = {}
    for line in (folder / "found.jsonl").read_text().splitlines():
        finding = json.loads(line)
        checks = found.setdefault(finding["suite"].removeprefix("Test"), {})
        if finding["outcome"] in ("failed", "error"):
            checks[finding["check"].removeprefix("test_")] = finding["reason"]
    return found


def test_a_good_reader_passes(bad: Mapping[str, Mapping[str, str]]) -> None:
    assert bad["Good"] == {}


@pytest.mark.parametrize("reader", FAULTS)
def test_a_fault_fails_its_check_and_no_other(
    bad: Mapping[str, Mapping[str, str]], reader: str
) -> None:
    assert set(bad[reader]) == set(FAULTS[reader]), bad[reader]
    for check, text in FAULTS[reader].items():
        assert text in bad[reader][check]


def test_what_is_no_dataset_is_said_so(bad: Mapping[str, Mapping[str, str]]) -> None:
    assert len(bad["ATable"]) == 5
    assert all("read(ctx) returned Table" in reason for reason in bad["ATable"].values())
