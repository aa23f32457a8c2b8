"""S3-Rec as a backbone."""

from __future__ import annotations

from pathlib import Path

from dynmm_framework.artifacts.arrays import load_arrays, read_metadata, save_arrays
from dynmm_framework.data.fingerprint import fingerprint_arrays
from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import Context, Scores, State
from dynmm_framework.training.checkpoint import training_digest
from dynmm_framework.training.histories import HistoryEncoder
from dynmm_framework.training.loop import TrainingLog, train
from dynmm_framework.training.next_item import NextItemSequences, NextItemTask
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.s3rec.attributes import Attributes
from dynmm_plugins.s3rec.config import S3RecConfig
from dynmm_plugins.s3rec.network import Network, Pretraining
from dynmm_plugins.s3rec.prefixes import Prefixes
from dynmm_plugins.s3rec.task import PretrainingTask


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
        self.training_log: TrainingLog | None = None
        self._encoder: HistoryEncoder | None = None

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Pre-trains and fine-tunes from scratch.

        Raises:
            StageError: If no user has two training interactions, the column of attributes is not
                one of lists, or a loss is NaN.
        """
        config = self.config
        sequences = NextItemSequences(
            data.histories,
            max_length=config.max_length,
            batch_size=config.batch_size,
            loss=config.loss,
            device=ctx.device,
        )
        sequences.refuse_nothing(ctx.stage)
        with seeded(ctx, "initialise"):
            network = Network(config, data.n_items)
        encoder = self._encoder = HistoryEncoder(network.to(ctx.device))
        if config.pretraining.epochs:
            self._pretrain(encoder, network, data, ctx)
        task = NextItemTask(network, sequences, encoder.score)
        self.training_log = train(task, config, ctx, name="fine-tuning")
        encoder.learn_popularity(data.train.item_counts())

    def item_vectors(self) -> Scores:
        """Returns the vectors of all items, ``(n_items, hidden_size)``.

        NumPy after training on the CPU, a tensor on its device after training on a GPU.
        """
        return self._fitted().item_vectors()

    def user_vectors(self, histories: Histories) -> Scores:
        """Returns the last hidden state of each history, ``(len(histories), hidden_size)``.

        NumPy after training on the CPU, a tensor on its device after training on a GPU.
        """
        return self._fitted().user_vectors(histories)

    def get_state(self) -> State:
        """Returns the weights; empty before ``fit``."""
        return {} if self._encoder is None else self._encoder.state()

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned.

        Raises:
            ArtifactError: If the arrays are of another configuration.
        """
        self._encoder = None
        if state:
            self._encoder = HistoryEncoder.restore(
                state, lambda n_vectors: Network(self.config, n_vectors - 1), owner="S3-Rec"
            )

    def _fitted(self) -> HistoryEncoder:
        if self._encoder is None:
            raise StageError("S3-Rec is not fitted", hint="Call fit or load_state first.")
        return self._encoder

    def _pretrain(
        self, encoder: HistoryEncoder, network: Network, data: TrainingData, ctx: Context
    ) -> None:
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
        task = PretrainingTask(module, prefixes, encoder.score)
        train(task, loop, ctx, name="pre-training", validate=False, record="pre-training")
        save_arrays(finished, module_state(network), metadata={"digest": digest})


def _load_finished(path: Path, network: Network, digest: str) -> bool:
    """Loads a finished pre-training of the same settings; tells whether there was one."""
    try:
        if not path.exists() or read_metadata(path).get("digest") != digest:
            return False
        load_module_state(network, load_arrays(path))
    except ArtifactError:
        return False  # pre-train again
    return True
