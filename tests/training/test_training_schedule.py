"""Settings that change while a component is trained: the schedule, and its legs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from training_task import FixedValidator, Regression, StubContext, weights

from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.engine.legs import fit_in_legs
from dynmm_framework.errors import LegFinishedError, StageError, StoppedError
from dynmm_framework.protocols import Leg, Workers
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.loop import default_optimizer, train

SLOWER = {"after": 3, "settings": {"learning_rate": 0.001}}


def config(*changes, **settings) -> LoopConfig:
    common = {"epochs": 6, "learning_rate": 0.1, "patience": 0, "checkpoint_seconds": 0.0}
    return LoopConfig.model_validate({**common, **settings, "schedule": list(changes)})


def trained(settings: LoopConfig, ctx: RunContext, *, width: int | None = None) -> Regression:
    def fit(leg: LoopConfig, ctx: RunContext) -> Regression:
        task = Regression()
        if width is not None and leg.learning_rate < 0.1:
            task.module = torch.nn.Linear(3, width)
        train(task, leg, ctx)
        return task

    return fit_in_legs(settings, ctx, fit)


@pytest.fixture
def ctx(tmp_path, dynmm_catalogue) -> RunContext:
    return RunContext(Surroundings(dynmm_catalogue), "fit/stub/seed-7", seed=7, workdir=tmp_path)


def same(a: Regression, b: Regression) -> bool:
    one, two = weights(a), weights(b)
    return all((one[name] == two[name]).all() for name in one)


def test_legs_are_the_settings_in_their_order():
    halved = {"after": 5, "settings": {"weight_decay": 0.5}}
    found = list(config(SLOWER, halved).legs())
    assert [(leg.learning_rate, leg.weight_decay, until) for leg, until in found] == [
        (0.1, 0.0, 3),
        (0.001, 0.0, 5),
        (0.001, 0.5, None),
    ]
    assert all(not leg.schedule for leg, _ in found)
    # A second training that needs fewer epochs than the first has fewer legs.
    fewer = config(SLOWER, halved).model_copy(update={"epochs": 4})
    assert [until for _, until in fewer.legs()] == [3, None]
    assert [until for _, until in config().legs()] == [None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            [{"after": 6, "settings": {"learning_rate": 0.1}}],
            "after 6 epochs, and there are only",
        ),
        ([SLOWER, SLOWER], "every change comes after more epochs than the last"),
        ([{"after": 1, "settings": {"epochs": 3}}], "epochs cannot change on the way, but batch"),
        ([{"after": 1, "settings": {"average": 0.9}}], "average cannot change on the way"),
        ([{"after": 1, "settings": {"learning_rate": -1}}], "after 1 epochs learning_rate: Input"),
        ([{"after": 1, "settings": {}}], "at least 1 item"),
    ],
)
def test_what_cannot_change_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        config(*changes)


def test_a_component_in_parts_takes_no_schedule():
    class Parts(LoopConfig):
        changeable = frozenset()

    Parts()
    with pytest.raises(ValidationError, match="trained in parts, and takes none"):
        Parts(schedule=[SLOWER])


def test_a_change_that_changes_nothing_gives_the_same_weights(ctx, tmp_path):
    plain = Regression()
    train(plain, config(average=0.9), replace(ctx, workdir=tmp_path / "plain"))
    unchanged = {"after": 2, "settings": {"learning_rate": 0.1}}
    assert same(trained(config(unchanged, average=0.9), ctx), plain)
    assert not list(tmp_path.rglob("*.safetensors"))  # nothing is left to go on from
    assert [e["epoch"] for e in ctx.records["training"]["epochs"]] == [1, 2, 3, 4, 5, 6]


def test_a_step_of_the_learning_rate_is_that_of_the_optimiser(ctx, tmp_path):
    by_hand = Regression()
    optimizer = default_optimizer(by_hand.module, config())

    class Steps(StubContext):
        def epoch_finished(self, epoch, metrics):
            if epoch == 3:
                optimizer.param_groups[0]["lr"] = 0.001

    train(by_hand, config(), Steps(tmp_path / "hand"), optimizer=optimizer)
    stub = StubContext(tmp_path / "schedule")
    for leg, until, since in ((config(), 3, 0), (config(learning_rate=0.001), None, 3)):
        task = Regression()
        stub.leg = Leg(since, until)
        try:
            train(task, leg, stub)
        except LegFinishedError:
            assert until == 3
    assert same(task, by_hand)
    assert not same(trained(config(), replace(ctx, workdir=tmp_path / "other")), by_hand)


def test_patience_ends_the_training_whatever_leg_it_is_in(ctx):
    stops = replace(ctx, validator=FixedValidator([0.5, 0.4, 0.3]))  # type: ignore[arg-type]
    trained(config(SLOWER, patience=2), stops)
    assert ctx.records["training"]["stopped"] == "patience"
    assert ctx.records["training"]["best_epoch"] == 1


def test_an_interrupted_schedule_goes_on_where_it_was(ctx, tmp_path):
    seen = []

    def stop(stage, epoch, metrics):
        seen.append(epoch)
        if epoch == 5 and seen.count(5) == 1:
            raise StoppedError("enough")

    around = replace(ctx.surroundings, on_epoch=stop, keep_epochs=True)
    stopped = replace(ctx, surroundings=around, workdir=tmp_path / "stopped")
    with pytest.raises(StoppedError):
        trained(config(SLOWER), stopped)
    assert same(trained(config(SLOWER), stopped), trained(config(SLOWER), ctx))
    assert seen == [1, 2, 3, 4, 5, 6]  # the fifth was kept before it was told


def test_a_missing_checkpoint_is_no_reason_to_begin_in_the_middle(ctx, tmp_path):
    late = replace(ctx, leg=Leg(since=3))
    with pytest.raises(StageError, match="checkpoint of the first 3 epochs is gone or damaged"):
        train(Regression(), config(), late)
    assert ctx.records == {}


def test_settings_that_change_the_shape_are_a_clear_error(ctx):
    with pytest.raises(StageError) as caught:
        trained(config(SLOWER), ctx, width=2)
    assert "settings that change after 3 epochs change the model's shape" in str(caught.value)


def test_several_processes_train_no_schedule(ctx):
    with pytest.raises(StageError, match="trained in one process"):
        trained(config(SLOWER), replace(ctx, workers=Workers(0, 2)))


def test_trainings_beside_the_main_one_are_whole(ctx, tmp_path):
    """As the head of a prompt's evidence, which is trained before the prompt."""
    leg = replace(ctx, leg=Leg(until=2))
    log = train(Regression(), config(), leg, name="evidence", record="evidence")
    assert len(log.epochs) == 6
    assert not Path(tmp_path / "checkpoints" / "train").exists()
