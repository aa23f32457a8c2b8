"""The language model alone: its scores, its rules for titles, and its place in a pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.artifacts.records import Registry
from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ConfigError, StageError
from dynmm_framework.testing import BaselineConformance, ContextFactory, generate_dataset
from dynmm_framework.testing.conformance.component import require

TINY: dict[str, Any] = {"llm": "tiny_random", "history": 3}


@pytest.fixture(scope="session")
def dynmm_dataset() -> Dataset:
    return generate_dataset(n_users=16, n_items=20, interactions_per_user=(4, 8))


class TestLLMOnlyConformance(BaselineConformance):
    component: ClassVar[str] = "llm_only"
    config: ClassVar[dict[str, Any]] = {**TINY, "rerank": 1000}

    def test_metrics_are_in_the_expected_range(self, fitted: Any, histories: Histories) -> None:
        # Random weights learn nothing; that titles and histories matter is all that can be asked.
        scores = self.scores(fitted, histories)
        require(bool((scores.std(axis=1) > 0).all()), "all titles score the same")
        require(bool((scores.std(axis=0) > 0).any()), "all histories score the same")

    def test_training_on_a_gpu_scores_like_on_the_cpu(self) -> None:
        pytest.skip("nothing is trained")


@pytest.fixture
def make(dynmm_catalogue: Catalogue):
    component = dynmm_catalogue.find("baseline", "llm_only")
    return lambda **settings: dynmm_catalogue.create(component, {**TINY, **settings})


def with_titles(data: TrainingData, titles: list[str | None]) -> TrainingData:
    places = range(len(data.items))
    column = pa.array([titles[place % len(titles)] for place in places], pa.string())
    place = data.items.column_names.index("title")
    return replace(data, items=data.items.set_column(place, "title", column))


def test_candidates_without_a_title_come_last_and_tie(
    make, dynmm_split: Split, dynmm_dataset: Dataset, dynmm_context: ContextFactory
) -> None:
    data = with_titles(
        dynmm_split.training_data(dynmm_dataset.items), ["Heat", None, " \u200b", "לילה", "a\nb"]
    )
    model = make()
    model.fit(data, dynmm_context())
    (scores,) = model.score(Histories.of([[0, 1, 2]], 20), np.array([[0, 1, 2, 3, 4, 5]], np.int32))
    assert scores[1] == scores[2] == -100
    assert (scores[[0, 3, 4, 5]] > -50).all()
    assert scores[0] == pytest.approx(scores[5], abs=1e-5)  # the same title


def test_the_catalogue_is_the_best_of_retrieval_by_the_language_model_above_the_rest(
    make, dynmm_split: Split, dynmm_dataset: Dataset, dynmm_context: ContextFactory
) -> None:
    model, data = make(rerank=4), dynmm_split.training_data(dynmm_dataset.items)
    model.fit(data, dynmm_context())
    histories = Histories.of([[0, 1], []], 20)
    scores = model.score(histories)
    popular = data.train.item_counts().astype(float)
    for row, known in enumerate(([0, 1], [])):
        allowed = popular.copy()
        allowed[known] = -1
        top = np.argsort(-allowed, kind="stable")[:4]
        alone = model.score(histories.take(slice(row, row + 1)), top[None].astype(np.int32))[0]
        np.testing.assert_array_equal(np.argsort(-scores[row][top]), np.argsort(-alone))
        others = np.setdiff1d(np.arange(20), top)
        assert scores[row][top].min() > scores[row][others].max()
        by_count = others[np.argsort(-popular[others], kind="stable")]
        assert (np.diff(scores[row][by_count]) <= 0).all()


def test_data_without_titles_and_use_without_a_context_are_refused_in_words(
    make, dynmm_split: Split, dynmm_dataset: Dataset, dynmm_context: ContextFactory
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items.drop_columns(["title"]))
    with pytest.raises(StageError, match="llm_only reads titles, and the items have no column"):
        make().fit(data, dynmm_context())
    with pytest.raises(StageError, match="LLMOnly is not fitted"):
        make().score(Histories.of([[]], 3))


@pytest.fixture
def settings(tmp_path: Path, dynmm_dataset: Dataset) -> dict[str, Any]:
    folder = dynmm_dataset.save(tmp_path / "data")
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(folder)}},
        "split": {"strategy": "leave_one_out"},
        "baseline": {"name": "llm_only", "config": {**TINY, "rerank": 5}},
        "evaluate": {"protocols": ["full", {"sampled": 4}], "at": [1, 5]},
    }


def test_a_pipeline_with_parts_runs_is_kept_and_restored(
    settings: dict[str, Any], tmp_path: Path, dynmm_catalogue: Catalogue
) -> None:
    loaded = load_pipeline(settings, catalogue=dynmm_catalogue)
    done = run(loaded, runs_dir=tmp_path / "runs", offline=True)
    assert "hit@1" in done.metrics["recommenders"]["llm_only"]["sampled:4"]
    manifest = read_json(done.folder / "manifest.json")
    assert manifest["components"]["llm_only/llm"].endswith("/tiny_random")
    assert manifest["components"]["llm_only/retrieval"].endswith("/popularity")
    resolved = manifest["pipeline"]["baseline"]["config"]["llm"]
    assert resolved["config"]["context_length"] == 1024  # complete, defaults too
    listed = done.recommend(history=["i0", "i1"], k=3)
    assert len(listed) == 3
    # Resolved settings give the same run again.
    again = load_pipeline(loaded.resolved(), catalogue=dynmm_catalogue)
    plan = make_plan(again, runs_dir=tmp_path / "runs")
    assert all(stage.cached for stage in plan.stages)
    (fit,) = plan.of_kind("fit")
    assert [part.split(": ")[0] for part in fit.parts] == ["llm", "retrieval"]


def test_parts_are_part_of_the_key(
    settings: dict[str, Any], tmp_path: Path, dynmm_catalogue: Catalogue
) -> None:
    def keys(*overrides: str) -> list[str]:
        loaded = load_pipeline(settings, overrides=overrides, catalogue=dynmm_catalogue)
        return [stage.key for stage in make_plan(loaded, runs_dir=tmp_path).of_kind("fit")]

    plain = keys()
    assert keys("baseline.config.llm={name: tiny_random, config: {seed: 0}}") == plain
    assert keys("baseline.config.llm={name: tiny_random, config: {seed: 1}}") != plain
    assert keys("baseline.config.retrieval=item_knn") != plain
    folder = tmp_path / "llm"
    folder.mkdir()
    changed = f"baseline.config.llm={{name: hf_causal, config: {{model: {folder}}}}}"
    (folder / "config.json").write_text("{}")
    before = keys(changed)
    (folder / "config.json").write_text("{ }")
    assert keys(changed) != before  # the weights themselves


def test_mistakes_in_parts_are_all_found_where_they_are(
    tmp_path: Path, dynmm_catalogue: Catalogue
) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "version: 1\n"
        "data: {name: movielens_100k}\n"
        "split: {strategy: leave_one_out}\n"
        "baseline:\n"
        "  name: llm_only\n"
        "  config:\n"
        "    llm:\n"
        "      name: hf_causal\n"
        "      config:\n"
        "        modell: smollm2_135m\n"
        "        dtype: fp23\n"
        "    retrieval: popularty\n"
    )
    with pytest.raises(ConfigError) as error:
        load_pipeline(path, catalogue=dynmm_catalogue)
    lines = str(error.value).replace(f"{path}:", "").splitlines()
    assert lines[0].startswith(
        "10: baseline.config.llm.config.modell: unknown field; did you mean model?"
    )
    assert lines[1].startswith("11: baseline.config.llm.config.dtype: must be one of fp32, bf16")
    assert "12: baseline.config.retrieval: unknown baseline or backbone 'popularty'" in lines[2]
    path.write_text(path.read_text().partition("    llm:")[0] + "    llm: sasrec\n")
    with pytest.raises(ConfigError, match=r"unknown language model 'sasrec'; it is a backbone"):
        load_pipeline(path, catalogue=dynmm_catalogue)
    path.write_text(path.read_text().replace("sasrec", "opt_1_3b"))
    with pytest.raises(ConfigError, match=r"facebook/opt-1.3b is on the hub: name a revision"):
        load_pipeline(path, catalogue=dynmm_catalogue)


def test_a_record_that_is_misspelt_is_found_before_anything_runs(
    settings: dict[str, Any], tmp_path: Path, dynmm_catalogue: Catalogue
) -> None:
    settings["baseline"]["config"]["llm"] = {"name": "hf_causal", "config": {"model": "smolm2"}}
    loaded = load_pipeline(settings, catalogue=dynmm_catalogue)
    with pytest.raises(Exception, match="the registry has no model 'smolm2'; did you mean smollm2"):
        make_plan(loaded, runs_dir=tmp_path)
    assert Registry.load(dynmm_catalogue.record_folders()).get("model", "smollm2_135m")
