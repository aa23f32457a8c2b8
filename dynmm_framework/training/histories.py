"""What a trained sequence network serves: vectors of items and of histories, and its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import FloatArray, Scores, State
from dynmm_framework.training.batches import lay_out
from dynmm_framework.training.sequences import prepare, to_tensor
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_framework.training.transformer import SequenceTransformer

ENCODE_ROWS = 512
"""Histories encoded at once on the CPU."""

ENCODE_ROWS_GPU = 8192
"""The same on a GPU."""

PREFIX, EMPTY = "network.", "empty_history"
"""Names in a state: those of the network's arrays begin with the first."""


class HistoryEncoder:
    """Encodes histories by the state that a causal network has after their newest item.

    Of a history longer than the network's ``max_length`` the newest items count. An empty history
    gets a vector of its own, see :meth:`learn_popularity`.

    Args:
        network: On any device.
        empty: Vector of an empty history, ``(hidden_size,)``; zeros if ``None``.
    """

    def __init__(self, network: SequenceTransformer, *, empty: FloatArray | None = None) -> None:
        self.network = network
        width = network.items.embedding_dim
        self.empty = np.zeros(width, dtype=np.float32) if empty is None else empty

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.items.weight.device

    def learn_popularity(self, counts: NDArray[np.int64]) -> None:
        """Gives empty histories the vector by whose scores popular items come first.

        Args:
            counts: Training interactions of each item, ``(n_items,)``.
        """
        self.empty = popular_direction(self.network.vectors.detach().cpu().numpy(), counts)

    def item_vectors(self) -> Scores:
        """Returns the vectors of all items, ``(n_items, hidden_size)``.

        NumPy from a network on the CPU, a tensor on its device from one on a GPU.
        """
        return _deliver(self.network.vectors.detach().clone())

    def user_vectors(self, histories: Histories) -> Scores:
        """Returns the vector of each history, ``(len(histories), hidden_size)``.

        NumPy from a network on the CPU, a tensor on its device from one on a GPU.
        """
        self.network.eval()
        with torch.no_grad():
            return _deliver(self.encode(histories))

    def score(self, histories: Histories) -> Tensor:
        """Scores all items, ``(len(histories), n_items)``, for a network in evaluation mode."""
        return self.encode(histories) @ self.network.vectors.T

    def encode(self, histories: Histories) -> Tensor:
        """Returns the vectors on the network's device, for a network in evaluation mode."""
        device, max_length = self.device, self.network.max_length
        on_cpu = device.type == "cpu"
        newest = histories.last(max_length)
        lengths = newest.lengths
        out = torch.from_numpy(self.empty).to(device).repeat(len(newest), 1)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        at_once = ENCODE_ROWS if on_cpu else ENCODE_ROWS_GPU
        for start in range(0, len(order), at_once):
            rows = order[start : start + at_once]
            layout = lay_out(lengths[rows], single=not on_cpu)
            ordered = rows[layout.order]
            items = newest.take(ordered).items
            inputs = prepare(layout, lengths[rows], items, max_length=max_length, device=device)
            states = self.network(inputs, ends_only=True).float()
            out[to_tensor(ordered, device)] = states
        return out

    def state(self) -> State:
        """Returns copies of the network's weights and of the vector of an empty history."""
        weights = {PREFIX + name: value for name, value in module_state(self.network).items()}
        return {**weights, EMPTY: self.empty.copy()}

    @classmethod
    def restore(
        cls, state: State, make: Callable[[int], SequenceTransformer], *, owner: str
    ) -> HistoryEncoder:
        """Rebuilds an encoder, on the CPU, from what :meth:`state` returned.

        Args:
            state: Named arrays.
            make: Builds the network from the number of vectors in its ``items``, with any
                weights.
            owner: Name of the component, for the error.

        Raises:
            ArtifactError: If arrays are missing or of another configuration.
        """
        missing = [name for name in (f"{PREFIX}items.weight", EMPTY) if name not in state]
        if missing:
            raise ArtifactError(
                f"stored weights do not fit {owner}: {', '.join(missing)} missing",
                hint="They belong to another component; train again.",
            )
        weights: dict[str, NDArray[Any]] = {
            name.removeprefix(PREFIX): value
            for name, value in state.items()
            if name.startswith(PREFIX)
        }
        with torch.random.fork_rng(devices=[]):  # initial weights are overwritten at once
            network = make(len(weights["items.weight"]))
        load_module_state(network, weights)
        return cls(network.eval(), empty=np.array(state[EMPTY], dtype=np.float32))


def popular_direction(items: FloatArray, counts: NDArray[np.int64]) -> FloatArray:
    """Returns the vector whose inner products with items follow log(1 + count) best.

    Least squares on centred values: a constant added to all scores changes no ranking.

    Args:
        items: ``(n_items, d)``.
        counts: ``(n_items,)``.
    """
    wanted = np.log1p(counts.astype(np.float64))
    matrix = items.astype(np.float64) - items.mean(axis=0)
    gram = matrix.T @ matrix
    ridge = 1e-3 * np.trace(gram) / len(gram) + 1e-12
    moment = matrix.T @ (wanted - wanted.mean())
    direction: FloatArray = np.linalg.solve(gram + ridge * np.eye(len(gram)), moment).astype(
        np.float32
    )
    return direction


def _deliver(vectors: Tensor) -> Scores:
    return vectors if vectors.device.type != "cpu" else vectors.numpy()
