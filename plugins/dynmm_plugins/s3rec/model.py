"""S3-Rec as a backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.artifacts.arrays import load_arrays, read_metadata, save_arrays
from dynmm_framework.data.fingerprint import fingerprint_arrays
from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import Context, FloatArray, Scores, State
from dynmm_framework.training.batches import lay_out
from dynmm_framework.training.checkpoint import training_digest
from dynmm_framework.training.loop import TrainingLog, train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.s3rec.attributes import Attributes
from dynmm_plugins.s3rec.config import S3RecConfig
from dynmm_plugins.s3rec.network import Network, Pretraining
from dynmm_plugins.s3rec.sequences import Prefixes, TrainingSequences, prepare, to_tensor
from dynmm_plugins.s3rec.tasks import FineTuningTask, PretrainingTask, Unvalidated

ENCODE_ROWS = 512
"""Histories encoded at once when serving."""


class S3Rec:
    """Self-supervised sequential recommendation (Zhou et al., CIKM 2020, arXiv:2008.07873).

    A SASRec whose weights are first pre-trained, with attention in both directions, by four
    losses that maximise mutual information between an item, its attributes, its surroundings and
    a segment of the sequence: associated attribute prediction (AAP), masked item prediction
    (MIP), masked attribute prediction (MAP), segment prediction (SP). Then it is fine-tuned, with
    causal attention, to predict the next item at every position.

    Differences from the paper's code: negatives of MIP lie outside the whole training history and
    not just the prefix; items without attributes take no part in AAP and MAP, where the code
    counts every attribute as absent; prefixes of one item take no part in SP, where both its
    segments are the same; of pre-training the last epoch counts, not the best of several by the
    result of fine-tuning; fine-tuning keeps averaged weights (``average: 0`` does not). Sequences
    of a batch are padded to those of similar length only, and where the newest state alone is
    asked for, the last block computes no other, which changes no output but the time. A table
    without attributes is pre-trained by MIP and SP alone, which the log says.

    Users are their histories, known or not. Of a history longer than ``max_length`` the newest
    items count; an item may occur several times. An empty history gets the vector whose scores
    follow the logarithm of the items' training counts best, in the least-squares sense, so that
    popular items come first. An item without training interactions keeps its place in the
    catalogue; as it is only ever a negative it is scored low. Users with one training interaction
    are pre-trained on and not fine-tuned on.

    Complexity of a pre-training epoch: O(n · (4 · (L·d + d²) · layers + A·d)) for n positions of
    all prefixes, padded width L, hidden size d and A attributes; there are up to ``max_length``/2
    times as many as in an epoch of fine-tuning, O(n · (L·d + d²) · layers).

    Args:
        config: Settings.
    """

    def __init__(self, config: S3RecConfig) -> None:
        self.config = config
        self.network: Network | None = None
        self.training_log: TrainingLog | None = None
        self._empty: FloatArray = np.zeros(config.hidden_size, dtype=np.float32)
        self._device = "cpu"

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Pre-trains and fine-tunes from scratch.

        Raises:
            StageError: If no user has two training interactions, the column of attributes is not
                one of lists, or a loss is NaN.
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
        if self.config.pretraining.epochs:
            self._pretrain(self.network, data, ctx)
        task = FineTuningTask(self.network, sequences, self._score)
        self.training_log = train(task, self.config, ctx, name="fine-tuning")
        items = self.network.vectors.detach().cpu().numpy()
        self._empty = _popular_direction(items, data.train.item_counts())

    def item_vectors(self) -> Scores:
        """Returns the vectors of all items, ``(n_items, hidden_size)``.

        NumPy after training on the CPU, a tensor on its device after training on a GPU.
        """
        return _deliver(self._fitted().vectors.detach().clone())

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
                f"stored weights do not fit S3-Rec: {', '.join(missing)} missing",
                hint="They belong to another component; train again.",
            )
        prefix = "network."
        weights = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
        with torch.random.fork_rng(devices=[]):  # initial weights are overwritten at once
            network = Network(self.config, len(weights["items.weight"]) - 1)
        load_module_state(network, weights)
        self.network = network.eval()
        self._empty = np.array(state["empty_history"], dtype=np.float32)
        self._device = "cpu"

    def _fitted(self) -> Network:
        if self.network is None:
            raise StageError("S3-Rec is not fitted", hint="Call fit or load_state first.")
        return self.network

    def _pretrain(self, network: Network, data: TrainingData, ctx: Context) -> None:
        """Pre-trains the network in place, or loads what an interrupted run had finished."""
        settings = self.config.pretraining
        attributes = Attributes.read(data.items, settings.attributes, stage=ctx.stage)
        if not attributes.size:
            ctx.log(
                f"items have no attributes in column {settings.attributes!r}: pre-training by MIP "
                "and SP alone"
            )
        prefixes = Prefixes(data.histories, attributes, self.config, device=ctx.device)
        with seeded(ctx, "initialise pre-training"):
            module = Pretraining(self.config, network, attributes.size).to(ctx.device)
        facts = {
            "config": self.config.model_dump(mode="json", exclude={"epochs", "patience"}),
            "data": fingerprint_arrays(
                items=data.histories.items,
                offsets=data.histories.offsets,
                attributes=attributes.ids,
                attribute_offsets=attributes.offsets,
            ),
            "run": [ctx.stage, ctx.seed, ctx.precision],
        }
        digest = training_digest(module, facts)
        finished = ctx.workdir / "pretrained.safetensors"
        if _load_finished(finished, network, digest):
            ctx.log("pre-training was finished before the interruption")
            return
        loop = self.config.model_copy(
            update={
                "epochs": settings.epochs,
                "batch_size": settings.batch_size,
                "learning_rate": settings.learning_rate,
                "patience": 0,
                "clip_norm": 0.0,
                "average": 0.0,
                "validate_every": settings.epochs,
            }
        )
        task = PretrainingTask(module, prefixes, self._score)
        train(task, loop, Unvalidated(ctx), name="pre-training")
        save_arrays(finished, module_state(network), metadata={"digest": digest})

    def _score(self, histories: Histories) -> Tensor:
        network = self._fitted()
        return self._encode(network, histories) @ network.vectors.T

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
            states = network(inputs, causal=True, ends_only=True).float()
            out[to_tensor(rows[layout.order], self._device)] = states
        return out


def _load_finished(path: Path, network: Network, digest: str) -> bool:
    """Loads a finished pre-training of the same settings; tells whether there was one."""
    try:
        if not path.exists() or read_metadata(path).get("digest") != digest:
            return False
        load_module_state(network, load_arrays(path))
    except ArtifactError:
        return False  # pre-train again
    return True


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
