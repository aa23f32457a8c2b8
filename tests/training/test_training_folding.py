from __future__ import annotations

import numpy as np
import pytest
import torch

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.training.folding import (
    TrainedVectors,
    UserVectors,
    VectorBackbone,
    distinct_items,
)

N_ITEMS = 40
UNSEEN = N_ITEMS - 1
"""An item that no training user has."""


@pytest.fixture
def histories() -> Histories:
    rng = np.random.default_rng(0)
    lists = [[int(i) for i in rng.choice(N_ITEMS - 1, n, replace=False)] for n in (1, 3, 9, 20) * 8]
    return Histories.of([*lists, []], N_ITEMS, users=np.arange(33, dtype=np.int32))


@pytest.fixture
def vectors(histories: Histories) -> UserVectors:
    """Trained vectors that are a linear map of what the items contribute."""
    generator = torch.Generator().manual_seed(0)
    contributions = torch.randn(N_ITEMS, 4, generator=generator)
    mapping = torch.randn(4, 4, generator=generator)
    sums = torch.stack([contributions[histories[i]].sum(0) for i in range(len(histories))])
    counts = torch.tensor(histories.lengths).clamp(min=1)[:, None]
    trained = sums / counts.sqrt() @ mapping
    trained[-1] = 7  # the last user has no interactions, so this must never be seen
    return UserVectors.fit(trained, contributions, histories=histories)


def without_users(histories: Histories) -> Histories:
    return Histories(histories.offsets, histories.items, histories.n_items)


def test_distinct_items_are_sorted_within_each_history() -> None:
    histories = Histories.of([[3, 1, 3], [], [0, 0]], 5, users=np.array([4, -1, 2], np.int32))
    distinct = distinct_items(histories)
    assert [distinct[i].tolist() for i in range(3)] == [[1, 3], [], [0]]
    np.testing.assert_array_equal(distinct.users, [4, -1, 2])


def test_a_linear_relation_is_found(vectors: UserVectors, histories: Histories) -> None:
    folded = vectors.of(without_users(histories))
    torch.testing.assert_close(folded[:-1], vectors.trained[:-1], rtol=0.02, atol=0.02)


def test_training_users_keep_their_vector(vectors: UserVectors, histories: Histories) -> None:
    changed = histories.append(Histories.of([[5]] * len(histories), N_ITEMS))
    torch.testing.assert_close(vectors.of(changed)[:-1], vectors.trained[:-1], rtol=0, atol=0)


def test_known_and_unknown_users_may_be_mixed(vectors: UserVectors, histories: Histories) -> None:
    users = histories.users.copy()
    users[::2] = -1
    mixed = vectors.of(Histories(histories.offsets, histories.items, N_ITEMS, users=users))
    alone = vectors.of(without_users(histories))
    torch.testing.assert_close(mixed[::2], alone[::2])
    torch.testing.assert_close(mixed[1::2], vectors.trained[1::2], rtol=0, atol=0)


def test_a_history_that_says_nothing_gets_the_mean_of_known_users(vectors: UserVectors) -> None:
    mean = vectors.trained[:-1].mean(0).expand(3, -1)
    nothing = Histories.of([[], [UNSEEN], []], N_ITEMS, users=np.array([-1, -1, 32], np.int32))
    torch.testing.assert_close(vectors.of(nothing), mean)


def test_order_repeats_and_unseen_items_do_not_matter(vectors: UserVectors) -> None:
    one, other = vectors.of(Histories.of([[1, 2], [2, UNSEEN, 1, 2]], N_ITEMS))
    torch.testing.assert_close(one, other)


def test_state_restores_exactly(vectors: UserVectors, histories: Histories) -> None:
    restored = UserVectors.restore({**vectors.state(), "other": np.zeros(1)})
    for batch in (histories, without_users(histories)):
        torch.testing.assert_close(restored.of(batch), vectors.of(batch), rtol=0, atol=0)


def test_without_any_interaction_every_vector_is_zero() -> None:
    empty = Histories.of([[], []], 3)
    vectors = UserVectors.fit(torch.ones(2, 4), torch.ones(3, 4), histories=empty)
    torch.testing.assert_close(vectors.of(Histories.of([[], [1]], 3)), torch.zeros(2, 4))


def test_a_state_that_lacks_arrays_is_refused(vectors: UserVectors) -> None:
    state = {name: array for name, array in vectors.state().items() if "m" not in name}
    with pytest.raises(ArtifactError, match=r"stored user vectors lack users.mean\n  They were"):
        UserVectors.restore(state)


def test_items_with_a_bias_meet_a_one(vectors: UserVectors, histories: Histories) -> None:
    items = torch.randn(N_ITEMS, 5, generator=torch.Generator().manual_seed(2))
    trained = TrainedVectors(vectors, items)
    expected = vectors.of(histories) @ items[:, :4].T + items[:, 4]
    torch.testing.assert_close(trained.score(histories), expected)
    assert (trained.of(histories)[:, -1] == 1).all()
    restored = TrainedVectors.restore(trained.state())
    torch.testing.assert_close(restored.score(histories), trained.score(histories))


class Model(VectorBackbone):
    pass


def test_a_backbone_of_vectors_is_stored_and_restored(
    vectors: UserVectors, histories: Histories
) -> None:
    model, again = Model(), Model()
    assert model.get_state() == {}
    model.load_state({})
    assert model.vectors is None
    model.vectors = TrainedVectors(vectors, torch.ones(N_ITEMS, 4))
    again.load_state(model.get_state())
    torch.testing.assert_close(again.item_vectors(), model.item_vectors())
    torch.testing.assert_close(again.user_vectors(histories), vectors.of(histories))


def test_using_a_backbone_before_fit_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"Model is not fitted\n  Call fit or load_state first"):
        Model().item_vectors()
    with pytest.raises(ArtifactError, match="stored vectors lack those of the items"):
        Model().load_state({"users.trained": np.zeros((1, 1))})
