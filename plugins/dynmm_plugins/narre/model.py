"""NARRE as a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.reviews import require_reviews
from dynmm_framework.errors import StageError
from dynmm_framework.training.folding import TrainedVectors, VectorRecommender, distinct_items
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.triples import TripleTask, triple_sampler
from dynmm_plugins.narre.config import NARREConfig
from dynmm_plugins.narre.network import NARRENetwork
from dynmm_plugins.narre.texts import read_reviews

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynmm_framework.data.tables import EvaluationSet, Histories, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, Scores, State, Validator

USEFULNESS = "usefulness"


class NARRE(VectorRecommender):
    """Matrix factorisation whose factors hold what users wrote, review by review.

    Chen, Zhang, Liu & Ma, "Neural attentional rating regression with review-level explanations",
    WWW 2018. Each review is read by a convolution over its words; the reviews of a user, and those
    of an item, are pooled by an attention that sees the review and who wrote it or what it is
    about; the score is w · ((q_u + X_u) ⊙ (p_i + Y_i)) + b_u + b_i + μ. The attention over an
    item's reviews tells how useful each is (:meth:`review_weights`).

    Differences from the paper: by default it ranks, with Bayesian personalised ranking on one
    negative for each interaction; ``objective: rating`` is the paper's squared error. In training
    the review of the very pair that is asked for is not read: it does not exist when it matters,
    and reading it gives the rating away. Words are learned from scratch; the newest reviews are
    read; dropout on pooled reviews too; biases and w as printed. A user or an item without reviews
    has its factors alone. Users not trained on are folded in from their items' vectors, see
    :class:`~dynmm_framework.training.folding.UserVectors`. A training user keeps its vector,
    whatever its history has become.

    With ``rating`` and rated validation targets, early stopping follows their squared error.

    Vectors have dim + 2 numbers. A step reads the reviews of a batch's users and items,
    O(batch · reviews · words · window · word_dim · filters) time; memory is the words of all
    reviews, 8 bytes each.
    """

    def __init__(self, config: NARREConfig) -> None:
        super().__init__()
        self.config = config
        self._usefulness: FloatArray | None = None

    def fit(self, data: TrainingData, ctx: Context) -> None:
        texts = require_reviews(data.train, owner="narre")
        rating = self.config.objective == "rating"
        if rating and data.train.ratings is None:
            raise StageError(
                f"stage {ctx.stage}: narre predicts ratings, and the data has none",
                hint="Set objective: ranking, or name the rating column in the data block.",
            )
        reviews = read_reviews(data.train, texts, self.config)
        histories = distinct_items(data.histories)
        ratings = data.train.ratings
        mean = float(ratings.mean()) if rating and ratings is not None and len(ratings) else 0.0
        with seeded(ctx, "initialisation"):
            network = NARRENetwork(reviews, self.config, mean=mean)
        if rating:
            validator = _rating_validator(ctx.validator)
            task = RatingTask(network, histories, data, self.config.batch_size)
            train(task, self.config, ctx, validator=validator, validate=validator is not None)
        else:
            sampler = triple_sampler(histories, by="interactions", device=ctx.device)
            train(RankingTask(network, histories, self.config, sampler), self.config, ctx)
        self.vectors = network.vectors(histories)
        useful = np.zeros(len(data.train), np.float32)
        useful[reviews.rows[1:]] = network.usefulness().cpu().numpy()[1:]
        self._usefulness = useful

    def review_weights(self) -> FloatArray:
        """Returns how useful the review of each training interaction is, ``(n,)``.

        The weights of the reviews of one item that were read add up to 1; a review that was not
        read, for want of words or as others are newer, has 0.

        Raises:
            StageError: If there are none yet.
        """
        if self._usefulness is None:
            raise StageError("NARRE is not fitted", hint="Call fit or load_state first.")
        return self._usefulness

    def get_state(self) -> State:
        state = super().get_state()
        return state if self._usefulness is None else {**state, USEFULNESS: self._usefulness}

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self._usefulness = np.asarray(state[USEFULNESS]) if state else None


class RankingTask(TripleTask[NARRENetwork]):
    """Pairs of an item that a user has and one that it has not; each of the former once."""

    def __init__(
        self, network: NARRENetwork, histories: Histories, config: NARREConfig, sampler: Any
    ) -> None:
        super().__init__(network, histories, sampler=sampler, batch_size=config.batch_size)
        self.config = config

    def loss(self, batch: Tensor) -> Tensor:
        users, positive, negative = batch
        n = len(users)
        both, items = users.repeat(2), torch.cat([positive, negative])
        # The user is the same on both sides: without the review of what it is asked for.
        scores, norm = self.module(both, items, reviewed=positive.repeat(2))
        margin = scores[:n] - scores[n:]
        loss: Tensor = torch.nn.functional.softplus(-margin).mean()
        return loss + self.config.regularisation / 2 * norm / n


class RatingTask:
    """Rated interactions, each once an epoch, by squared error."""

    def __init__(
        self, network: NARRENetwork, histories: Histories, data: TrainingData, batch_size: int
    ) -> None:
        self.module, self.histories, self.batch_size = network, histories, batch_size
        self.train = data.train
        self.n_targets = len(data.train)
        self.n_batches = -(-self.n_targets // batch_size)
        self._vectors: TrainedVectors | None = None

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields users, items and ratings, ``(batch,)`` each."""
        self._vectors = None
        order = rng.permutation(self.n_targets)
        device = self.module.words.device
        assert self.train.ratings is not None  # asked before
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            users, items = self.train.users[rows], self.train.items[rows]
            columns = (users.astype(np.int64), items.astype(np.int64), self.train.ratings[rows])
            users_, items_, ratings = (torch.from_numpy(c).to(device) for c in columns)
            yield users_, items_, ratings

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        users, items, ratings = batch
        scores, _ = self.module(users, items)
        return (scores - ratings).square().mean()

    def n_terms(self, batch: tuple[Tensor, Tensor, Tensor]) -> int:
        """Number of ratings; see :class:`~dynmm_framework.training.loop.Task`."""
        return len(batch[0])

    def score(self, histories: Histories) -> Tensor:
        if self._vectors is None:
            self._vectors = self.module.vectors(self.histories)
        return self._vectors.score(histories)


@dataclass(frozen=True, eq=False)
class RatingValidator:
    """Root mean squared error on the ratings of validation targets."""

    evaluation: EvaluationSet
    metric: str = "rmse"
    higher_is_better: bool = False

    def take(self, rows: NDArray[Any]) -> RatingValidator:
        return RatingValidator(self.evaluation.take(rows))

    def __call__(self, score: Callable[[Histories], Scores]) -> Mapping[str, float]:
        targets = self.evaluation.targets
        scores = score(self.evaluation.histories)
        found = np.asarray(torch.as_tensor(scores).cpu())[targets.rows, targets.items]
        assert targets.ratings is not None  # asked by _rating_validator
        return {self.metric: float(np.sqrt(np.mean((found - targets.ratings) ** 2)))}


def _rating_validator(validator: Validator | None) -> RatingValidator | None:
    if validator is None or validator.evaluation.targets.ratings is None:
        return None
    return RatingValidator(validator.evaluation)
