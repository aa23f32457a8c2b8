"""What users judged, what was known before it, and the split that keeps users apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.config.pipeline import UserDisjoint
from dynmm_framework.data.judgements import asked_judgements, judged
from dynmm_framework.data.splits import make_split
from dynmm_framework.data.tables import Dataset, EvaluationSet, Histories
from dynmm_framework.errors import DataError
from dynmm_framework.testing import generate_dataset


def rated(lists: list[list[int]], ratings: list[list[float]], n_items: int = 9) -> Histories:
    plain = Histories.of(lists, n_items, users=np.arange(len(lists), dtype=np.int32))
    flat = np.array([value for row in ratings for value in row], dtype=np.float32)
    return Histories(plain.offsets, plain.items, n_items, plain.users, flat)


KNOWN = rated([[1, 2], [3]], [[5, 1], [4]])
TARGETS = rated([[4, 5], [6]], [[3, 4], [2]])


def test_each_target_is_asked_for_after_the_history_and_the_targets_before_it() -> None:
    found = asked_judgements(EvaluationSet(np.array([0, 1], np.int32), KNOWN, TARGETS))
    histories = found.histories()
    assert [histories[row].tolist() for row in range(3)] == [[1, 2], [1, 2, 4], [3]]
    assert found.items.tolist() == [4, 5, 6]
    assert found.liked.tolist() == [False, True, False]
    assert histories.ratings is not None
    assert histories.ratings.tolist() == [5, 1, 5, 1, 3, 4]
    assert histories.users is not None
    assert histories.users.tolist() == [0, 0, 1]


def test_only_the_newest_are_known_where_that_is_asked_for() -> None:
    found = judged(KNOWN.append(TARGETS), 1)
    assert [h.tolist() for h in (found.histories(1)[row] for row in range(len(found)))] == [
        [1], [2], [4], [3],
    ]  # fmt: skip


def test_what_is_liked_is_rated_higher_than_the_threshold() -> None:
    assert judged(KNOWN, liked_above=4).liked.tolist() == [True, False, False]


def test_chosen_judgements_keep_their_histories() -> None:
    found = judged(KNOWN.append(TARGETS)).take(np.array([3, 0]))
    assert found.items.tolist() == [5, 1]
    assert [found.histories()[row].tolist() for row in range(2)] == [[1, 2, 4], []]


def test_data_without_ratings_is_refused() -> None:
    with pytest.raises(DataError, match="no ratings") as raised:
        judged(Histories.of([[1]], 3))
    assert "column of ratings" in str(raised.value)


def test_the_hash_tells_what_was_liked_apart() -> None:
    assert judged(KNOWN).hash == judged(KNOWN).hash != judged(KNOWN, liked_above=4).hash


@given(st.lists(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), max_size=6), min_size=1))
def test_ratings_follow_their_items_through_every_view(rows: list[list[tuple[int, int]]]) -> None:
    histories = rated([[i for i, _ in row] for row in rows], [[r for _, r in row] for row in rows])
    doubled = histories.append(histories)
    for view, wanted in (
        (histories.last(2), [row[-2:] for row in rows]),
        (histories.take(slice(None, None, -1)), rows[::-1]),
        (doubled, [row + row for row in rows]),
        (histories.only(np.arange(9) < 4), [[p for p in row if p[0] < 4] for row in rows]),
    ):
        pairs = list(zip(view.items.tolist(), (view.ratings.tolist()), strict=True))
        assert pairs == [pair for row in wanted for pair in row]


def test_a_history_with_ratings_of_other_items_is_refused() -> None:
    with pytest.raises(ValueError, match="1 ratings of 2 items"):
        Histories(np.array([0, 2]), np.array([1, 2], np.int32), 3, None, np.ones(1, np.float32))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate_dataset(n_users=40, n_items=40)


def block(**changed: object) -> UserDisjoint:
    return UserDisjoint.model_validate({"strategy": "user_disjoint", "min_history": 3, **changed})


def test_no_user_is_in_two_parts(dataset: Dataset) -> None:
    split = make_split(dataset, block(), seed=0)
    parts = [set(part.users.tolist()) for part in (split.train, split.valid, split.test)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[2]


def test_users_come_in_the_order_of_the_data(dataset: Dataset) -> None:
    split = make_split(dataset, block(), seed=0)
    assert split.train.users.max() < split.valid.users.min()
    assert split.valid.users.max() < split.test.users.min()


def test_a_stranger_has_a_history_and_no_vector(dataset: Dataset) -> None:
    split = make_split(dataset, block(), seed=0)
    for part in ("valid", "test"):
        asked = split.evaluation(part)
        assert (asked.histories.lengths == 3).all()
        assert asked.histories.users is not None
        assert (asked.histories.users == -1).all()
        every = dataset.interactions.histories()
        for row, user in enumerate(asked.users):
            whole = [*asked.histories[row].tolist(), *asked.targets[row].tolist()]
            assert whole == every[int(user)].tolist()


def test_a_training_user_keeps_what_came_before_the_first_example(dataset: Dataset) -> None:
    split = make_split(dataset, block(), seed=0)
    every = dataset.interactions.histories()
    user = int(split.train.users[0])
    assert split.train.histories()[user].tolist() == every[user].tolist()


@pytest.mark.parametrize("whole", [True, False])
def test_cuts_between_examples_give_exact_shares(dataset: Dataset, whole: bool) -> None:
    split = make_split(dataset, block(examples=300, whole_users=whole), seed=0)
    train = judged(split.training_data(dataset.items).histories, 3)
    sizes = (len(train), len(split.valid), len(split.test))
    assert sum(sizes) == 300
    assert (sizes == (240, 30, 30)) is not whole
    told = any("with examples in two parts" in note for note in split.notes)
    assert told is not whole


def test_nobody_with_a_history_is_an_error_that_says_what_to_change(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="user_disjoint") as raised:
        make_split(dataset, block(min_history=500), seed=0)
    assert "split.min_history" in str(raised.value)
