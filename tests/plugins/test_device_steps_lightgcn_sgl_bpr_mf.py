"""The GPU's path of the models with a vector per user, forced onto the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Histories
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.folding import distinct_items
from dynmm_framework.training.graphs import BipartiteGraph
from dynmm_framework.training.loop import train
from dynmm_framework.training.triples import (
    DeviceTripleSampler,
    TripleSampler,
    TripleTask,
)
from dynmm_plugins.bpr_mf.config import BPRMFConfig
from dynmm_plugins.bpr_mf.model import BPRTask
from dynmm_plugins.bpr_mf.network import Factors
from dynmm_plugins.lightgcn.config import LightGCNConfig
from dynmm_plugins.lightgcn.model import LightGCNTask
from dynmm_plugins.lightgcn.network import LightGCNNetwork
from dynmm_plugins.sgl.config import SGLConfig
from dynmm_plugins.sgl.model import SGLTask
from dynmm_plugins.sgl.network import SGLNetwork

NAMES = ("lightgcn", "sgl", "bpr_mf")
SETTINGS: dict[str, Any] = {"dim": 8, "epochs": 3, "batch_size": 256, "learning_rate": 0.02}


def made(name: str, histories: Histories, *, device: bool) -> tuple[TripleTask[Any], LoopConfig]:
    """Returns a model's task, with the samplers and products of a device or of the host."""
    torch.manual_seed(0)
    by = "interactions" if name == "bpr_mf" else "users"
    sampler = (
        DeviceTripleSampler(histories, by=by, device="cpu")
        if device
        else TripleSampler(histories, by=by)
    )
    if name == "lightgcn":
        config = LightGCNConfig(**SETTINGS)
        graph = BipartiteGraph.of(histories, product="csr" if device else "bag")
        return LightGCNTask(LightGCNNetwork(graph, config), histories, config, sampler), config
    if name == "sgl":
        config = SGLConfig(**SETTINGS)
        network = SGLNetwork(histories, config)
        network.graph.product = "csr" if device else "bag"
        return SGLTask(network, histories, config, sampler), config
    config = BPRMFConfig(**SETTINGS)
    factors = Factors(len(histories), histories.n_items, config)
    return BPRTask(factors, histories, config, sampler), config


class NoHost(TorchDispatchMode):
    """Refuses what copies from the host, or waits for the device to tell a number or a shape."""

    refused = ("_local_scalar_dense", "nonzero", "_to_copy", "lift_fresh", "masked_select")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not any(f"aten.{word}." in name for word in self.refused), name
        if name.startswith("aten.index"):  # by a mask, it asks the device how many are chosen
            chosen = [x for x in args[1] if x is not None] if isinstance(args[1], list) else []
            assert all(x.dtype != torch.bool for x in chosen), f"{name} by a mask"
        return func(*args, **(kwargs or {}))


def test_the_guard_of_these_tests_sees_what_it_refuses() -> None:
    numbers = torch.arange(3)
    for step in (lambda: int(numbers[0]), lambda: numbers[numbers > 1], lambda: numbers.float()):
        with NoHost(), pytest.raises(AssertionError, match="aten"):
            step()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_needs_nothing_of_the_host(name: str, dynmm_split: Split) -> None:
    histories = distinct_items(dynmm_split.train.histories())
    task, _ = made(name, histories, device=True)
    for batch in task.batches(np.random.default_rng(0)):
        if name == "sgl":
            for view in task.views:
                view.product = "csr"
        with NoHost():
            loss: Tensor = task.loss(batch)
            loss.backward()


@pytest.mark.parametrize("name", NAMES)
def test_the_devices_path_learns_as_the_hosts(
    name: str, dynmm_split: Split, dynmm_context: ContextFactory
) -> None:
    histories = distinct_items(dynmm_split.train.histories())
    losses = []
    for device in (False, True):
        task, config = made(name, histories, device=device)
        epochs = train(task, config, dynmm_context(validate=False)).epochs
        losses.append([epoch["loss"] for epoch in epochs])
    host, there = losses
    assert there[-1] < there[0]
    assert there == pytest.approx(host, rel=0.05)
