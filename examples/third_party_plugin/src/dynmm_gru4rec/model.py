"""GRU4Rec as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynmm_framework.errors import StageError
from dynmm_framework.training.histories import HistoryEncoder
from dynmm_framework.training.loop import TrainingLog, train
from dynmm_framework.training.next_item import NextItemSequences, NextItemTask
from dynmm_framework.training.seeding import seeded

from dynmm_gru4rec.config import GRU4RecConfig
from dynmm_gru4rec.network import Network

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, Scores, State


class GRU4Rec:
    """Session-based recommendation by a recurrent network (Hidasi et al., ICLR 2016).

    A gated recurrent network reads a history; its last state, multiplied with item vectors, scores
    the next item (arXiv:1511.06939). Differences: input and output share the item vectors, as in
    its successor's constrained embeddings (Hidasi & Karatzoglou, CIKM 2018, arXiv:1706.03847);
    sequences are trained whole, in batches of similar length, not cut into session-parallel
    steps; losses are those of the core's next-item room instead of TOP1 and BPR-max; AdamW
    instead of Adagrad.

    Users are their histories, known or not. Of a history longer than ``max_length`` the newest
    items count; an empty one gets what is popular.

    Complexity of an epoch: O(n · d² · layers) for n positions and hidden size d; full
    cross-entropy adds O(n · n_items · d).

    Args:
        config: Settings.
    """

    def __init__(self, config: GRU4RecConfig) -> None:
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
        task = NextItemTask(network, sequences, encoder.score)
        self.training_log = train(task, config, ctx)
        encoder.learn_popularity(data.train.item_counts())

    def item_vectors(self) -> Scores:
        """Returns the vectors of all items, ``(n_items, hidden_size)``."""
        return self._fitted().item_vectors()

    def user_vectors(self, histories: Histories) -> Scores:
        """Returns the state after each history, ``(len(histories), hidden_size)``."""
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
                state, lambda n_items: Network(self.config, n_items), owner="GRU4Rec"
            )

    def _fitted(self) -> HistoryEncoder:
        if self._encoder is None:
            raise StageError("GRU4Rec is not fitted", hint="Call fit or load_state first.")
        return self._encoder
