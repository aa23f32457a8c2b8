"""Components that the kit is tested on: two good ones, and others with one fault each."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from broken_configs import GoodConfig

from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError

HAND_MADE = 12
"""Most items of the kit's hand-made data, on which most faults hide: they have tests elsewhere."""


class Good:
    """Popularity, and what follows the last item; with a little noise to break ties."""

    def __init__(self, config: GoodConfig) -> None:
        self.config = config
        self.state: dict[str, np.ndarray] = {}

    def fit(self, data: TrainingData, ctx: Any) -> None:
        self.state = self.learned(data) | {"noise": self.noise(data, ctx)}

    def learned(self, data: TrainingData) -> dict[str, np.ndarray]:
        users, items = data.train.users, data.train.items
        follows = np.zeros((data.n_items, data.n_items))
        steps = users[1:] == users[:-1]
        np.add.at(follows, (items[:-1][steps], items[1:][steps]), 1)
        counts = data.train.item_counts()
        return {
            "popularity": np.log1p(counts),
            "follows": np.log1p(follows),
            "counts": counts.astype(np.float64),
        }

    def noise(self, data: TrainingData, ctx: Any) -> np.ndarray:
        return ctx.rng("noise").random(data.n_items) / 100

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = np.tile(self.state["popularity"] + self.state["noise"], (len(histories), 1))
        known = histories.lengths > 0
        last = histories.items[histories.offsets[1:][known] - 1]
        scores[known] += self.config.last_weight * self.state["follows"][last]
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)

    def get_state(self) -> dict[str, Any]:
        return dict(self.state)

    def load_state(self, state: dict[str, Any]) -> None:
        self.state = dict(state)


class FitRaises(Good):
    def fit(self, data: TrainingData, ctx: Any) -> None:
        raise ArithmeticError("the loss exploded")


class NoScore:
    def __init__(self, config: GoodConfig) -> None: ...
    def fit(self, data: TrainingData, ctx: Any) -> None: ...
    def get_state(self) -> Any: ...
    def load_state(self, state: Any) -> None: ...


class ChangesTraining(Good):
    def fit(self, data: TrainingData, ctx: Any) -> None:
        super().fit(data, ctx)
        data.train.timestamps[:] -= data.train.timestamps.min()


class ChangesTrainingHistories(Good):
    def fit(self, data: TrainingData, ctx: Any) -> None:
        super().fit(data, ctx)
        data.histories.items.sort()


class NeedsValidation(Good):
    def fit(self, data: TrainingData, ctx: Any) -> None:
        super().fit(data, ctx)
        if data.n_items > HAND_MADE:
            self.metric = ctx.validator.metric


class Unseeded(Good):
    def noise(self, data: TrainingData, ctx: Any) -> np.ndarray:
        return np.random.default_rng().random(data.n_items) / 100


class GloballySeeded(Good):
    """Looks reproducible when a global seed is set before each training, as scripts do."""

    def noise(self, data: TrainingData, ctx: Any) -> np.ndarray:
        return np.array([random.random() for _ in range(data.n_items)]) / 100


class WrongShape(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        asked = candidates is not None or histories.n_items <= HAND_MADE
        return scores if asked else np.pad(scores, ((0, 0), (0, 1)))


class ScoresAsLists(Good):
    def score(self, histories: Histories, candidates: Any = None) -> Any:
        return super().score(histories, candidates).tolist()


class NaNScores(Good):
    """Users with more than 20 items break it."""

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        broken = (histories.lengths > 20) & (histories.lengths < 80)
        scores[broken & (histories.n_items > HAND_MADE)] = np.nan
        return scores


class FirstCandidates(Good):
    """Takes the first user's candidates for everyone's."""

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        if candidates is not None:
            candidates = np.tile(candidates[:1], (len(candidates), 1))
        return super().score(histories, candidates)


class TransposedCandidates(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        return scores if candidates is None else scores.T


class BatchDependent(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        return super().score(histories, candidates) / len(histories)


class NeedsKnownUsers(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        if len(histories) == 8 and histories.users is None:
            raise IndexError("there is no such user")
        return super().score(histories, candidates)


class TakesTheLastUser(Good):
    """Indexes a table of users with -1."""

    def fit(self, data: TrainingData, ctx: Any) -> None:
        super().fit(data, ctx)
        self.state["users"] = np.arange(data.n_users) / data.n_users

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        if histories.users is not None:
            scores += self.state["users"][histories.users, None]
        return scores


class MeanOfNothing(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        if histories.n_items > HAND_MADE:
            scores[histories.lengths == 0] = np.nan
        return scores


class ShortPositions(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        if histories.lengths.max(initial=0) > 100 and histories.n_items > HAND_MADE:
            raise IndexError("position 100 is out of range")
        return super().score(histories, candidates)


class DividesByCounts(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        rare = self.state["counts"][histories.items] == 0
        scores[histories.rows[rare & (histories.n_items > HAND_MADE)]] = np.inf
        return scores


class DividesByPairs(Good):
    """A history of one item has no pair of items."""

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        for row in np.flatnonzero(histories.lengths == 1):
            if histories.n_items > HAND_MADE and self.state["counts"][histories[row][0]]:
                scores[row] = np.inf
        return scores


class NothingLeft(Good):
    """Divides by what a user has not seen yet."""

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        for row in range(len(histories)):
            if len(set(histories[row].tolist())) == histories.n_items > HAND_MADE:
                scores[row] = np.nan
        return scores


class NeedsEveryUser(Good):
    """Looks at the newest item of everyone."""

    def fit(self, data: TrainingData, ctx: Any) -> None:
        if (data.histories.lengths == 0).any():
            raise IndexError("user 1 has no newest item")
        super().fit(data, ctx)


class DrawsNegatives(Good):
    def fit(self, data: TrainingData, ctx: Any) -> None:
        histories = data.histories
        for row in range(len(histories)):
            free = data.n_items - len(set(histories[row].tolist()))
            if data.n_items == HAND_MADE:
                ctx.rng("negatives").integers(free)
        super().fit(data, ctx)


class BlamesNumbers(Good):
    """Notices in the loss that there was nothing to learn."""

    def fit(self, data: TrainingData, ctx: Any) -> None:
        if len(data.train) < 10:
            raise StageError("epoch 1, batch 1: loss is nan", hint="Lower the learning rate.")
        super().fit(data, ctx)


class RefusesTinyData(Good):
    """Says what it needs; a good one."""

    def fit(self, data: TrainingData, ctx: Any) -> None:
        if len(data.train) < 10:
            raise StageError("there is nothing to train on", hint="Check filters and split.")
        super().fit(data, ctx)


class ChangesHistories(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        histories.items.sort()
        return scores


class ChangesCandidates(Good):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        if candidates is not None:
            candidates.sort(axis=1)
        return scores


class StateBeforeFit(Good):
    def get_state(self) -> dict[str, Any]:
        return self.state or {"noise": np.zeros(3)}


class ForgetsNoise(Good):
    def load_state(self, state: dict[str, Any]) -> None:
        self.state = {**state, "noise": np.zeros_like(state["noise"])}


class ForgetsStrangers(Good):
    """Restores what training users need, not what others do."""

    strangers = 0.0

    def fit(self, data: TrainingData, ctx: Any) -> None:
        super().fit(data, ctx)
        self.strangers = 1.0

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        known = histories.users is not None and (histories.users >= 0).all()
        return super().score(histories, candidates) + (0 if known else self.strangers)


class StateOfLists(Good):
    def get_state(self) -> dict[str, Any]:
        return {name: value.tolist() for name, value in self.state.items()}


class NoState(Good):
    def get_state(self) -> dict[str, Any]:
        return {}


class LearnsNothing(Good):
    def learned(self, data: TrainingData) -> dict[str, np.ndarray]:
        return {name: np.zeros_like(value) for name, value in super().learned(data).items()}


class OtherOnGPU(Good):
    """Computes something on a GPU that its state does not hold."""

    extra = 0.0

    def fit(self, data: TrainingData, ctx: Any) -> None:
        super().fit(data, ctx)
        self.extra = 0.0 if ctx.device == "cpu" else 1.0

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        return super().score(histories, candidates) + self.extra


class NothingOnGPU(Good):
    """Learns on the CPU only."""

    def fit(self, data: TrainingData, ctx: Any) -> None:
        super().fit(data, ctx)
        if ctx.device != "cpu":
            self.state = {name: np.zeros_like(value) for name, value in self.state.items()}


class Epochs(Good):
    """Draws noise in passes and saves after each; a good one, like all above it."""

    def noise(self, data: TrainingData, ctx: Any) -> np.ndarray:
        path = ctx.workdir / "noise.npy"
        done, noise = self.load(path, data.n_items)
        for epoch in range(done + 1, self.config.epochs + 1):
            noise = noise + self.draw(ctx, epoch, data.n_items)
            ctx.epoch_finished(epoch, {"loss": 1.0})
            self.save(path, epoch, noise)
        return noise / 100

    def draw(self, ctx: Any, epoch: int, n_items: int) -> np.ndarray:
        return ctx.rng(f"epoch-{epoch}").random(n_items)

    def save(self, path: Any, epoch: int, noise: np.ndarray) -> None:
        np.save(path, np.append(noise, epoch))

    def load(self, path: Any, n_items: int) -> tuple[int, np.ndarray]:
        saved = np.load(path) if path.exists() else np.zeros(n_items + 1)
        return int(saved[-1]), saved[:-1]


class EpochsWithoutCheckpoint(Epochs):
    def save(self, path: Any, epoch: int, noise: np.ndarray) -> None: ...


class StartsOver(Epochs):
    def load(self, path: Any, n_items: int) -> tuple[int, np.ndarray]:
        return 0, np.zeros(n_items)


class ForgetsProgress(Epochs):
    """Goes on at the right epoch, from nothing."""

    def load(self, path: Any, n_items: int) -> tuple[int, np.ndarray]:
        return super().load(path, n_items)[0], np.zeros(n_items)


class SwallowsErrors(Epochs):
    """Its loop goes on after any exception; a kill is none."""

    def noise(self, data: TrainingData, ctx: Any) -> np.ndarray:
        try:
            return super().noise(data, ctx)
        except Exception:
            return np.zeros(data.n_items)


class GoodBackbone:
    """The same model as inner products."""

    def __init__(self, config: GoodConfig) -> None:
        self.model = Good(config)

    def fit(self, data: TrainingData, ctx: Any) -> None:
        self.model.fit(data, ctx)

    def item_vectors(self) -> Any:
        return np.eye(len(self.model.state["noise"]), dtype=np.float32)

    def user_vectors(self, histories: Histories) -> Any:
        return self.model.score(histories).astype(np.float32)

    def get_state(self) -> dict[str, Any]:
        return self.model.get_state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state(state)


class TensorBackbone(GoodBackbone):
    """Delivers tensors; a good one."""

    def item_vectors(self) -> Any:
        import torch

        return torch.from_numpy(super().item_vectors())

    def user_vectors(self, histories: Histories) -> Any:
        import torch

        return torch.from_numpy(super().user_vectors(histories))


class OneUserTooMany(GoodBackbone):
    def user_vectors(self, histories: Histories) -> Any:
        vectors = super().user_vectors(histories)
        return np.pad(vectors, ((0, 1), (0, 0))) if len(vectors) > 100 else vectors
