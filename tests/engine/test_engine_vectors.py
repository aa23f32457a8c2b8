"""Vectors of a run: they score as the run did, and survive the trip into every format."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dynmm_framework.artifacts.arrays import load_arrays, read_metadata
from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.data.tables import Histories
from dynmm_framework.engine import vectors as room
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run
from dynmm_framework.engine.vectors import Vectors
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.testing import generate_dataset

SASREC = {"hidden_size": 16, "layers": 1, "heads": 1, "max_length": 10, "epochs": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, interactions_file: Path) -> Run:
    """A run of two backbones and a baseline, of two seeds each."""
    settings = {
        "version": 1,
        "seeds": [1, 2],
        "data": {"name": "interaction_file", "config": {"path": str(interactions_file)}},
        "split": {"strategy": "temporal_user"},
        "backbone": {"name": "sasrec", "config": SASREC},
        "evaluate": {
            "at": [5],
            "compare_with": [{"name": "bpr_mf", "config": {"dim": 8, "epochs": 5}}, "item_knn"],
        },
    }
    return run(load_pipeline(settings), runs_dir=tmp_path_factory.mktemp("runs"))


class Line:
    """Users are how much they know, items the whole numbers; in one number each."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self.asked: list[int] = []

    def item_vectors(self) -> np.ndarray:
        return np.arange(self.n_items, dtype=np.float64)[:, None]

    def user_vectors(self, histories: Histories) -> np.ndarray:
        self.asked.append(len(histories))
        return histories.lengths[:, None].astype(np.float64)


def line_vectors(backbone: Any = None, **columns: Any) -> Vectors:
    """Vectors of the generated dataset, with some columns of its item table replaced."""
    dataset = generate_dataset(n_users=20, n_items=40)
    items = dataset.items
    for name, values in columns.items():
        items = items.set_column(items.column_names.index(name), name, pa.array(values))
    dataset = replace(dataset, items=items)
    histories = dataset.interactions.histories()
    return Vectors(backbone or Line(40), dataset, histories, source={"run": "r", "seed": 1})


@pytest.mark.parametrize("label", ["sasrec", "bpr_mf"])
@pytest.mark.parametrize("seed", [1, 2])
def test_inner_products_are_the_ranking_of_the_run(trained: Run, label: str, seed: int) -> None:
    vectors = trained.vectors(label, seed=seed, known="test")
    scores = vectors.users @ vectors.items.T
    table = trained.ranking
    chosen = pc.and_(pc.equal(table["recommender"], label), pc.equal(table["seed"], seed))
    table = table.filter(chosen)
    users, items = table["user"].to_numpy(), table["item"].to_numpy()
    np.testing.assert_allclose(scores[users, items], table["score"].to_numpy(), rtol=2e-5)
    # And the best of the scores are the list: nothing unknown scores above its end.
    known = vectors.histories
    scores[known.rows, known.items] = -np.inf
    for user in np.unique(users):
        listed = table.filter(pc.equal(table["user"], int(user)))
        lowest = listed["score"].to_numpy().min()
        others = np.setdiff1d(np.arange(scores.shape[1]), listed["item"].to_numpy())
        targets_excepted = others[np.isfinite(scores[user, others])]
        assert (scores[user, targets_excepted] <= lowest + 1e-5).all()


def test_all_that_is_known_is_what_recommend_takes(trained: Run) -> None:
    vectors = trained.vectors()
    best = trained.recommend("u3", k=5)
    row = vectors.dataset.users["id"].to_pylist().index("u3")
    ids = vectors.dataset.items["id"].to_pylist()
    scores = vectors.items @ vectors.users[row]
    found = [scores[ids.index(entry["item"])] for entry in best]
    np.testing.assert_allclose(found, [entry["score"] for entry in best], rtol=1e-5)


def test_what_is_known_is_named_and_grows(trained: Run) -> None:
    lengths = {
        known: trained.vectors(known=known).histories.lengths for known in ("train", "test", "all")
    }
    assert (lengths["train"] < lengths["test"]).all()
    assert (lengths["test"] < lengths["all"]).all()
    same = [trained.vectors("bpr_mf", known=known).users for known in ("train", "all")]
    np.testing.assert_array_equal(*same)  # a training user keeps the trained vector
    with pytest.raises(ValueError, match="'valid' is none of all, test, train"):
        trained.vectors(known="valid")


def test_a_split_that_cannot_be_made_again_is_an_error(trained: Run) -> None:
    manifest = trained.manifest.model_copy(update={"split_hash": "0" * 64})
    changed = replace(trained, manifest=manifest)
    assert len(changed.vectors().users) == 60
    with pytest.raises(ArtifactError, match=r"the split of run .* cannot be made as it was, so"):
        changed.vectors(known="test")


def test_a_backbone_needs_neither_dataset_nor_cache(trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / trained.id
    shutil.copytree(trained.folder, copy)
    shutil.rmtree(copy / "data")
    whole = trained.vectors("bpr_mf")
    for label, dim in (("sasrec", 16), ("bpr_mf", 9)):
        backbone = Run.load(copy).backbone(label, seed=2)
        items = np.asarray(backbone.item_vectors())
        assert items.shape == (whole.dataset.n_items, dim)
        strangers = Histories.of([[0, 1], [], [2] * 30], len(items))
        assert np.asarray(backbone.user_vectors(strangers)).shape == (3, dim)
    again = np.asarray(Run.load(copy).backbone("bpr_mf").user_vectors(whole.histories))
    np.testing.assert_array_equal(again, whole.users)


def test_a_recommender_without_vectors_names_those_that_have(trained: Run) -> None:
    with pytest.raises(ArtifactError) as caught:
        trained.vectors("item_knn")
    assert caught.value.message == (
        f"recommender item_knn of run {trained.id} has no vectors, only scores: it is a baseline"
    )
    assert caught.value.hint == "With vectors, this run has: sasrec, bpr_mf."
    with pytest.raises(ArtifactError, match=r"no recommender 'sasrek'; did you mean sasrec\?"):
        trained.vectors("sasrek")
    with pytest.raises(ArtifactError, match="no model seed 7"):
        trained.vectors(seed=7)


def test_a_run_of_baselines_alone_has_no_vectors(load, tmp_path: Path) -> None:
    found = run(load(), runs_dir=tmp_path)
    with pytest.raises(ArtifactError, match="No recommender of this run has vectors"):
        found.vectors()


# Files.


def read_back(folder: Path, format: str, part: str) -> tuple[np.ndarray, list[str], Any]:
    """Reads vectors, ids and titles as others would."""
    if format == "npy":
        titles = folder / f"{part}.titles.txt"
        return (
            np.load(folder / f"{part}.npy"),
            (folder / f"{part}.ids.txt").read_text(encoding="utf-8").splitlines(),
            titles.read_text(encoding="utf-8").splitlines() if titles.exists() else None,
        )
    table = pq.read_table(folder / f"{part}.parquet")
    titles = table["title"].to_pylist() if "title" in table.column_names else None
    if format == "parquet":
        vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
    else:
        vectors = load_arrays(folder / "vectors.safetensors")[part]
    return vectors, table["id"].to_pylist(), titles


@pytest.mark.parametrize("format", ["safetensors", "parquet", "npy"])
@pytest.mark.parametrize("chunk", [7, 10_000])
def test_every_format_holds_the_vectors_and_their_ids(
    format: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "CHUNK_ROWS", chunk)
    vectors = line_vectors()
    folder = vectors.save(tmp_path / "deep" / "out", format=format)
    tables = {"items": vectors.dataset.items, "users": vectors.dataset.users}
    for part, expected in (("items", vectors.items), ("users", vectors.users)):
        found, ids, titles = read_back(folder, format, part)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        assert ids == tables[part]["id"].to_pylist()
        assert titles == (tables[part]["title"].to_pylist() if part == "items" else None)
    summary = read_json(folder / "vectors.json")
    assert summary["files"] == sorted({p.name for p in folder.iterdir()} - {"vectors.json"})
    del summary["files"]
    assert summary == {
        "schema_version": 1,
        "run": "r",
        "seed": 1,
        "score": "inner product",
        "dim": 1,
        "items": 40,
        "users": 20,
        "format": format,
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]  # nothing is left over


def test_users_are_asked_for_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK_ROWS", 8)
    backbone = Line(40)
    folder = line_vectors(backbone).save(tmp_path / "out", format="parquet")
    assert backbone.asked == [8, 8, 4]
    file = pq.ParquetFile(folder / "users.parquet")
    assert file.metadata.num_row_groups == 3
    assert file.schema_arrow.field("vector").type == pa.list_(pa.float32(), 1)
    assert file.schema_arrow.metadata[b"run"] == b"r"


def test_a_part_alone_is_written_alone(tmp_path: Path) -> None:
    backbone = Line(40)
    folder = line_vectors(backbone).save(tmp_path / "out", part="items")
    assert not backbone.asked
    assert set(load_arrays(folder / "vectors.safetensors")) == {"items"}
    assert read_metadata(folder / "vectors.safetensors") == {"run": "r", "seed": "1"}
    assert not (folder / "users.parquet").exists()
    assert "users" not in read_json(folder / "vectors.json")
    with pytest.raises(ValueError, match="'titles' is none of items, users, both"):
        line_vectors().save(tmp_path / "x", part="titles")
    with pytest.raises(ValueError, match="'csv' is none of safetensors, parquet, npy"):
        line_vectors().save(tmp_path / "x", format="csv")


def test_missing_and_broken_titles_stay_one_line_each(tmp_path: Path) -> None:
    titles = [None, "two\nlines", "a  b", *map(str, range(37))]
    folder = line_vectors(title=titles).save(tmp_path / "out", format="npy")
    lines = (folder / "items.titles.txt").read_text(encoding="utf-8").split("\n")
    assert lines[:3] == ["", "two lines", "a b"]
    assert len(lines) == 41
    folder = line_vectors(title=pa.nulls(40, pa.string())).save(tmp_path / "no", format="npy")
    assert not (folder / "items.titles.txt").exists()


def test_an_id_of_two_lines_is_refused_where_lines_are_rows(tmp_path: Path) -> None:
    vectors = line_vectors(id=["a\nb", *map(str, range(39))])
    with pytest.raises(ArtifactError, match=r"the id 'a\\nb' holds a line break or nothing"):
        vectors.save(tmp_path / "out", format="npy")
    assert not (tmp_path / "out").exists()
    folder = vectors.save(tmp_path / "out", format="parquet")
    assert pq.read_table(folder / "items.parquet")["id"][0].as_py() == "a\nb"


def test_what_is_there_is_replaced_only_when_asked_and_only_if_it_is_vectors(
    tmp_path: Path,
) -> None:
    folder = line_vectors().save(tmp_path / "out", format="npy")
    with pytest.raises(ArtifactError, match="holds vectors already") as caught:
        line_vectors().save(folder, format="parquet")
    assert "--force" in caught.value.hint
    line_vectors().save(folder, format="parquet", force=True)
    assert not (folder / "items.npy").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    for force in (False, True):
        with pytest.raises(ArtifactError, match="it holds other files"):
            line_vectors().save(mine, force=force)
    assert (mine / "thesis.tex").exists()
    with pytest.raises(ArtifactError, match=r"v\.parquet: they are several files, which need a f"):
        line_vectors().save(tmp_path / "v.parquet")
    with pytest.raises(ArtifactError, match="they are several files"):
        line_vectors().save(mine / "thesis.tex")


@pytest.mark.parametrize("format", ["safetensors", "parquet", "npy"])
def test_a_failure_leaves_what_was_there(format: str, tmp_path: Path) -> None:
    class Undefined(Line):
        def user_vectors(self, histories: Histories) -> np.ndarray:
            return np.where(histories.lengths[:, None] > 20, np.nan, 1.0)

    folder = line_vectors().save(tmp_path / "out", format=format)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StageError, match=r"Undefined: the vector of user 'u\d+' is not finite"):
        line_vectors(Undefined(40)).save(folder, format=format, force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_vectors_of_another_shape_are_an_error() -> None:
    with pytest.raises(StageError, match=r"Line gave item vectors of shape \(39, 1\) where \(40,"):
        line_vectors(Line(39)).items  # noqa: B018

    class Wide(Line):
        def user_vectors(self, histories: Histories) -> np.ndarray:
            return np.ones((len(histories), 2))

    with pytest.raises(StageError, match=r"user vectors of shape \(20, 2\) where \(20, 1\) was"):
        line_vectors(Wide(40)).users  # noqa: B018
