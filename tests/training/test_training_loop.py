from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from training_task import FixedValidator, Regression, StubContext, weights

from dynmm_framework.errors import StageError
from dynmm_framework.training.checkpoint import CheckpointFolder
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.guard import Guard
from dynmm_framework.training.loop import train

SCRIPT = Path(__file__).with_name("training_task.py")


def config(**settings: object) -> LoopConfig:
    return LoopConfig(**{"epochs": 5, "checkpoint_seconds": 0.0, **settings})


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_training_learns_and_reports_every_epoch(tmp_path: Path) -> None:
    task, context = Regression(), StubContext(tmp_path)
    log = train(task, config(epochs=60, learning_rate=0.02), context)
    assert log.stopped == "epochs"
    assert log.best_epoch == 60
    assert [epoch for epoch, _ in context.epochs] == list(range(1, 61))
    assert log.epochs[-1]["loss"] < 0.5 * log.epochs[0]["loss"]
    assert context.epochs[0][1].keys() == {"loss", "seconds"}
    assert not task.module.training
    assert any("loss" in note and "targets/s" in note for note in context.notes)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    results = []
    for seed in (7, 7, 8):
        task = Regression()
        torch.manual_seed(len(results))
        train(task, config(), StubContext(tmp_path, seed=seed))
        results.append(weights(task))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


class Divided(Regression):
    """The same without dropout, each batch in parts of three rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.module[1] = torch.nn.Identity()  # type: ignore[index]

    def divided(self, batch: torch.Tensor) -> list[tuple[torch.Tensor, float]]:
        return [(part, len(part) / len(batch)) for part in batch.split(self.rows)]


def test_a_batch_in_parts_is_one_step(tmp_path: Path) -> None:
    whole, parts = Divided(8), Divided(3)
    config = LoopConfig(epochs=2)
    logs = [train(task, config, StubContext(tmp_path)) for task in (whole, parts)]
    assert parts.seen == 3 * whole.seen
    for name, value in weights(whole).items():
        np.testing.assert_allclose(value, weights(parts)[name], rtol=1e-4, atol=1e-6)
    assert logs[0].epochs[-1]["loss"] == pytest.approx(logs[1].epochs[-1]["loss"], rel=1e-5)


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(Regression(), config(epochs=1), StubContext(tmp_path))
    assert torch.equal(torch.rand(2), expected)


def test_early_stopping_restores_the_best_weights(tmp_path: Path) -> None:
    validator = FixedValidator([0.1, 0.3, 0.2, 0.3, 0.1, 0.9])
    stopped = Regression()
    log = train(stopped, config(epochs=20, patience=3), StubContext(tmp_path, validator=validator))
    assert (log.stopped, log.best_epoch, len(log.epochs)) == ("patience", 2, 5)
    assert log.epochs[1]["ndcg@10"] == 0.3
    two = Regression()
    train(two, config(epochs=2), StubContext(tmp_path))
    assert same(weights(stopped), weights(two))


def test_lower_is_better_where_the_validator_says_so(tmp_path: Path) -> None:
    validator = FixedValidator([3, 1, 2], metric="loss", higher_is_better=False)
    log = train(Regression(), config(epochs=3), StubContext(tmp_path, validator=validator))
    assert log.best_epoch == 2


def test_validation_happens_every_few_epochs_and_after_the_last(tmp_path: Path) -> None:
    validator = FixedValidator([1, 2, 3])
    log = train(
        Regression(), config(epochs=5, validate_every=2), StubContext(tmp_path, validator=validator)
    )
    assert ["ndcg@10" in record for record in log.epochs] == [False, True, False, True, True]
    assert log.best_epoch == 5


def test_pre_training_is_not_validated_and_recorded_under_its_own_name(tmp_path: Path) -> None:
    context = StubContext(tmp_path, validator=FixedValidator([]))
    log = train(Regression(), config(patience=1), context, validate=False, record="pre-training")
    assert (log.stopped, len(log.epochs)) == ("epochs", 5)
    assert context.validator.calls == 0
    assert context.records.keys() == {"pre-training"}
    assert context.records["pre-training"]["epochs"] == log.epochs


def test_an_undefined_validation_metric_never_wins(tmp_path: Path) -> None:
    validator = FixedValidator([float("nan"), 0.2, float("nan")])
    log = train(Regression(), config(epochs=3), StubContext(tmp_path, validator=validator))
    assert log.best_epoch == 2
    assert "ndcg@10" not in log.epochs[0]


@pytest.mark.parametrize("every", [1, 3, 50])
def test_a_nan_loss_stops_and_names_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    # On a GPU several batches are checked at once; the bad one must still be named.
    init = Guard.__init__

    def patched(self: object, *args: object) -> None:
        init(self, *args)
        self.every = every

    monkeypatch.setattr(Guard, "__init__", patched)
    with pytest.raises(StageError) as caught:
        train(Regression(poison=7), config(), StubContext(tmp_path))
    assert str(caught.value).startswith("stage fit/stub/seed-7, epoch 2, batch 3: loss is nan")
    assert "Lower the learning rate" in str(caught.value)


def test_an_infinite_gradient_stops_and_names_the_batch(tmp_path: Path) -> None:
    class Steep(Regression):
        def loss(self, batch: torch.Tensor) -> torch.Tensor:
            weight = next(self.module.parameters())
            return super().loss(batch) + (weight * 0).sqrt().sum()

    with pytest.raises(StageError, match="epoch 1, batch 1: norm of the gradient is"):
        train(Steep(), config(), StubContext(tmp_path))


def test_out_of_memory_is_a_clear_error(tmp_path: Path) -> None:
    class Greedy(Regression):
        def loss(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.empty(1 << 60)

    with pytest.raises(StageError, match=r"epoch 1, batch 1: out of memory\n  Lower batch_size"):
        train(Greedy(), config(), StubContext(tmp_path))


class Passes(Divided):
    """Reads a batch in passes, and has no memory for passes of more than ``room`` rows."""

    def __init__(self, room: int) -> None:
        super().__init__(rows=4)
        self.room, self.sizes = room, list[int]()

    @property
    def pass_size(self) -> int:
        return self.rows

    @pass_size.setter
    def pass_size(self, rows: int) -> None:
        self.rows = rows

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("no room")
        self.sizes.append(len(batch))
        return super().loss(batch)


def test_passes_are_halved_once_where_memory_runs_out(tmp_path: Path) -> None:
    wide, tight = Passes(room=4), Passes(room=2)
    plain, ctx = StubContext(tmp_path / "a"), StubContext(tmp_path / "b")
    losses = [train(wide, config(), plain).epochs, train(tight, config(), ctx).epochs]
    for one, other in zip(*losses, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert max(tight.sizes) == 2
    said = "out of memory with passes of 4; going on with passes of 2"
    assert [line for line in ctx.logged if "memory" in line] == [said]
    assert not [line for line in plain.logged if "memory" in line]
    again = (
        r"epoch 1, batch 1: out of memory, with passes of half the size too\n  Shorten the prompt"
    )
    with pytest.raises(StageError, match=again):
        train(Passes(room=1), config(), StubContext(tmp_path / "c"))


def test_memory_that_python_runs_out_of_is_met_alike(tmp_path: Path) -> None:
    class Full(Passes):
        def loss(self, batch: torch.Tensor) -> torch.Tensor:
            if len(batch) > self.room:
                raise MemoryError
            return super().loss(batch)

    task = Full(room=2)
    train(task, config(), StubContext(tmp_path))
    assert max(task.sizes) == 2


def test_no_batches_is_a_clear_error(tmp_path: Path) -> None:
    class Empty(Regression):
        n_batches = 0

    with pytest.raises(StageError, match="nothing to train on"):
        train(Empty(), config(), StubContext(tmp_path))


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    moved = []
    for clip in (1e-3, 0.0):
        task = Regression()
        before = weights(task)
        optimizer = torch.optim.SGD(task.module.parameters(), lr=1.0)
        task.n_batches = 1
        train(task, config(epochs=1, clip_norm=clip), StubContext(tmp_path), optimizer=optimizer)
        squares = [((weights(task)[name] - before[name]) ** 2).sum() for name in before]
        moved.append(float(np.sqrt(np.sum(squares))))
    assert moved[0] == pytest.approx(1e-3, rel=1e-2)
    assert moved[1] > 0.1


def test_bf16_trains_under_autocast(tmp_path: Path) -> None:
    seen = []

    class Watched(Regression):
        def loss(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(self.module(batch).dtype)
            return super().loss(batch)

    train(Watched(), config(epochs=1), StubContext(tmp_path, precision="bf16"))
    train(Watched(), config(epochs=1), StubContext(tmp_path))
    assert set(seen[:4]) == {torch.bfloat16}
    assert set(seen[4:]) == {torch.float32}


class Interrupted(Regression):
    """Is interrupted at its tenth batch, in the third epoch."""

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        if self.seen == 9:
            raise KeyboardInterrupt
        return super().loss(batch)


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize(("amsgrad", "average"), [(False, 0.0), (True, 0.9)])
def test_an_interrupted_training_resumes_to_the_same_weights(
    tmp_path: Path, amsgrad: bool, average: float, validated: bool
) -> None:
    def optimizer(task: Regression) -> torch.optim.Optimizer:
        return torch.optim.Adam(task.module.parameters(), betas=(0.8, 0.9), amsgrad=amsgrad)

    def validator() -> FixedValidator | None:
        return FixedValidator([1, 5, 2, 3, 4]) if validated else None

    whole, settings = Regression(), config(average=average)
    undisturbed = StubContext(tmp_path / "a", validator=validator())
    expected = train(whole, settings, undisturbed, optimizer=optimizer(whole))
    broken, shared = Interrupted(), validator()
    context = StubContext(tmp_path / "b", validator=shared)
    with pytest.raises(KeyboardInterrupt):
        train(broken, settings, context, optimizer=optimizer(broken))
    resumed, context = Regression(), StubContext(tmp_path / "b", validator=shared)
    log = train(resumed, settings, context, optimizer=optimizer(resumed))
    assert context.logged == ["resumed after epoch 2"]
    assert [epoch for epoch, _ in context.epochs] == [3, 4, 5]
    assert same(weights(resumed), weights(whole))
    strip = [{**record, "seconds": 0} for record in log.epochs]
    assert strip == [{**record, "seconds": 0} for record in expected.epochs]
    assert log.best_epoch == expected.best_epoch == (2 if validated else 5)
    assert not (tmp_path / "b" / "checkpoints" / "train").exists()


@pytest.mark.parametrize("values", [None, [1, 2]])
def test_the_average_of_the_weights_is_what_is_validated_and_kept(
    tmp_path: Path, values: list[float] | None
) -> None:
    task = Regression()
    task.n_batches = 1
    expected, raw, seen = weights(task), [], []

    class Watching(FixedValidator):
        def __call__(self, score: object) -> dict[str, float]:
            seen.append(weights(task))
            return super().__call__(score)

    def step(self: torch.optim.Optimizer, *_: object) -> None:
        raw.append(weights(task))

    optimizer = torch.optim.SGD(task.module.parameters(), lr=0.1)
    optimizer.register_step_post_hook(step)
    validator = Watching(values) if values else None
    context = StubContext(tmp_path, validator=validator)
    train(task, config(epochs=2, average=0.15), context, optimizer=optimizer)
    # The average starts short: its decay is 2/11 after one step, were it not for the limit.
    for after in raw:
        expected = {name: 0.15 * old + 0.85 * after[name] for name, old in expected.items()}
    for name, value in expected.items():
        np.testing.assert_allclose(weights(task)[name], value, rtol=1e-5)
    assert not same(weights(task), raw[-1])
    if values:
        assert same(seen[-1], weights(task))


def interrupt(folder: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), config(), StubContext(folder))
    return folder / "checkpoints" / "train"


@pytest.mark.parametrize("damage", ["truncate", "json", "missing", "empty", "flip"])
def test_a_damaged_checkpoint_is_logged_and_training_starts_over(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = interrupt(tmp_path)
    (arrays,) = folder.glob("*.safetensors")
    if damage == "truncate":
        arrays.write_bytes(arrays.read_bytes()[:100])
    elif damage == "flip":
        data = bytearray(arrays.read_bytes())
        data[-1] ^= 1
        arrays.write_bytes(data)
    elif damage == "missing":
        arrays.unlink()
    else:
        text = {"json": '{"epoch": 3', "empty": ""}[damage]
        (folder / "checkpoint.json").write_text(text)
    task, context = Regression(), StubContext(tmp_path)
    log = train(task, config(), context)
    assert "training starts over" in caplog.text
    assert [epoch for epoch, _ in context.epochs] == [1, 2, 3, 4, 5]
    assert len(log.epochs) == 5
    undisturbed = Regression()
    train(undisturbed, config(), StubContext(tmp_path))
    assert same(weights(task), weights(undisturbed))


@pytest.mark.parametrize("changed", ["config", "seed", "stage", "weights"])
def test_a_checkpoint_of_another_training_is_not_used(
    tmp_path: Path, changed: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(tmp_path)
    task = Regression()
    settings, context = config(), StubContext(tmp_path)
    if changed == "config":
        settings = config(learning_rate=0.5)
    elif changed == "seed":
        context.seed = 8
    elif changed == "stage":
        context.stage = "fit/other"
    else:
        with torch.no_grad():
            next(task.module.parameters()).add_(1)
    train(task, settings, context)
    assert "other settings; training starts over" in caplog.text
    assert context.epochs[0][0] == 1


def test_checkpoints_are_kept_apart_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(
        CheckpointFolder,
        "save",
        lambda self, progress, *_: saved.append(progress.epoch),
    )
    train(Regression(), config(checkpoint_seconds=10.0), StubContext(tmp_path))
    assert saved == []
    train(Regression(), config(checkpoint_every=2), StubContext(tmp_path))
    assert saved == [2, 4]


def run_script(folder: Path, delay: float) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(folder), str(delay), "8"]
    return subprocess.Popen(command, env=environment)


def test_kill_minus_nine_and_again_gives_the_weights_of_an_undisturbed_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    undisturbed, victim = run_script(whole, 0.0), run_script(killed, 0.05)
    document = killed / "checkpoints" / "train" / "checkpoint.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and victim.poll() is None:
        if document.exists() and json.loads(document.read_text())["progress"]["epoch"] >= 3:
            break
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (killed / "weights.json").exists()
    assert run_script(killed, 0.0).wait() == 0
    assert undisturbed.wait() == 0
    (resumed,) = json.loads((killed / "log.json").read_text())
    assert resumed.startswith("resumed after epoch")
    assert (killed / "weights.json").read_text() == (whole / "weights.json").read_text()
