"""The protocol ``auc`` in a run: the same judgements for every recommender."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ConfigError, DataError
from dynmm_framework.reports.page import write_report
from dynmm_framework.reports.table import metric_tables

SPLIT = {"strategy": "user_disjoint", "min_history": 4}
EVALUATE = {"protocols": ["auc", {"auc": 3.5}, "full"], "compare_with": ["item_knn"], "at": [5]}


def test_a_run_prints_it_beside_rankings(
    load: Callable[..., LoadedPipeline], tmp_path: Path
) -> None:
    done = run(load(split=SPLIT, evaluate=EVALUATE), runs_dir=tmp_path)
    for values in done.metrics["recommenders"].values():
        assert list(values) == ["auc", "auc:3.5", "full"]
        assert set(values["auc"]) == {"auc", "uauc"}
        assert 0 <= values["auc"]["auc"]["mean"] <= 1
    assert done.metrics["chance"]["auc"] == {"auc": 0.5, "uauc": 0.5}
    assert done.metrics["higher_is_better"]["uauc"] is True
    assert set(done.manifest.candidate_hashes) == {"auc", "auc:3.5"}
    (table, other, _) = metric_tables(done.metrics)
    assert table.title.startswith("Telling items rated above 3 from the others")
    assert "3.5" in other.title
    lists = done.ranking.filter(pc.equal(done.ranking["protocol"], "auc"))
    assert set(lists.column_names) >= {"user", "rank", "item", "score", "hit"}
    assert write_report(done).is_file()


def test_data_without_ratings_are_refused_before_anything_is_trained(
    load: Callable[..., LoadedPipeline], interactions_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "unrated.csv"
    lines = interactions_file.read_text().splitlines()
    path.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    data = {"name": "interaction_file", "config": {"path": str(path)}}
    with pytest.raises(DataError, match="no ratings"):
        run(load(data=data, split=SPLIT, evaluate=EVALUATE), runs_dir=tmp_path)
    assert not list((tmp_path / ".cache").rglob("fit*"))


@pytest.mark.parametrize(
    ("spelt", "name"),
    [("auc", "auc"), ({"auc": 3}, "auc"), ({"auc": 3.5}, "auc:3.5"), ("auc:2", "auc:2")],
)
def test_it_is_spelt_in_several_ways(
    load: Callable[..., LoadedPipeline], spelt: object, name: str
) -> None:
    pipeline = load(evaluate={"protocols": [spelt]}).pipeline
    assert [protocol.name for protocol in pipeline.evaluate.protocols] == [name]


def test_another_protocol_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(ConfigError, match="or auc for rated targets"):
        load_pipeline({"version": 1, "evaluate": {"protocols": ["auk"]}})
