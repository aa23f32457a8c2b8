"""Arrays survive the trip to disk, equal input gives equal bytes, damage is reported."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynmm_framework.artifacts.arrays import load_arrays, read_metadata, save_arrays, save_rows
from dynmm_framework.errors import ArtifactError

NAMES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
NAMES += ["float16", "float32", "float64", "complex64"]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(NAMES).flatmap(
            lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, min_side=0))
        ),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_arrays_return_unchanged(tmp_path_factory: pytest.TempPathFactory, arrays) -> None:
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    save_arrays(path, arrays)
    loaded = load_arrays(path)
    assert list(loaded) == sorted(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()


def test_strided_and_big_endian_arrays(tmp_path: Path) -> None:
    arrays = {
        "t": np.arange(6.0).reshape(2, 3).T,
        "s": np.arange(10)[::-2],
        "be": np.arange(4, dtype=">i4"),
    }
    save_arrays(tmp_path / "a.safetensors", arrays)
    loaded = load_arrays(tmp_path / "a.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].flags.writeable


def test_equal_input_gives_equal_bytes_in_any_order(tmp_path: Path) -> None:
    a, b = np.arange(3, dtype=np.int8), np.ones(2)
    metadata = {str(i): "x" for i in range(9)}
    save_arrays(tmp_path / "1", {"a": a, "b": b}, metadata=metadata)
    save_arrays(tmp_path / "2", {"b": b, "a": a}, metadata=dict(reversed(metadata.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert read_metadata(tmp_path / "1") == metadata


def test_torch_reads_the_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    save_arrays(tmp_path / "a.safetensors", {"w": np.eye(2, dtype=np.float32)}, metadata={"a": "b"})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["w"], torch.eye(2))


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array(["2020"], "M8")])
def test_other_types_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ArtifactError, match="array 'names' has type"):
        save_arrays(tmp_path / "a", {"names": array})
    assert list(tmp_path.iterdir()) == []


def test_reserved_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'__metadata__' has a reserved name"):
        save_arrays(tmp_path / "a", {"__metadata__": np.ones(1)})


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        save_arrays(tmp_path / "a", {"a": np.ones(3)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 5, 30, -1])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"a": np.arange(100)})
    path.write_bytes(path.read_bytes()[:keep])
    for read in (load_arrays, read_metadata):
        with pytest.raises(ArtifactError, match="not a whole safetensors file") as caught:
            read(path)
        assert str(path) in caught.value.message
        assert "restore it, or remove it" in caught.value.hint


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="it does not exist"):
        load_arrays(tmp_path / "a")
    with pytest.raises(ArtifactError, match="it is a folder"):
        load_arrays(tmp_path)


def test_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n")
    with pytest.raises(ArtifactError, match="Git LFS pointer") as caught:
        load_arrays(path)
    assert "git lfs pull" in caught.value.hint


@pytest.mark.parametrize("size", [1, 3, 100])
def test_rows_in_pieces_give_the_bytes_of_the_whole(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.random((n, 4), dtype=np.float32) for name, n in (("b", 10), ("a", 7))}
    streams = {
        name: (array.shape, [array[i : i + size].astype(np.float64) for i in range(0, 10, size)])
        for name, array in arrays.items()
    }
    save_rows(tmp_path / "pieces.safetensors", streams, metadata={"x": "y"})
    save_arrays(tmp_path / "whole.safetensors", arrays, metadata={"x": "y"})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    assert (tmp_path / "pieces.safetensors").read_bytes() == whole


def test_pieces_that_do_not_add_up_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    piece = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="a: 4 rows came, 5 were announced"):
        save_rows(path, {"a": ((5, 3), [piece, piece])})
    with pytest.raises(ValueError, match=r"a: rows of shape \(3,\), not \(4,\)"):
        save_rows(path, {"a": ((2, 4), [piece])})
    assert list(tmp_path.iterdir()) == []
