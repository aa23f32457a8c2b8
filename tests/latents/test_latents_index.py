"""Search over item vectors, and what compression leaves of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.errors import ArtifactError, ConfigError, DataError, PluginError
from dynmm_framework.latents.compression import (
    LEAST_TRAINING,
    check_fixed_ratio,
    choose_codes,
    faiss_module,
    nearest_divisor,
)
from dynmm_framework.latents.index import EXACT_FILE, FACTS_FILE, INDEX_FILE, ItemIndex

pytest.importorskip("faiss")


def clustered(n: int, dim: int, *, seed: int = 0) -> np.ndarray:
    """Vectors of length 1 around 100 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(100, dim))
    found = centres[rng.integers(100, size=n)] + 0.6 * rng.normal(size=(n, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


FEW = clustered(3000, 32)
MANY = clustered(LEAST_TRAINING, 16)
QUERIES = clustered(300, 32, seed=1)


def best(vectors: np.ndarray, queries: np.ndarray, k: int = 10) -> np.ndarray:
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    return float((wanted[:, :, None] == found[:, None, :]).any(axis=2).mean())


@pytest.fixture(scope="module")
def pq() -> ItemIndex:
    return ItemIndex.build(MANY, compression="pq", ratio=16, seed=3, training_rows=LEAST_TRAINING)


def test_exact_search_is_a_sort_of_the_inner_products() -> None:
    items, scores = ItemIndex.build(FEW).search(QUERIES, 10)
    assert np.array_equal(items, best(FEW, QUERIES))
    np.testing.assert_allclose(scores, np.take_along_axis(QUERIES @ FEW.T, items, 1), atol=1e-5)


def test_inverted_lists_find_all_when_all_are_visited() -> None:
    index = ItemIndex.build(FEW, kind="ivf", probes=10_000)
    assert np.array_equal(index.search(QUERIES, 10)[0], best(FEW, QUERIES))
    assert recall(ItemIndex.build(FEW, kind="ivf").search(QUERIES, 10)[0], best(FEW, QUERIES)) > 0.5


def test_eight_bits_a_number_lose_next_to_nothing() -> None:
    index = ItemIndex.build(FEW, compression="sq8", ratio=4)
    assert recall(index.search(QUERIES, 10, rerank=0)[0], best(FEW, QUERIES)) > 0.97
    assert np.abs(index.decode() - FEW).max() < 0.01


@pytest.mark.parametrize(("compression", "ratio"), [("sq8", 4), ("sq4", 8)])
def test_scalar_codes_are_as_small_as_they_say(compression, ratio) -> None:
    index = ItemIndex.build(FEW, compression=compression, ratio=ratio)
    assert index.bytes_before == FEW.nbytes
    assert index.bytes_before / index.bytes_after == pytest.approx(ratio, rel=0.15)


def test_product_codes_are_as_small_as_they_say_beside_their_codebook(pq) -> None:
    codebook = 256 * 16 * 4
    assert pq.codes.n_sub == 4
    assert pq.bytes_before / (pq.bytes_after - codebook) == pytest.approx(16, rel=0.15)


def test_residual_codes_with_their_identifiers_keep_to_the_ratio() -> None:
    for dim, ratio in ((256, 8), (256, 16), (512, 32)):
        codes = choose_codes(1_000_000, dim, compression="ivfpq", ratio=ratio)
        assert codes.compression == "ivfpq"
        assert 4 * dim / (codes.n_sub + 8) == pytest.approx(ratio, rel=0.15)


def test_narrow_codes_have_no_room_for_identifiers() -> None:
    codes = choose_codes(20_000, 64, compression="ivfpq", ratio=16)
    assert (codes.compression, codes.factory) == ("pq", "PQ16np")
    assert "inverted lists add 8 bytes to an item's 16" in codes.notes[0]


@pytest.mark.parametrize(
    ("compression", "ratio", "factory"), [("pq", 16, "IVF256,PQ4np"), ("opq", 32, "OPQ2,PQ2np")]
)
def test_residual_and_rotated_codes_keep_the_neighbourhood(compression, ratio, factory) -> None:
    kind = "ivf" if compression == "pq" else "exact"
    index = ItemIndex.build(MANY, kind=kind, compression=compression, ratio=ratio, seed=1)
    assert index.codes.factory == factory
    size = index.bytes_after
    error = np.square(index.decode() - MANY).sum(axis=1).mean()
    assert error < 0.6 * np.square(MANY - MANY.mean(axis=0)).sum(axis=1).mean()
    assert index.bytes_after == size  # what decoding needs is not left behind


def test_a_re_rank_never_lowers_recall(pq) -> None:
    queries = clustered(300, 16, seed=1)
    wanted = best(MANY, queries)
    plain, again = (recall(pq.search(queries, 10, rerank=r)[0], wanted) for r in (0, 50))
    assert plain < again
    assert recall(pq.search(queries, 10, rerank=10)[0], wanted) >= plain
    items, scores = pq.search(queries, 10)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ MANY.T, items, 1), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_re_rank_of_all_items_is_the_exact_search() -> None:
    index = ItemIndex.build(FEW, compression="sq4", ratio=8, rerank=len(FEW))
    assert np.array_equal(index.search(QUERIES, 10)[0], best(FEW, QUERIES))
    alone = ItemIndex.build(FEW, compression="sq4", ratio=8, keep_exact=False)
    plain = index.search(QUERIES, 10, rerank=0)[0]
    assert np.array_equal(alone.search(QUERIES, 10)[0], plain)


@pytest.mark.parametrize(("ratio", "scalar"), [(4, "sq8"), (8, "sq4"), (16, "sq4"), (32, "sq4")])
@pytest.mark.parametrize("compression", ["pq", "opq", "ivfpq"])
def test_small_catalogues_fall_back_to_scalar_quantisation(compression, ratio, scalar) -> None:
    said: list[str] = []
    index = ItemIndex.build(FEW, compression=compression, ratio=ratio, log=said.append)
    assert index.codes.compression == scalar
    assert index.codes.scalar_instead
    assert said == [f"index: {note}" for note in index.codes.notes]
    assert said[0].startswith(
        "index: 3,000 vectors are too few to train product quantisation, which needs 9,984"
    )


def test_more_items_asked_for_than_there_are() -> None:
    items, scores = ItemIndex.build(FEW[:5], compression="sq8").search(QUERIES[:2], 8)
    assert (items[:, 5:] == -1).all()
    assert np.isneginf(scores[:, 5:]).all()
    assert sorted(items[0, :5]) == [0, 1, 2, 3, 4]


def test_the_same_seed_gives_the_same_index(pq) -> None:
    again = ItemIndex.build(MANY, compression="pq", ratio=16, seed=3, training_rows=LEAST_TRAINING)
    assert np.array_equal(pq.decode(), again.decode())
    one, two = (ItemIndex.build(FEW, kind="ivf", seed=s).search(QUERIES, 10) for s in (1, 1))
    assert np.array_equal(one[0], two[0])


def test_an_index_comes_back_as_it_was(pq, tmp_path: Path) -> None:
    lists = ItemIndex.build(FEW, kind="ivf", compression="sq8", probes=3, keep_exact=False)
    for index, queries, name in ((pq, MANY[:50], "pq"), (lists, QUERIES, "ivf")):
        loaded = ItemIndex.load(index.save(tmp_path / name))
        for found, wanted in zip(
            loaded.search(queries, 10), index.search(queries, 10), strict=True
        ):
            assert np.array_equal(found, wanted)
        assert loaded.codes == index.codes
        assert np.array_equal(loaded.decode(), index.decode())
    assert isinstance(ItemIndex.load(tmp_path / "pq").exact, np.memmap)
    assert not (tmp_path / "ivf" / EXACT_FILE).exists()


@pytest.mark.parametrize("name", [INDEX_FILE, EXACT_FILE, FACTS_FILE])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    folder = ItemIndex.build(FEW[:100], compression="sq8").save(tmp_path / "index")
    data = bytearray((folder / name).read_bytes())
    if damage == "gone":
        (folder / name).unlink()
    else:
        data[len(data) // 2] ^= 255
        (folder / name).write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=f"cannot read .*{name}"):
        ItemIndex.load(folder)


def test_an_index_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    folder = ItemIndex.build(FEW[:100]).save(tmp_path / "index")
    facts = read_json(folder / FACTS_FILE)
    write_json(folder / FACTS_FILE, {**facts, "schema_version": 2})
    with pytest.raises(ArtifactError, match="its index is of version 2, this release knows 1"):
        ItemIndex.load(folder)
    write_json(folder / FACTS_FILE, {"schema_version": 1})
    with pytest.raises(ArtifactError, match="it is damaged"):
        ItemIndex.load(folder)


def test_what_cannot_be_built_or_asked() -> None:
    with pytest.raises(ConfigError, match="width 4 cannot be made 32 times smaller"):
        choose_codes(20_000, 4, compression="pq", ratio=32)
    with pytest.raises(ConfigError, match="no ratio 5"):
        choose_codes(20_000, 64, compression="pq", ratio=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="sq8 makes vectors 4 times smaller, never 16"):
        check_fixed_ratio("sq8", 16)
    bad = FEW.copy()
    bad[7, 0] = np.nan
    with pytest.raises(DataError, match="item 7 is not finite"):
        ItemIndex.build(bad)
    with pytest.raises(DataError, match=r"not shape \(0, 32\)"):
        ItemIndex.build(FEW[:0])
    with pytest.raises(DataError, match=r"shape \(300, 31\) do not fit an index of width 32"):
        ItemIndex.build(FEW).search(QUERIES[:, 1:], 10)
    with pytest.raises(DataError, match="a query is not finite"):
        ItemIndex.build(FEW).search(bad[:10], 10)


def test_without_faiss_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(PluginError, match=r"(?s)need faiss.*pip install faiss-cpu.*extra `gpu`"):
        faiss_module()
    with pytest.raises(PluginError, match="need faiss"):
        ItemIndex.build(FEW)


def test_a_width_that_does_not_divide_gets_the_nearest_count() -> None:
    codes = choose_codes(20_000, 65, compression="pq", ratio=16)
    assert codes.n_sub == 13
    assert codes.notes == (
        "16.25 sub-quantisers do not divide the width 65: 13 instead, which is 20 times smaller",
    )


@given(st.integers(1, 2000), st.floats(1, 2000))
def test_the_nearest_divisor_divides_and_none_is_nearer(dim: int, wanted: float) -> None:
    found = nearest_divisor(dim, wanted)
    assert dim % found == 0
    far = max(found / wanted, wanted / found)
    for m in range(1, dim + 1):
        assert dim % m or max(m / wanted, wanted / m) >= far - 1e-9
