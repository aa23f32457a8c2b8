"""Training on several processes: what two compute together is what one computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_line import CONFIG, N_USERS, fit, lists, validate

from dynmm_framework.protocols import Workers
from dynmm_framework.training.parallel import share

SCRIPT = Path(__file__).with_name("parallel_line.py")


@given(n_batches=st.integers(0, 30), size=st.integers(1, 7))
def test_every_batch_goes_to_one_worker_and_all_take_as_many_steps(
    n_batches: int, size: int
) -> None:
    shares = [list(share(range(n_batches), Workers(rank, size))) for rank in range(size)]
    assert {len(own) for own in shares} == {-(-n_batches // size)}
    steps = [batch for step in zip(*shares, strict=True) for batch in step]
    assert [batch for batch in steps if batch is not None] == list(range(n_batches))
    assert None not in steps[:n_batches]


def test_settings_are_divided_so_that_a_step_keeps_its_rows() -> None:
    assert CONFIG.divided(1) == CONFIG
    assert CONFIG.divided(2).batch_size * 2 == CONFIG.batch_size
    assert CONFIG.divided(3).batch_size == 4


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found, see the script."""
    folder = tmp_path_factory.mktemp("two")
    processes = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), "2", str(folder)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_two_workers_learn_what_one_learns(
    two: list[dict[str, Any]], tmp_path: Path, reduction: str
) -> None:
    alone, ctx = fit(Workers(), tmp_path, reduction=reduction)
    for name, weights in lists(alone).items():
        np.testing.assert_allclose(two[0][reduction]["weights"][name], weights, rtol=2e-4)
    for here, there in zip(
        ctx.records["training"]["epochs"], two[0][reduction]["log"]["epochs"], strict=True
    ):
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-4)


def test_all_workers_have_the_same_weights_bit_for_bit(two: list[dict[str, Any]]) -> None:
    for reduction in ("mean", "sum"):
        assert two[0][reduction]["weights"] == two[1][reduction]["weights"]


def test_what_no_worker_has_a_gradient_for_is_left_alone(two: list[dict[str, Any]]) -> None:
    assert two[0]["mean"]["weights"]["unused"] == [1.0, 1.0]


def test_workers_resume_from_the_first_ones_checkpoint(two: list[dict[str, Any]]) -> None:
    assert two[0]["checkpoints"] == 1
    assert two[0]["resumed"]["logged"] == ["resumed after epoch 1"]
    assert two[0]["resumed"]["epochs"] == [2, 3, 4]
    for found in two:
        assert found["resumed"]["weights"] == found["mean"]["weights"]


def test_a_loss_that_is_not_finite_on_one_worker_stops_all(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["error"].startswith("stage fit/stub/seed-7, epoch 1, batch 6: loss is nan")


def test_checkpoints_that_are_not_shared_are_noticed(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert "the workers found checkpoints of different epochs (1, 0)" in found["unshared"]
        assert "file system that all machines share" in found["unshared"]


def test_every_validation_user_is_scored_once_over_all_workers(two: list[dict[str, Any]]) -> None:
    shares = [found["users"] for found in two]
    assert sorted(shares[0] + shares[1]) == list(range(N_USERS))
    assert abs(len(shares[0]) - len(shares[1])) <= 1
    metrics, seen = validate(Workers())
    assert seen == list(range(N_USERS))
    assert two[0]["metrics"] == two[1]["metrics"] == pytest.approx(metrics, rel=1e-12)


def test_arrays_of_different_lengths_are_gathered(two: list[dict[str, Any]]) -> None:
    assert two[0]["gathered"] == two[1]["gathered"] == [[], [0.0, 1.0]]
