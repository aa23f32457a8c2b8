"""Splits: expected parts written out, plain Python versions, and what splits refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dynmm_framework.config.pipeline import SplitBlock
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.splits import Split, make_split, split_files
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.errors import DataError
from dynmm_framework.testing import generate_dataset

HALF = (0.5, 0.25, 0.25)


def block(strategy: str, **settings: Any) -> SplitBlock:
    made: SplitBlock = TypeAdapter(SplitBlock).validate_python({"strategy": strategy, **settings})
    return made


def dataset(pairs: str, times: list[int] | None = None, *, timed: bool = True) -> Dataset:
    """``a1 a2 b1`` is user a with items 1 and 2, then user b with item 1; one second each."""
    words = pairs.split()
    table: dict[str, Any] = {"user": [w[0] for w in words], "item": [w[1:] for w in words]}
    if timed:
        table["timestamp"] = times or list(range(len(words)))
    return assemble(table, name="tiny")


def words(data: Dataset, rows: Interactions) -> str:
    items, users = data.items["id"].to_pylist(), data.users["id"].to_pylist()
    return " ".join(users[u] + items[i] for u, i in zip(rows.users, rows.items, strict=True))


def parts(data: Dataset, split: Split) -> tuple[str, str, str]:
    return words(data, split.train), words(data, split.valid), words(data, split.test)


def asked(data: Dataset, split: Split, part: Any, **options: Any) -> dict[str, tuple[str, str]]:
    """Per user: items of the history, items of the targets."""
    evaluation = split.evaluation(part, **options)
    assert evaluation.users.dtype == np.int32
    assert evaluation.histories.users is not None
    assert evaluation.histories.users.tolist() == evaluation.users.tolist()
    items = np.array(data.items["id"].to_pylist())
    return {
        data.users["id"][user].as_py(): (
            "".join(items[evaluation.histories[row]]),
            "".join(items[evaluation.targets[row]]),
        )
        for row, user in enumerate(evaluation.users.tolist())
    }


LOO = "a1 a2 a3 a4 b1 b2 c3 c2 c1"


@pytest.mark.parametrize("timed", [True, False])
def test_leave_one_out(timed: bool) -> None:
    data = dataset(LOO, timed=timed)
    split = make_split(data, block("leave_one_out"), seed=0)
    assert parts(data, split) == ("a1 a2 b1 b2 c3", "a3 c2", "a4 c1")
    assert asked(data, split, "valid") == {"a": ("12", "3"), "c": ("3", "2")}
    assert asked(data, split, "test") == {"a": ("123", "4"), "c": ("32", "1")}
    assert split.notes == (
        "interactions: 5 training, 2 validation, 2 test",
        "1 user with fewer than 3 interactions: training only",
        "valid: 2 users, 2 targets",
        "test: 2 users, 2 targets",
        "test: 1 target without any training interaction of the item",
    )


def test_leave_one_out_minimum() -> None:
    data = dataset(LOO)
    split = make_split(data, block("leave_one_out", min_interactions=4), seed=0)
    assert parts(data, split) == ("a1 a2 b1 b2 c3 c2 c1", "a3", "a4")


def test_leave_one_out_takes_the_newest_whatever_the_file_order() -> None:
    data = dataset("a4 a2 a1 a3", times=[9, 3, 1, 5])
    split = make_split(data, block("leave_one_out"), seed=0)
    assert parts(data, split) == ("a1 a2", "a3", "a4")


@pytest.mark.parametrize(
    ("n", "ratios", "expected"),
    [
        (2, (0.8, 0.1, 0.1), (2, 0, 0)),
        (3, (0.8, 0.1, 0.1), (1, 1, 1)),
        (10, (0.8, 0.1, 0.1), (8, 1, 1)),
        (19, (0.8, 0.1, 0.1), (17, 1, 1)),
        (20, (0.8, 0.1, 0.1), (16, 2, 2)),
        (100, (0.42, 0.29, 0.29), (42, 29, 29)),
        (3, (0.01, 0.94, 0.05), (1, 1, 1)),
        (7, (0.01, 0.05, 0.94), (1, 1, 5)),
        (7, (0.01, 0.94, 0.05), (1, 5, 1)),
    ],
)
def test_temporal_user_rounds_down_and_keeps_one_of_each(
    n: int, ratios: tuple[float, float, float], expected: tuple[int, int, int]
) -> None:
    data = dataset(" ".join([f"a{i}" for i in range(n)] + ["b1", "b2", "b3"]), timed=False)
    split = make_split(data, block("temporal_user", ratios=ratios), seed=0)
    counts = tuple(int((rows.users == 0).sum()) for rows in (split.train, split.valid, split.test))
    assert counts == expected
    assert split.rows.items[split.rows.users == 0].tolist() == list(range(n))
    assert (np.diff(split.parts[split.rows.users == 0]) >= 0).all()


@pytest.mark.parametrize(
    ("n", "expected"),
    [(2, (2, 0, 0)), (3, (1, 1, 1)), (9, (7, 1, 1)), (10, (8, 1, 1)), (15, (12, 1, 2)),
     (19, (16, 1, 2)), (20, (16, 2, 2)), (35, (28, 3, 4))],
)  # fmt: skip
def test_mmrec_shares(n: int, expected: tuple[int, int, int]) -> None:
    data = dataset(" ".join([f"a{i}" for i in range(n)] + ["b1", "b2", "b3"]))
    split = make_split(data, block("mmrec"), seed=0)
    counts = tuple(int((rows.users == 0).sum()) for rows in (split.train, split.valid, split.test))
    assert counts == expected
    assert (np.diff(split.parts[split.rows.users == 0]) >= 0).all()


def test_global_time_cuts_all_users_at_two_moments() -> None:
    data = dataset("a1 a2 b3 a4 b1 c2 b2 c1", times=[0, 1, 2, 3, 4, 5, 6, 7])
    split = make_split(data, block("global_time", ratios=HALF), seed=0)
    assert parts(data, split) == ("a1 a2 a4 b3", "b1 c2", "b2 c1")
    assert asked(data, split, "valid") == {"b": ("3", "1")}
    assert asked(data, split, "test") == {"b": ("31", "2"), "c": ("2", "1")}
    assert "valid: 1 user left out for want of an earlier interaction" in split.notes


def test_rows_of_one_second_are_never_cut_apart() -> None:
    data = dataset("a1 a2 a3 a4 a5 a6 a7 a8", times=[0, 1, 2, 2, 2, 2, 6, 6])
    split = make_split(data, block("global_time", ratios=HALF), seed=0)
    assert parts(data, split) == ("a1 a2", "a3 a4 a5 a6", "a7 a8")


def test_streaming_cuts_off_the_stream_then_the_validation() -> None:
    data = dataset("a0 a1 a2 a3 a4 a5 b6 b7 a8 c9")
    split = make_split(data, block("streaming", offline=0.8, valid=0.25), seed=0)
    assert parts(data, split) == ("a0 a1 a2 a3 a4 a5", "b6 b7", "a8 c9")
    assert asked(data, split, "test") == {"a": ("012345", "8")}
    assert "test: 1 user left out for want of an earlier interaction" in split.notes


def test_cold_start_asks_for_rare_items_only() -> None:
    # training: items 1 and 2 three times each, items 3, 8 and 9 once
    data = dataset("a1 a2 a3 a8 a2 a8 b1 b2 b4 b1 c1 c2 c9 c2 c1")
    split = make_split(data, block("cold_start", ratios=(0.5, 0.25, 0.25), threshold=2), seed=0)
    assert parts(data, split) == ("a1 a2 a3 a8 b1 b2 c1 c2 c9", "b4", "a8")
    # a2 was known before the test: it is masked, though it is no validation target
    assert asked(data, split, "test") == {"a": ("12382", "8")}
    assert asked(data, split, "valid") == {"b": ("12", "4")}
    assert split.notes[1:3] == (
        "2 validation interactions left out as targets: items with 2 or more training interactions",
        "2 test interactions left out as targets: items with 2 or more training interactions",
    )
    assert len(split.rows) == 13  # b1 and c1 of the test part belong to no part


@pytest.mark.parametrize("per_user", [True, False])
def test_random_split_is_a_partition_by_the_seed(per_user: bool) -> None:
    rng = np.random.default_rng(0)
    table = {"user": rng.integers(0, 40, 4000), "item": np.arange(4000)}
    data = assemble(table, name="x")
    settings = {"per_user": per_user, "ratios": (0.7, 0.1, 0.2)}
    split = make_split(data, block("random", **settings), seed=3)
    together = np.concatenate([split.train.items, split.valid.items, split.test.items])
    assert sorted(together.tolist()) == list(range(4000))
    assert make_split(data, block("random", **settings), seed=3).hash == split.hash
    assert make_split(data, block("random", **settings), seed=4).hash != split.hash
    if per_user:
        n = np.bincount(data.interactions.users)
        assert (np.bincount(split.test.users) == n // 5).all()
        assert (np.bincount(split.valid.users) == n // 10).all()
    else:
        assert (len(split.train), len(split.valid), len(split.test)) == (2800, 400, 800)
        assert np.bincount(split.test.users).std() > 0
    # no position in a user's sequence is preferred: the mean place is the middle
    first = np.concatenate([[0], np.cumsum(np.bincount(data.interactions.users))])
    place = np.arange(4000) - first[data.interactions.users]
    share = place / np.bincount(data.interactions.users)[data.interactions.users]
    assert share[split.parts == 2].mean() == pytest.approx(0.5, abs=0.05)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.booleans(),
    st.integers(0, 5),
    st.sampled_from([(0.8, 0.1, 0.1), (0.01, 0.09, 0.9), (0.1, 0.45, 0.45)]),
)
def test_random_split_never_takes_all_training_rows_of_a_user(
    counts: list[int], per_user: bool, seed: int, ratios: tuple[float, float, float]
) -> None:
    counts = [*counts, 4]
    users = [user for user, count in enumerate(counts) for _ in range(count)]
    data = assemble({"user": users, "item": list(range(len(users)))}, name="x")
    split = make_split(data, block("random", per_user=per_user, ratios=ratios), seed=seed)
    trained = np.bincount(split.train.users, minlength=split.n_users)
    assert (trained > 0).all()
    n = np.bincount(data.interactions.users)
    assert (trained[n < 3] == n[n < 3]).all()
    assert len(split.rows) == len(users)


def test_stranded_users_get_one_row_back_and_are_told() -> None:
    data = assemble({"user": np.repeat(np.arange(50), 3), "item": np.arange(150)}, name="x")
    split = make_split(data, block("random", ratios=(0.04, 0.48, 0.48)), seed=0)
    trained = np.bincount(split.train.users, minlength=50)
    assert (trained >= 1).all()
    given_back = trained.sum() - 6  # 150 rows less twice 72 are left by the draw
    assert split.notes[1] == (
        f"all interactions of {given_back} users were drawn: one each was given back"
    )
    assert len(split.valid) + len(split.test) == 144 - given_back


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), max_size=40),
    st.sampled_from(["leave_one_out", "temporal_user", "mmrec", "cold_start"]),
)
def test_splits_by_order_agree_with_plain_python(
    table: list[tuple[int, int, int]], strategy: str
) -> None:
    table = [*table, (9, 0, 0), (9, 7, 1), (9, 8, 2)]
    users, items, times = zip(*table, strict=True)
    data = assemble({"user": list(users), "item": list(items), "timestamp": list(times)}, name="x")
    split = make_split(data, block(strategy), seed=0)
    expected: dict[str, list[tuple[int, int]]] = {"train": [], "valid": [], "test": []}
    for user in dict.fromkeys(users):
        rows = sorted((row for row in table if row[0] == user), key=lambda row: row[2])
        n = len(rows)
        if n < 3:
            n_valid = n_test = 0
        elif strategy == "leave_one_out" or (strategy == "mmrec" and n < 10):
            n_valid = n_test = 1
        elif strategy == "mmrec":
            n_valid, n_test = n // 5 // 2, n // 5 - n // 5 // 2
        else:
            n_valid = n_test = max(1, n // 10)
        sequence = [(user, item) for _, item, _ in rows]
        expected["train"] += sequence[: n - n_valid - n_test]
        expected["valid"] += sequence[n - n_valid - n_test : n - n_test]
        expected["test"] += sequence[n - n_test :]
    if strategy == "cold_start":
        trained = [item for _, item in expected["train"]]
        for part in ("valid", "test"):
            expected[part] = [row for row in expected[part] if trained.count(row[1]) < 5]
    names = np.array(data.items["id"].to_pylist()).astype(int)
    people = np.array(data.users["id"].to_pylist()).astype(int)
    for part, wanted in expected.items():
        rows = getattr(split, part)
        got = zip(people[rows.users].tolist(), names[rows.items].tolist(), strict=True)
        assert list(got) == wanted


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), max_size=40),
    st.sampled_from([0.01, 0.2, 0.5, 0.99]),
    st.integers(0, 20),
)
def test_cold_items_agrees_with_plain_python(
    table: list[tuple[int, int, int]], share: float, seed: int
) -> None:
    # Users 8 and 9 see two items in either order, so one of them can be tested if one is drawn.
    table = [*table, (8, 7, 0), (8, 8, 1), (9, 8, 0), (9, 7, 1)]
    users, items, times = zip(*table, strict=True)
    data = assemble({"user": list(users), "item": list(items), "timestamp": list(times)}, name="x")
    rows = data.interactions
    n = len(data.items)
    drawn = np.random.default_rng(seed).permutation(n)[: min(max(int(share * n + 1e-9), 1), n - 1)]
    expected: dict[str, list[tuple[int, int]]] = {"train": [], "valid": [], "test": []}
    masked: dict[int, list[int]] = {}
    for user in range(rows.n_users):
        mine = rows.items[rows.users == user].tolist()
        cold = [place for place, item in enumerate(mine) if item in drawn]
        asked = bool(cold) and any(item not in drawn for item in mine[: cold[-1]])
        known = mine[: cold[-1]] if asked else mine
        warm = [(user, item) for item in known if item not in drawn]
        expected["train"] += warm if len(warm) < 2 else warm[:-1]
        expected["valid"] += [] if len(warm) < 2 else warm[-1:]
        if asked:
            expected["test"].append((user, mine[cold[-1]]))
            masked[user] = [item for item in known if item in drawn]
    if not expected["test"]:
        with pytest.raises(DataError, match="leaves no test user"):
            make_split(data, block("cold_items", share=share), seed=seed)
        return
    split = make_split(data, block("cold_items", share=share), seed=seed)
    for part, wanted in expected.items():
        found = getattr(split, part)
        assert list(zip(found.users.tolist(), found.items.tolist(), strict=True)) == wanted
    evaluation = split.evaluation("test")
    for row, user in enumerate(evaluation.users.tolist()):
        before = [item for owner, item in expected["train"] + expected["valid"] if owner == user]
        assert sorted(evaluation.histories[row].tolist()) == sorted(before)
        seen = [] if evaluation.masked is None else evaluation.masked[row].tolist()
        assert seen == masked[user]
        assert sorted(evaluation.known[row].tolist()) == sorted(before + seen)
    assert split.evaluation("valid").masked is None
    again = make_split(data, block("cold_items", share=share), seed=seed)
    assert again.hash == split.hash


def test_cold_items_holds_items_out_and_looks_at_nothing_later() -> None:
    data = dataset("a1 a3 a2 a3 a4 a5 b3 b1 b2 c1 c2 c3 d4 d5")
    (seed,) = [
        seed
        for seed in range(200)
        if set(np.random.default_rng(seed).permutation(5)[:2]) == {1, 3}  # items "3" and "4"
    ][:1]
    split = make_split(data, block("cold_items", share=0.4), seed=seed)
    assert parts(data, split) == ("a1 b1 c1 d5", "a2 b2 c2", "a4 c3")
    assert asked(data, split, "valid") == {"a": ("1", "2"), "b": ("1", "2"), "c": ("1", "2")}
    assert asked(data, split, "test") == {"a": ("12", "4"), "c": ("12", "3")}
    evaluation = split.evaluation("test")
    assert evaluation.masked is not None
    assert [evaluation.masked[row].tolist() for row in range(2)] == [[1, 1], []]
    assert split.notes == (
        "interactions: 4 training, 3 validation, 2 test",
        "held out: 2 of 5 items with interactions, with 6 interactions",
        "1 interaction unused: later than the user's test target",
        "2 users not asked: nothing before the held-out items",
        "valid: 3 users, 3 targets",
        "valid: 3 targets without any training interaction of the item",
        "test: 2 users, 2 targets",
        "test: 2 targets without any training interaction of the item",
    )


def test_asked_for_keeps_the_users_with_such_a_target() -> None:
    data = dataset("a1 a2 a3 a4 b1 b2 b3 c1 c2 c4")
    evaluation = make_split(data, block("leave_one_out"), seed=0).evaluation("test")
    few = evaluation.asked_for(np.array([3]))
    assert few.users.tolist() == [0, 2]
    assert few.targets.items.tolist() == [3, 3]
    assert [few.histories[row].tolist() for row in range(2)] == [[0, 1, 2], [0, 1]]
    assert len(evaluation.asked_for(np.array([], np.int32))) == 0


def test_evaluation_histories_and_targets_agree_with_the_rows() -> None:
    rng = np.random.default_rng(1)
    table = {"user": rng.integers(0, 30, 900), "item": rng.integers(0, 50, 900)}
    data = assemble(table, name="x")
    for strategy in ("temporal_user", "random", "leave_one_out"):
        split = make_split(data, block(strategy), seed=0)
        rows = data.interactions
        for part, known in (("valid", (0,)), ("test", (0, 1))):
            evaluation = split.evaluation(part)
            code = {"valid": 1, "test": 2}[part]
            for row, user in enumerate(evaluation.users):
                mine = rows.users == user
                history = rows.items[mine & np.isin(split.parts, known)]
                assert evaluation.histories[row].tolist() == history.tolist()
                targets = rows.items[mine & (split.parts == code)].tolist()
                assert evaluation.targets[row].tolist() == list(dict.fromkeys(targets))
            assert (evaluation.targets.lengths > 0).all()
            assert (evaluation.histories.lengths > 0).all()


def test_evaluation_of_chosen_users() -> None:
    data = dataset("a1 a2 a3 b1 b2 c1 c2 c3")
    split = make_split(data, block("leave_one_out"), seed=0)
    assert list(asked(data, split, "test", users=np.array([2, 1], np.int32))) == ["c"]
    assert len(split.evaluation("test", users=np.array([], np.int32))) == 0
    with pytest.raises(DataError) as caught:
        split.evaluation("test", users=np.array([0, 3, -1], np.int32))
    assert str(caught.value) == "no such user: -1, 3\n  User ids of this split are 0 to 2."


def test_training_data_checks_the_item_table() -> None:
    data = dataset("a1 a2 a3")
    split = make_split(data, block("leave_one_out"), seed=0)
    training = split.training_data(data.items)
    assert training.items is data.items
    assert training.histories[0].tolist() == [0]
    with pytest.raises(DataError, match="the item table has 2 rows, the split 3 items"):
        split.training_data(data.items.slice(1))
    assert split.renumbered(data) is data


def test_hash_covers_ids_and_parts_only() -> None:
    data = dataset("a1 a2 a3 a4")
    split = make_split(data, block("leave_one_out"), seed=0)
    assert split.hash == "168f3b50f7284f21b06eb95a3aab55280138e49bcb6529feb3c94d8c79f4796e"
    assert make_split(data, block("leave_one_out"), seed=9).hash == split.hash
    later = dataset("a1 a2 a3 a4", times=[5, 6, 7, 8])
    assert make_split(later, block("leave_one_out"), seed=0).hash == split.hash
    other = make_split(data, block("temporal_user", ratios=(0.5, 0.25, 0.25)), seed=0)
    assert other.hash == split.hash
    swapped = dataset("a1 a2 a4 a3", times=[0, 1, 3, 2])
    assert make_split(swapped, block("leave_one_out"), seed=0).hash != split.hash


def test_split_files_are_those_of_given_splits() -> None:
    assert split_files(block("leave_one_out")) == ()
    files = split_files(block("given", train="a/train.txt", test="a/test.txt"))
    assert [str(path) for path in files] == ["a/train.txt", "a/test.txt"]


@pytest.mark.parametrize("strategy", ["global_time", "streaming"])
def test_splits_by_time_need_timestamps(strategy: str) -> None:
    with pytest.raises(DataError) as caught:
        make_split(dataset("a1 a2 a3", timed=False), block(strategy), seed=0)
    assert str(caught.value) == (
        f"the split '{strategy}' needs timestamps, and this data has none\n  Name the timestamp "
        "column in the reader's settings, or use a split that needs the order of each user's "
        "interactions only, such as temporal_user."
    )


@pytest.mark.parametrize(
    ("pairs", "chosen", "expected"),
    [
        (
            "a1 a2 b1 b2 c3",
            {"strategy": "leave_one_out"},
            "dataset 'tiny': the split 'leave_one_out' leaves no test user: none of 3 users "
            "has a test target (none has more than 2 interactions)\n  Lower split.min_interactions "
            "(at least 3) or keep more interactions with data.filters.",
        ),
        (
            "a1 a2 a3 a4 b1 b2 c1 c2",
            {"strategy": "global_time", "ratios": HALF},
            "leaves no test user: 1 user with test targets, none with an earlier interaction\n"
            "  Change split.ratios, or use temporal_user, which cuts each user's time.",
        ),
        (
            "a1 a1 a1 a1 a1 a1 a1",
            {"strategy": "cold_start"},
            "leaves no test user: none of 1 user has a test target\n"
            "  Raise split.threshold, or use temporal_user.",
        ),
        (
            "a1 b1",
            {"strategy": "cold_items"},
            "the split 'cold_items' leaves no test user: none of 2 users has a test target\n"
            "  Raise split.share, so that more users have a held-out item, or keep more "
            "interactions with data.filters.",
        ),
    ],
)
def test_split_without_test_user_says_why(
    pairs: str, chosen: dict[str, Any], expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        make_split(dataset(pairs), block(**chosen), seed=0)
    assert expected in str(caught.value)


def test_split_without_training_says_so() -> None:
    data = dataset("a1 a2 a3", times=[5, 5, 5])
    with pytest.raises(DataError, match="'streaming' leaves no training interactions"):
        make_split(data, block("streaming"), seed=0)


def test_users_without_interactions_do_no_harm() -> None:
    data = dataset("a1 a2 a3")
    idle = Dataset(
        name="idle",
        interactions=Interactions(
            users=data.interactions.users + np.int32(1),
            items=data.interactions.items,
            n_users=3,
            n_items=3,
        ),
        items=data.items,
        users=pa.table({"id": ["x", "a", "y"]}),
    )
    for strategy in ("leave_one_out", "temporal_user", "mmrec", "random", "cold_start"):
        split = make_split(idle, block(strategy), seed=0)
        assert split.evaluation("test").users.tolist() == [1]


def test_what_is_known_before_a_part_is_what_its_users_are_asked_by():
    data = generate_dataset(n_users=40, n_items=40)
    for strategy in (block("leave_one_out"), block("user_disjoint", min_history=3)):
        split = make_split(data, strategy, seed=1)
        for part in ("valid", "test"):
            asked, known = split.evaluation(part), split.known_before(part)
            taken = known.take(asked.users)
            assert len(asked.users) > 0
            assert len(known) == data.n_users
            assert np.array_equal(taken.items, asked.histories.items)
            assert np.array_equal(taken.offsets, asked.histories.offsets)
            assert np.array_equal(taken.users, asked.histories.users)
