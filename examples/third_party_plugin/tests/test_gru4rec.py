"""What every backbone must do, what this one reaches, and that padding changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import StageError
from dynmm_framework.testing import BackboneConformance
from dynmm_framework.training.batches import lay_out
from dynmm_framework.training.sequences import prepare

from dynmm_gru4rec.config import GRU4RecConfig
from dynmm_gru4rec.model import GRU4Rec
from dynmm_gru4rec.network import Network

SMALL = {"hidden_size": 16, "max_length": 8, "batch_size": 32, "dropout": 0.0}


class TestGRU4Rec(BackboneConformance):
    component = "gru4rec"
    config = {**SMALL, "epochs": 15, "learning_rate": 0.02}
    # Random scores reach 0.044 on the generated test users, popularity 0.152.
    expected = {"ndcg@10": (0.35, 0.60)}


class TestSampledLoss(TestGRU4Rec):
    config = {**SMALL, "epochs": 15, "learning_rate": 0.02, "loss": "sampled_softmax"}


def test_a_state_is_that_of_torch_s_network_on_the_sequence_alone() -> None:
    torch.manual_seed(0)
    network = Network(GRU4RecConfig(**SMALL, layers=2), 30).eval()
    rows = [[3, 4, 5, 6, 7, 8], [1], [9, 2, 9], [5, 5, 5, 5]]
    lengths = np.array([len(row) for row in rows])
    layout = lay_out(lengths)
    items = np.concatenate([rows[index] for index in layout.order])
    inputs = prepare(layout, lengths, items, max_length=8, device="cpu")
    with torch.no_grad():
        states = network(inputs, ends_only=True)
        for place, index in enumerate(layout.order):
            alone, _ = network.recurrent(network.items(torch.tensor([rows[index]])))
            wanted = network.output(alone[0, -1])
            torch.testing.assert_close(states[place], wanted, rtol=1e-4, atol=1e-6)


def test_before_training_there_are_no_vectors() -> None:
    with pytest.raises(StageError, match="GRU4Rec is not fitted"):
        GRU4Rec(GRU4RecConfig()).user_vectors(Histories.of([[1]], 3))
