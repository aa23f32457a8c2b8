from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.testing import BaselineConformance
from dynmm_plugins.ease import model as module
from dynmm_plugins.ease.config import EASEConfig
from dynmm_plugins.ease.model import EASE, invert, invert_on

CONTEXT: Any = SimpleNamespace(
    stage="fit/ease",
    device="cpu",
    progress=lambda description, total=None: nullcontext(lambda n=1, note="": None),
)
LISTS = [[0, 1, 2], [1, 2], [0, 2, 2, 4], [1], [], [4, 0]]
N_ITEMS = 6  # items 3 and 5 are nobody's


class TestEASEConformance(BaselineConformance):
    component: ClassVar[str] = "ease"
    config: ClassVar[dict[str, Any]] = {"regularisation": 20.0}
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.23, 0.28)}


def training_data(lists: list[list[int]], n_items: int) -> TrainingData:
    histories = Histories.of(lists, n_items)
    return TrainingData(
        Interactions(histories.rows.astype(np.int32), histories.items, len(lists), n_items),
        pa.table({"id": [str(item) for item in range(n_items)]}),
    )


def binary() -> np.ndarray:
    matrix = np.zeros((len(LISTS), N_ITEMS))
    for user, items in enumerate(LISTS):
        matrix[user, items] = 1
    return matrix


def fitted(**settings: Any) -> EASE:
    model = EASE(EASEConfig(**{"regularisation": 2.0, **settings}))
    model.fit(training_data(LISTS, N_ITEMS), CONTEXT)
    return model


@pytest.mark.parametrize("block_rows", [2, 1024])
def test_weights_are_the_closed_form(block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", block_rows)
    inverse = np.linalg.inv(binary().T @ binary() + 2 * np.eye(N_ITEMS))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(fitted().get_state()["weights"], expected, atol=1e-6)


def test_each_column_is_a_ridge_regression_on_the_other_items() -> None:
    weights = fitted(regularisation=0.7).get_state()["weights"]
    for item in range(N_ITEMS):
        others = np.delete(binary(), item, axis=1)
        solved = np.linalg.solve(
            others.T @ others + 0.7 * np.eye(N_ITEMS - 1), others.T @ binary()[:, item]
        )
        np.testing.assert_allclose(np.delete(weights[:, item], item), solved, atol=1e-6)
        assert weights[item, item] == 0


def test_scores_add_up_over_distinct_items() -> None:
    model = fitted()
    weights = model.get_state()["weights"]
    scores = model.score(Histories.of([[0, 4], [4, 0, 4], [2]], N_ITEMS))
    np.testing.assert_allclose(scores[0], weights[0] + weights[4], rtol=1e-6)
    np.testing.assert_array_equal(scores[1], scores[0])
    np.testing.assert_array_equal(scores[2], weights[2])
    candidates = np.array([[5, 1], [1, 1], [0, 3]], dtype=np.int32)
    chosen = model.score(Histories.of([[0, 4], [4, 0, 4], [2]], N_ITEMS), candidates)
    np.testing.assert_array_equal(chosen, np.take_along_axis(scores, candidates, axis=1))


def test_histories_that_say_nothing_get_popularity() -> None:
    counts = [3, 3, 4, 0, 2, 0]
    scores = fitted().score(Histories.of([[], [3, 5], [3, 0]], N_ITEMS))
    np.testing.assert_array_equal(scores[:2], [counts, counts])
    np.testing.assert_array_equal(scores[2], fitted().get_state()["weights"][0])


@pytest.mark.parametrize("block_rows", [3, 7, 1024])
def test_inverses_on_the_cpu_and_on_a_device_agree(
    block_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", block_rows)
    root = np.random.default_rng(0).normal(size=(40, 20))
    gram = (root.T @ root + np.eye(20)).astype(np.float32)
    expected = np.linalg.inv(gram.astype(np.float64))
    np.testing.assert_allclose(invert_on("cpu", gram), expected, atol=1e-5)
    np.testing.assert_allclose(invert(gram.copy()), expected, atol=1e-5)


def test_the_inverse_takes_no_second_matrix() -> None:
    gram = np.eye(50, dtype=np.float32) * 2
    assert np.shares_memory(invert(gram), gram)


def test_too_many_items_are_refused_with_the_memory_they_need() -> None:
    with pytest.raises(StageError) as error:
        EASE(EASEConfig(max_items=99)).fit(training_data([[0]], 100_000), CONTEXT)
    assert "stage fit/ease: EASE needs a dense matrix of 100,000 × 100,000 items, 40.0 GB" in str(
        error.value
    )
    assert "max_items allows 99 items" in str(error.value)
    assert "raise max_items" in str(error.value)


def test_memory_that_runs_out_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(gram: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(module, "invert", fail)
    with pytest.raises(StageError, match="fit/ease: out of memory for the matrix of 6 × 6 items"):
        fitted()


def test_a_matrix_that_cannot_be_inverted_is_a_clear_error() -> None:
    for function in (invert, lambda gram: invert_on("cpu", gram)):
        with pytest.raises(ArithmeticError, match="not positive definite"):
            function(-np.eye(3, dtype=np.float32))
    # The same users chose both items: λ vanishes beside their count in float32.
    with pytest.raises(StageError, match=r"regularisation 1e-10 .*\n  Raise regularisation"):
        EASE(EASEConfig(regularisation=1e-10)).fit(training_data([[0, 1]] * 4, 2), CONTEXT)


def test_scoring_before_fit_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"EASE is not fitted\n  Call fit or load_state"):
        EASE(EASEConfig()).score(Histories.of([[]], n_items=1))
