"""Training again on what was held out for early stopping (``split.refit``)."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.config.pipeline import GivenFiles, Pipeline
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ConfigError
from dynmm_framework.testing import generate_dataset

LIGHTGCN = {
    "name": "lightgcn",
    "config": {"dim": 8, "epochs": 12, "validate_every": 2, "patience": 2, "learning_rate": 0.05},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A training and a test file of the generated data, and how many training items there are."""
    folder = tmp_path_factory.mktemp("given")
    histories = generate_dataset(n_users=60, n_items=40).interactions.histories()
    lists = [list(dict.fromkeys(histories[user].tolist())) for user in range(len(histories))]
    for name, part in (("train", slice(None, -2)), ("test", slice(-2, None))):
        lines = [f"{user} {' '.join(map(str, items[part]))}" for user, items in enumerate(lists)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder, sum(len(items) - 2 for items in lists)


@pytest.fixture
def settings(files):
    folder, _ = files
    train, test = str(folder / "train.txt"), str(folder / "test.txt")
    return {
        "version": 1,
        "data": {"name": "sequence_file", "config": {"path": train, "layout": "lines"}},
        "split": {"strategy": "given", "train": train, "test": test, "valid_share": 0.2},
        "backbone": LIGHTGCN,
        "evaluate": {"at": [10], "metrics": ["recall", "ndcg"]},
    }


def changed(settings, **blocks):
    """Returns a pipeline with some settings of the split and some blocks replaced."""
    split = {**settings["split"], **blocks.pop("split", {})}
    merged = {**settings, **blocks, "split": split}
    return load_pipeline({key: value for key, value in merged.items() if value is not None})


def state(found, label):
    return load_arrays(found.folder / "models" / label / "seed-7" / "state.safetensors")


def fit_meta(found, label):
    (manifest,) = found.folder.parent.glob(f".cache/fit__{label}__*/*/stage.json")
    return json.loads(manifest.read_text())["meta"]


def test_a_component_with_epochs_is_trained_again_for_the_best_number(settings, files, tmp_path):
    _, n_train = files
    console = Console(file=io.StringIO(), width=200)
    found = run(changed(settings), runs_dir=tmp_path / "a", console=console)
    first = found.training["lightgcn"]["7"]
    refit = found.refits["lightgcn"]["7"]
    values = {int(e["epoch"]): e["ndcg@10"] for e in first if "ndcg@10" in e}
    best = max(values, key=values.get)
    assert refit["epochs"] == best == len(refit["curve"])
    assert refit["interactions"] == n_train
    assert not any("ndcg@10" in epoch for epoch in refit["curve"])  # nothing is held out any more
    said = console.file.getvalue()
    assert f"fit/lightgcn/seed-7: best epoch on the interactions held out: {best}" in said
    assert f"from scratch on all {n_train:,} interactions for {best:,} epochs" in said
    # The result is that of a training on all of the file with so many epochs.
    config = {**LIGHTGCN["config"], "epochs": best}
    direct = run(
        changed(
            settings, split={"valid_share": 0}, backbone={"name": "lightgcn", "config": config}
        ),
        runs_dir=tmp_path / "b",
    )
    for name, array in state(direct, "lightgcn").items():
        np.testing.assert_array_equal(array, state(found, "lightgcn")[name], err_msg=name)
    assert direct.refits == {}
    assert direct.metrics["recommenders"] == found.metrics["recommenders"]


def test_what_has_no_epochs_is_fitted_once_on_everything(settings, files, tmp_path, monkeypatch):
    from dynmm_plugins.ease.model import EASE

    fits, fit = [], EASE.fit
    monkeypatch.setattr(
        EASE, "fit", lambda self, data, ctx: (fits.append((data, ctx)), fit(self, data, ctx))[1]
    )
    console = Console(file=io.StringIO(), width=200)
    loaded = changed(settings, backbone=None, baseline="ease")
    found = run(loaded, runs_dir=tmp_path / "a", console=console)
    ((data, ctx),) = fits
    assert len(data.train) == files[1]
    assert ctx.validator is None
    assert found.refits["ease"]["7"] == {"interactions": files[1], "epochs": None, "curve": []}
    assert "fit/ease/seed-7: fitted on all" in console.file.getvalue()
    direct = run(
        changed(settings, split={"valid_share": 0}, backbone=None, baseline="ease"),
        runs_dir=tmp_path / "b",
    )
    assert direct.metrics["recommenders"] == found.metrics["recommenders"]


def test_sasrec_is_refitted_in_the_files_order(settings, files, tmp_path, tiny_sasrec):
    found = run(changed(settings, backbone=tiny_sasrec), runs_dir=tmp_path)
    assert found.refits["sasrec"]["7"]["interactions"] == files[1]
    assert len(found.refits["sasrec"]["7"]["curve"]) == found.refits["sasrec"]["7"]["epochs"]


def test_histories_and_targets_of_the_test_are_the_same_with_and_without(settings, tmp_path):
    """Only what is learned differs: the same users are asked for the same items."""
    found = {
        refit: run(changed(settings, split={"refit": refit}), runs_dir=tmp_path)
        for refit in (True, False)
    }
    with_refit, without = found[True], found[False]
    assert without.refits == {}
    assert with_refit.id != without.id
    assert with_refit.manifest.split_hash == without.manifest.split_hash
    assert with_refit.metrics["users"] == without.metrics["users"]
    losses = [[e["loss"] for e in made.training["lightgcn"]["7"]] for made in found.values()]
    assert losses[0] == losses[1]
    one, other = (
        make_plan(changed(settings, split={"refit": refit}), runs_dir=tmp_path) for refit in found
    )
    keys = [{stage.name: stage.key for stage in plan.stages} for plan in (one, other)]
    assert keys[0]["fit/lightgcn/seed-7"] != keys[1]["fit/lightgcn/seed-7"]
    assert keys[0]["data"] == keys[1]["data"]
    assert all(stage.cached for stage in (*one.stages, *other.stages))


def test_a_component_that_tells_no_best_epoch_keeps_its_epochs(settings, tmp_path, monkeypatch):
    from dynmm_framework.engine.context import RunContext

    monkeypatch.setattr(RunContext, "record", lambda self, name, value: None)
    console = Console(file=io.StringIO(), width=200)
    found = run(changed(settings), runs_dir=tmp_path, console=console)
    assert found.refits["lightgcn"]["7"]["epochs"] == 12
    assert "held out: not told; trained again" in console.file.getvalue()


def script(settings, folder, seconds):
    here = Path(__file__).parent / "refit_run.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(here), json.dumps(settings), str(folder), str(seconds)]
    return subprocess.Popen(command, env=environment)


def kill_when(pattern, settings, folder):
    """Runs the pipeline in another process and kills it when a checkpoint is there."""
    victim = script(settings, folder, 0.3)
    until = time.monotonic() + 120
    while not list(folder.glob(pattern)) and victim.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert list(folder.glob(pattern))


def test_kill_minus_nine_in_both_trainings_changes_nothing(settings, tmp_path):
    config = {**LIGHTGCN["config"], "checkpoint_seconds": 0}
    settings = {**settings, "backbone": {"name": "lightgcn", "config": config}}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    killed.mkdir()
    checkpoint = "checkpoints/train/checkpoint.json"
    kill_when(f".cache/.work/*/{checkpoint}", settings, killed)
    kill_when(f".cache/.work/*/refit/{checkpoint}", settings, killed)
    before = (killed / "said.txt").read_text()
    assert before.count("fit/lightgcn/seed-7: resumed after epoch") == 1
    console = Console(file=io.StringIO(), width=200)
    found = run(load_pipeline(settings), runs_dir=killed, console=console)
    said = console.file.getvalue()
    assert "fit/lightgcn/seed-7: early stopping was finished before the interruption" in said
    assert said.count("resumed after epoch") == 1
    assert "fit/lightgcn/seed-7/refit: resumed after epoch" in said
    undisturbed = run(load_pipeline(settings), runs_dir=whole)
    for name, array in state(undisturbed, "lightgcn").items():
        np.testing.assert_array_equal(array, state(found, "lightgcn")[name], err_msg=name)
    assert found.refits["lightgcn"]["7"]["epochs"] == undisturbed.refits["lightgcn"]["7"]["epochs"]
    assert not list(killed.glob(".cache/.work/*/early-stopping.json"))


def test_time_and_records_of_both_trainings_are_kept(settings, tmp_path):
    meta = fit_meta(run(changed(settings), runs_dir=tmp_path), "lightgcn")
    assert meta["training"]["best_epoch"] == meta["refit"]["epochs"]
    assert meta["refit"]["training"]["stopped"] == "epochs"
    assert meta["fit_seconds"] > 0


def test_nobody_is_refitted_where_nothing_could_be_held_out(settings, tmp_path):
    (tmp_path / "train.txt").write_text("0 0 1\n1 1 2\n2 2 3\n")  # too short for validation
    (tmp_path / "test.txt").write_text("0 2\n1 3\n2 0\n")
    split = {"train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt")}
    found = run(changed(settings, split=split), runs_dir=tmp_path / "runs")
    assert found.refits == {}


def test_with_a_validation_file_there_is_no_refit():
    paths = {"strategy": "given", "train": "a", "test": "b"}
    assert GivenFiles(**paths).refits
    assert not GivenFiles(**paths, valid_share=0).refits
    assert not GivenFiles(**paths, refit=False).refits
    with_file = GivenFiles(**paths, valid="c")
    assert not with_file.refit
    assert GivenFiles.model_validate(with_file.model_dump()) == with_file
    with pytest.raises(ValidationError, match="refit: true needs a split without a validation"):
        GivenFiles(**paths, valid="c", refit=True)


def test_asking_for_both_is_an_error_of_the_pipeline(settings):
    split = {"valid": settings["split"]["train"], "refit": True}
    with pytest.raises(ConfigError, match=r"split.*refit: true needs a split without"):
        changed(settings, split=split)
    assert Pipeline.model_validate(changed(settings).resolved()).split.refits
