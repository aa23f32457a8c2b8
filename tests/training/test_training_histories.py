from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sequence_model import N_ITEMS, network

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import ArtifactError
from dynmm_framework.training import histories as module
from dynmm_framework.training.histories import HistoryEncoder, popular_direction


def some_histories() -> Histories:
    rng = np.random.default_rng(0)
    sizes = (5, 0, 1, 12, 8, 3, 3, 0, 40)
    return Histories.of([rng.integers(0, N_ITEMS, size=n).tolist() for n in sizes], N_ITEMS)


def encoder() -> HistoryEncoder:
    made = HistoryEncoder(network(n_special=1))
    made.learn_popularity(np.arange(N_ITEMS) ** 2)
    return made


def test_batching_changes_no_user_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = encoder(), some_histories()
    together = made.user_vectors(asked)
    alone = [made.user_vectors(asked.take([row]))[0] for row in range(len(asked))]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    monkeypatch.setattr(module, "ENCODE_ROWS", 2)
    np.testing.assert_allclose(made.user_vectors(asked), together, atol=1e-5)


def test_only_the_newest_items_count() -> None:
    newest = [1, 2, 3, 4, 5, 6, 7, 8]
    vectors = encoder().user_vectors(Histories.of([[9, 9, *newest], newest], N_ITEMS))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_scores_are_inner_products_of_the_vectors() -> None:
    made, asked = encoder(), some_histories()
    expected = made.user_vectors(asked) @ made.item_vectors().T
    assert made.item_vectors().shape == (N_ITEMS, 16)  # the special vector is no item
    np.testing.assert_allclose(made.score(asked).detach().numpy(), expected, atol=1e-5)


def test_an_empty_history_ranks_popular_items_first() -> None:
    made = encoder()
    scores = made.user_vectors(Histories.of([[]], N_ITEMS))[0] @ made.item_vectors().T
    assert spearmanr(scores, np.arange(N_ITEMS))[0] > 0.5
    assert not HistoryEncoder(network()).user_vectors(Histories.of([[]], N_ITEMS)).any()


def test_the_popular_direction_is_a_least_squares_solution() -> None:
    rng = np.random.default_rng(0)
    items, counts = rng.normal(size=(50, 4)).astype(np.float32), rng.integers(0, 90, 50)
    centred = items - items.mean(0)
    expected = np.linalg.lstsq(centred, np.log1p(counts), rcond=None)[0]
    np.testing.assert_allclose(popular_direction(items, counts), expected, rtol=0.01)
    # Item vectors that say nothing give no direction, and no error.
    assert not popular_direction(np.ones((5, 4), np.float32), np.arange(5)).any()


def test_state_restores_exactly() -> None:
    made, asked = encoder(), some_histories()
    again = HistoryEncoder.restore(
        made.state(), lambda n: network(n - 1, n_special=1), owner="Model"
    )
    np.testing.assert_array_equal(again.user_vectors(asked), made.user_vectors(asked))
    np.testing.assert_array_equal(again.item_vectors(), made.item_vectors())


def test_a_state_that_lacks_arrays_is_a_clear_error() -> None:
    with pytest.raises(ArtifactError, match=r"do not fit Model: network\.items.weight, empty_hist"):
        HistoryEncoder.restore({}, network, owner="Model")
