"""Shards: whole or absent, checked, and found by content."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from dynmm_framework.artifacts.arrays import save_arrays
from dynmm_framework.errors import ArtifactError
from dynmm_framework.features.cache import FeatureCache, Shards


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def vectors(*numbers: int, dim: int = 3) -> np.ndarray:
    return np.array([[number, -number, 0.5] for number in numbers], np.float32)[:, :dim]


def shards(folder: Path, *groups: list[int]) -> Shards:
    opened = Shards(folder)
    for group in groups:
        opened.put([key(number) for number in group], vectors(*group))
    return opened


def contents(opened: Shards, numbers: range) -> dict[int, list[float]]:
    out = np.full((len(numbers), 3), np.nan, np.float32)
    opened.read({key(number): [row] for row, number in enumerate(numbers)}, out)
    return {
        number: row.tolist()
        for number, row in zip(numbers, out, strict=True)
        if not np.isnan(row).any()
    }


def test_what_is_put_is_read_after_opening_again(tmp_path: Path):
    shards(tmp_path, [1, 2], [3])
    opened = Shards(tmp_path)
    assert len(opened) == 3
    assert opened.dim == 3
    assert key(2) in opened
    assert key(4) not in opened
    out = np.zeros((4, 3), np.float32)
    opened.read({key(3): [0, 2], key(1): [3], key(9): [1]}, out)
    assert out.tolist() == [[3, -3, 0.5], [0, 0, 0], [3, -3, 0.5], [1, -1, 0.5]]


def test_a_shard_is_an_ordinary_safetensors_file(tmp_path: Path):
    shards(tmp_path, [1, 2])
    (path,) = tmp_path.iterdir()
    arrays = load_file(path)
    assert arrays["keys"].tobytes() == key(1) + key(2)
    assert np.array_equal(arrays["vectors"], vectors(1, 2))


def test_keys_and_vectors_must_fit(tmp_path: Path):
    opened = shards(tmp_path, [1])
    for keys, values in (
        ([key(2)], vectors(2, 3)), ([key(1)], vectors(1)), ([key(2)] * 2, vectors(2, 2)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"do not fit|is stored already"):
            opened.put(keys, values)
    with pytest.raises(ArtifactError, match="have width 2, those of the same encoder have 3"):
        opened.put([key(2)], vectors(2, dim=2))
    opened.put([], np.empty((0, 0), np.float32))
    assert len(Shards(tmp_path)) == 1


def test_encoders_have_folders_of_their_own(tmp_path: Path):
    cache = FeatureCache(tmp_path)
    with cache.opened("a") as one:
        one.put([key(1)], vectors(1))
    with cache.opened("b") as other:
        assert len(other) == 0
    with cache.opened("a") as again:
        assert len(again) == 1
    assert '"identity": "a"' in (cache.folder("a") / "encoder.json").read_text()


def test_another_process_waits_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cache, order = FeatureCache(tmp_path), []
    caplog.set_level(logging.INFO, logger="dynmm")

    def second() -> None:
        with cache.opened("a", what="toy") as opened:
            order.append(len(opened))

    with cache.opened("a", what="toy") as first:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        assert order == []
        first.put([key(1)], vectors(1))
    thread.join()
    assert order == [1]
    assert "waiting for another process that encodes with toy" in caplog.text


def test_half_written_files_of_a_kill_are_removed(tmp_path: Path):
    cache = FeatureCache(tmp_path)
    with cache.opened("a") as opened:
        opened.put([key(1)], vectors(1))
    left = cache.folder("a") / ".shard-0123.abcdef01.tmp.safetensors"
    left.write_bytes(b"half")
    with cache.opened("a") as opened:
        assert len(opened) == 1
    assert not left.exists()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_index_agrees_with_a_dictionary_whatever_is_damaged(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("shards")
    numbers = data.draw(st.permutations(range(12)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 11), max_size=4)))
    groups = [numbers[a:b] for a, b in zip([0, *cuts], [*cuts, 12], strict=True)]
    opened, paths = Shards(folder), []
    for group in groups:
        before = set(folder.iterdir())
        opened.put([key(number) for number in group], vectors(*group))
        paths += set(folder.iterdir()) - before
    expected = {number: vectors(number)[0].tolist() for number in range(12)}
    assert contents(opened, range(12)) == expected
    for group, path in zip(groups, paths, strict=True):
        kind = data.draw(st.sampled_from(["whole", "cut", "flipped", "empty", "gone", "other"]))
        whole = path.read_bytes()
        if kind == "cut":
            path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        elif kind == "flipped":
            place = data.draw(st.integers(len(whole) - 12 * len(group), len(whole) - 1))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "gone":
            path.unlink()
        elif kind == "other":
            save_arrays(path, {"vectors": vectors(1)})
        if kind != "whole":
            expected = {k: v for k, v in expected.items() if k not in group}
    again = Shards(folder)
    assert contents(again, range(12)) == expected
    lost = [number for number in range(12) if number not in expected]
    if lost:
        again.put([key(number) for number in lost], vectors(*lost))
    assert len(contents(Shards(folder), range(12))) == 12


def test_a_damaged_shard_is_moved_aside_and_told(tmp_path: Path, caplog):
    shards(tmp_path, [1], [2])
    path = sorted(tmp_path.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-4])
    assert len(Shards(tmp_path)) == 1
    (aside,) = (tmp_path / ".damaged").iterdir()
    assert f"moved to {aside}, and computed again" in caplog.text
    assert "a shard of the feature cache is damaged" in caplog.text


def test_only_shards_of_other_plans_are_outside(tmp_path: Path):
    opened = Shards(tmp_path)
    opened.put([key(1)], vectors(1), plan="old")
    opened.put([key(2)], vectors(2), plan="new")
    again = Shards(tmp_path)
    assert again.outside("new", map(key, (3, 2, 1))) == [key(3), key(2)]
