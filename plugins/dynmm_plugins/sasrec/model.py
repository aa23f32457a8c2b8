"""SASRec as a backbone."""

from __future__ import annotations

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.protocols import Context, Scores, State
from dynmm_framework.training.histories import HistoryEncoder
from dynmm_framework.training.loop import TrainingLog, default_optimizer, train
from dynmm_framework.training.next_item import NextItemSequences, NextItemTask
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.sasrec.config import SASRecConfig
from dynmm_plugins.sasrec.network import Network


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
        self.training_log: TrainingLog | None = None
        self._encoder: HistoryEncoder | None = None

    def fit(self, data: TrainingData, ctx: Context) -> None:
        """Trains from scratch.

        Raises:
            StageError: If no user has two training interactions, or the loss is NaN.
        """
        config = self.config
        sequences = NextItemSequences(
            data.histories,
            max_length=config.max_length,
            batch_size=config.batch_size,
            loss=config.loss,
            n_negatives=config.n_negatives,
            windows=config.windows,
            device=ctx.device,
        )
        sequences.refuse_nothing(ctx.stage)
        with seeded(ctx, "initialise"):
            network = Network(config, data.n_items)
        encoder = self._encoder = HistoryEncoder(network.to(ctx.device))
        optimizer = default_optimizer(network, config, betas=(0.9, config.beta2))
        task = NextItemTask(network, sequences, encoder.score, compile=config.compile)
        self.training_log = train(task, config, ctx, optimizer=optimizer)
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
                state, lambda n_items: Network(self.config, n_items), owner="SASRec"
            )

    def _fitted(self) -> HistoryEncoder:
        if self._encoder is None:
            raise StageError("SASRec is not fitted", hint="Call fit or load_state first.")
        return self._encoder
