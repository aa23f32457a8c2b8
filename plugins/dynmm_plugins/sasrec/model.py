"""SASRec as a backbone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import Context, FloatArray, Scores, State
from dynmm_framework.training.batches import lay_out
from dynmm_framework.training.loop import TrainingLog, default_optimizer, train
from dynmm_framework.training.losses import binary_cross_entropy, cross_entropy, sampled_softmax
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.sasrec.config import SASRecConfig
from dynmm_plugins.sasrec.network import Network
from dynmm_plugins.sasrec.sequences import Batch, TrainingSequences, prepare, to_tensor

ENCODE_ROWS = 512
"""Histories encoded at once when serving."""


class SASRec:
    """Self-attentive sequential recommendation (Kang & McAuley, ICDM 2018, arXiv:1808.09781).

    A causal transformer reads a history and its last state, multiplied with item vectors, scores
    the next item. All positions of a history are trained in one pass. Differences from the paper
    in the default configuration: post-norm blocks with GELU and a feed-forward width of four times
    the hidden size, N(0, 0.02) initialisation and unscaled embeddings, as in S3-Rec's code (Zhou
    et al., CIKM 2020), whose published figures it reproduces; the paper's own choices are all
    available as settings. Sequences of a batch are padded to those of similar length only, which
    changes no output but the time.

    Users are their histories, known or not. Of a history longer than ``max_length`` the newest
    items count; an item may occur several times. An empty history gets the vector whose scores
    follow the logarithm of the items' training counts best, in the least-squares sense, so that
    popular items come first. An item without training interactions keeps its place in the
    catalogue; as it is only ever a negative it is scored low. Users with fewer than two training
    interactions have nothing to predict and take no part in training.

    Complexity of an epoch: O(n · (L·d + d²) · layers) for n real positions, padded width L ≤
    ``max_length`` and hidden size d; full cross-entropy adds O(n · n_items · d).

    Args:
        config: Settings.
    """

    def __init__(self, config: SASRecConfig) -> None:
        self.config = config
        self.network: Network | None = None
        self.training_log: TrainingLog | None = None
        self._empty: FloatArray = np.zeros(config.hidden_size, dtype=np.float32)
        self._device = "cpu"

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Trains from scratch.

        Raises:
            StageError: If no user has two training interactions, or the loss is NaN.
        """
        sequences = TrainingSequences(data.histories, self.config, device=ctx.device)
        if not sequences.n_targets:
            raise StageError(
                f"stage {ctx.stage}: no user has two training interactions, so there is no next "
                "item to learn",
                hint="Check the filters and the split.",
            )
        with seeded(ctx, "initialise"):
            self.network = Network(self.config, data.n_items)
        self._device = ctx.device
        self.network.to(ctx.device)
        optimizer = default_optimizer(self.network, self.config, betas=(0.9, self.config.beta2))
        task = _Task(self, self.network, sequences)
        self.training_log = train(task, self.config, ctx, optimizer=optimizer)
        items = self.network.items.weight.detach().cpu().numpy()
        self._empty = _popular_direction(items, data.train.item_counts())

    def item_vectors(self) -> Scores:
        """Returns the vectors of all items, ``(n_items, hidden_size)``.

        NumPy after training on the CPU, a tensor on its device after training on a GPU.
        """
        return _deliver(self._fitted().items.weight.detach().clone())

    def user_vectors(self, histories: Histories) -> Scores:
        """Returns the last hidden state of each history, ``(len(histories), hidden_size)``.

        NumPy after training on the CPU, a tensor on its device after training on a GPU.
        """
        network = self._fitted()
        network.eval()
        with torch.no_grad():
            return _deliver(self._encode(network, histories))

    def get_state(self) -> State:
        """Returns the weights; empty before ``fit``."""
        if self.network is None:
            return {}
        weights = {f"network.{name}": value for name, value in module_state(self.network).items()}
        return {**weights, "empty_history": self._empty.copy()}

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned.

        Raises:
            ArtifactError: If the arrays are of another configuration.
        """
        if not state:
            self.network = None
            return
        missing = [name for name in ("network.items.weight", "empty_history") if name not in state]
        if missing:
            raise ArtifactError(
                f"stored weights do not fit SASRec: {', '.join(missing)} missing",
                hint="They belong to another component; train again.",
            )
        prefix = "network."
        weights = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
        with torch.random.fork_rng(devices=[]):  # initial weights are overwritten at once
            network = Network(self.config, len(weights["items.weight"]))
        load_module_state(network, weights)
        self.network = network.eval()
        self._empty = np.array(state["empty_history"], dtype=np.float32)
        self._device = "cpu"

    def _fitted(self) -> Network:
        if self.network is None:
            raise StageError("SASRec is not fitted", hint="Call fit or load_state first.")
        return self.network

    def _encode(self, network: Network, histories: Histories) -> Tensor:
        """Encodes histories on the network's device, ``(len(histories), hidden_size)``."""
        newest = histories.last(self.config.max_length)
        lengths = newest.lengths
        empty = torch.from_numpy(self._empty).to(self._device)
        out = empty.repeat(len(newest), 1)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        for start in range(0, len(order), ENCODE_ROWS):
            rows = order[start : start + ENCODE_ROWS]
            layout = lay_out(lengths[rows], single=self._device != "cpu")
            inputs = prepare(
                layout,
                lengths[rows],
                newest.take(rows[layout.order]).items,
                max_length=self.config.max_length,
                device=self._device,
            )
            states = network(inputs.items, inputs.positions, inputs.blocks)
            last = states[to_tensor(layout.ends, self._device)].float()
            out[to_tensor(rows[layout.order], self._device)] = last
        return out


@dataclass
class _Task:
    """Next-item prediction, for the training loop."""

    model: SASRec
    network: Network
    sequences: TrainingSequences

    def __post_init__(self) -> None:
        self.module: nn.Module = self.network
        self.n_batches = self.sequences.n_batches
        self.n_targets = self.sequences.n_targets
        self.forward: Any = self.network
        if self.model.config.compile:
            self.forward = torch.compile(self.network, dynamic=True)

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        return self.sequences.batches(rng)

    def loss(self, batch: Batch) -> Tensor:
        inputs = batch.inputs
        states = self.forward(inputs.items, inputs.positions, inputs.blocks)
        states = states.index_select(0, batch.cells)  # (real positions, dim)
        items = self.network.items.weight
        if batch.negatives is None:
            return cross_entropy(states, items, batch.targets)
        if self.model.config.loss == "bce":
            return binary_cross_entropy(states, items, batch.targets, batch.negatives)
        return sampled_softmax(states, items, batch.targets, batch.negatives)

    def score(self, histories: Histories) -> Tensor:
        return self.model._encode(self.network, histories) @ self.network.items.weight.T


def _deliver(vectors: Tensor) -> Scores:
    return vectors if vectors.is_cuda else vectors.numpy()


def _popular_direction(items: FloatArray, counts: NDArray[np.int64]) -> FloatArray:
    """Returns the vector whose inner products with items follow log(1 + count) best.

    Least squares on centred values: a constant added to all scores changes no ranking.
    """
    wanted = np.log1p(counts.astype(np.float64))
    matrix = items.astype(np.float64) - items.mean(axis=0)
    gram = matrix.T @ matrix
    ridge = 1e-3 * np.trace(gram) / len(gram) + 1e-12
    moment = matrix.T @ (wanted - wanted.mean())
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), moment).astype(np.float32)
