"""Evidence in a run: stages, keys, what prompts are given, what the run keeps and refreshes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynmm_framework import ComponentSpec, hookimpl, load_pipeline
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.blocks import Block
from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.engine.evidence import fresh_evidence, offered
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ArtifactError, ConfigError, PluginError
from dynmm_framework.explain.source import EvidenceSource
from dynmm_framework.testing import generate_dataset

SETTINGS = {"name": "cf_neighbours", "config": {"k": 3}}


class PromptConfig(Block):
    """No settings."""


class Plain:
    """Ranks as what it stands on does, and notes the evidence that it was given."""

    def __init__(self, config: PromptConfig) -> None:
        self.given: EvidenceSource | None = None
        self.base: Any = None

    def fit(self, data: Any, base: Any, ctx: Any) -> None:
        self.base = base

    def attach(self, base: Any) -> None:
        self.base = base

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = np.asarray(self.base.user_vectors(histories) @ self.base.item_vectors().T)
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)

    def get_state(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1)}

    def load_state(self, state: Any) -> None: ...


class Reading(Plain):
    """Adds how much evidence an item has: 0 for all without any."""

    def fit(self, data: Any, base: Any, ctx: Any, *, evidence: Any = None) -> None:
        self.base, self.given = base, evidence
        ctx.record("given", list(evidence.names) if evidence else None)

    def attach(self, base: Any, *, evidence: Any = None) -> None:
        self.base, self.given = base, evidence

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        scores = super().score(histories, candidates)
        if self.given is not None:
            asked = candidates
            if asked is None:
                asked = np.tile(np.arange(histories.n_items), (len(histories), 1))
            table = self.given.find(histories, asked).table
            np.add.at(scores, (table.rows, table.columns), 1.0)
        return scores


@hookimpl
def dynmm_register_adapters() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            name=name.__name__.lower(),
            target=f"{__name__}:{name.__name__}",
            config=f"{__name__}:PromptConfig",
            summary="Tests what a prompt is given",
            slot="prompt",
        )
        for name in (Plain, Reading)
    ]


@pytest.fixture(scope="module")
def catalogue() -> Any:
    import sys

    found = load_catalogue()
    found.register(sys.modules[__name__], name="prompts")
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence")
    generate_dataset(n_users=80, n_items=48).save(folder / "data")
    return folder


def pipeline(saved: Path, **changed: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "leave_one_out"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 3, "dim": 8}},
        "evidence": [SETTINGS, "trend"],
        "evaluate": {"at": [10]},
        "compute": {"device": "cpu", "threads": 1},
        **changed,
    }


def keys(mapping: dict[str, Any], runs: Path, **more: Any) -> dict[str, str]:
    plan = make_plan(load_pipeline(mapping, **more), runs_dir=runs)
    return {stage.name: stage.key for stage in plan.stages}


@pytest.fixture(scope="module")
def finished(saved: Path, catalogue: Any) -> Any:
    mapping = pipeline(saved, prompt="reading")
    return run(load_pipeline(mapping, catalogue=catalogue), runs_dir=saved / "runs")


def test_each_extractor_is_a_stage_of_each_seed(saved: Path) -> None:
    names = list(keys(pipeline(saved, seeds=[1, 2]), saved / "runs"))
    assert [name for name in names if name.startswith("evidence/")] == [
        "evidence/cf_neighbours/seed-1",
        "evidence/cf_neighbours/seed-2",
        "evidence/trend/seed-1",
        "evidence/trend/seed-2",
    ]


def test_an_extractor_may_be_there_twice(saved: Path) -> None:
    again = {"name": "cf_neighbours", "config": {"k": 1}}
    loaded = load_pipeline(pipeline(saved, evidence=[SETTINGS, again]))
    assert list(loaded.pipeline.extractors) == ["cf_neighbours", "cf_neighbours#2"]
    assert loaded.configs["evidence/cf_neighbours#2"].k == 1  # type: ignore[attr-defined]
    assert load_pipeline(loaded.resolved()).resolved() == loaded.resolved()


def test_changing_an_extractor_changes_its_stage_and_the_prompt_on_it(
    saved: Path, catalogue: Any
) -> None:
    whole = pipeline(saved, prompt="reading")
    before = keys(whole, saved / "runs", catalogue=catalogue)
    other = {**whole, "evidence": [{"name": "cf_neighbours", "config": {"k": 4}}, "trend"]}
    after = keys(other, saved / "runs", catalogue=catalogue)
    assert {name for name in before if before[name] != after[name]} == {
        "evidence/cf_neighbours/seed-7",
        "prompt/reading/seed-7",
        "rank/reading/seed-7/full",
    }


def test_evidence_changes_no_key_of_what_it_stands_on(saved: Path) -> None:
    with_evidence = keys(pipeline(saved), saved / "runs")
    without = keys(pipeline(saved, evidence=[]), saved / "runs")
    assert without.items() <= with_evidence.items()


def test_when_it_is_refreshed_changes_no_stage(saved: Path) -> None:
    stream = {"split": {"strategy": "streaming"}, "online": "gated_mlp"}
    before = keys(pipeline(saved, **stream), saved / "runs")
    rule = [SETTINGS, {"name": "trend", "refresh": {"windows": 2}}]
    assert keys(pipeline(saved, **stream, evidence=rule), saved / "runs") == before


def test_a_prompt_is_given_the_evidence(finished: Any) -> None:
    stage = next(s for s in finished.manifest.stages if s.name.startswith("prompt/"))
    assert stage.key
    recommender = finished.recommender()
    assert recommender.given.names == ("cf_neighbours", "trend")
    histories = finished.dataset.interactions.histories().take(slice(0, 3))
    plain = np.asarray(recommender.base.user_vectors(histories) @ recommender.base.item_vectors().T)
    added = np.round(recommender.score(histories) - plain)
    assert set(np.unique(added)) >= {0.0, 3.0}


def test_a_prompt_that_takes_none_ranks_without(saved: Path, catalogue: Any) -> None:
    mapping = pipeline(saved, prompt="plain")
    done = run(load_pipeline(mapping, catalogue=catalogue), runs_dir=saved / "runs")
    ranked = done.metrics["recommenders"]
    assert ranked["plain"]["full"]["hit@10"]["mean"] == ranked["bpr_mf"]["full"]["hit@10"]["mean"]
    assert done.evidence().names == ("cf_neighbours", "trend")


def test_evidence_is_offered_to_what_takes_it_alone() -> None:
    source = EvidenceSource({})
    assert offered(Plain(PromptConfig()).attach, source) == {}
    assert offered(Reading(PromptConfig()).attach, None) == {}
    assert offered(Reading(PromptConfig()).attach, source) == {"evidence": source}
    assert offered(lambda base, **more: None, source) == {"evidence": source}


def test_a_run_keeps_its_evidence_without_the_cache(
    finished: Any, saved: Path, catalogue: Any
) -> None:
    copy = saved / "alone"
    shutil.copytree(finished.folder, copy)
    alone = type(finished).load(copy, catalogue=catalogue)
    assert "evidence/trend/seed-7/state.safetensors" in alone.manifest.files
    histories = alone.dataset.interactions.histories().take(slice(0, 5))
    asked = np.tile(np.arange(20, dtype=np.int32), (5, 1))
    one, other = (each.evidence() for each in (alone, finished))
    first, second = one.find(histories, asked), other.find(histories, asked)
    assert len(first) > 0
    assert np.array_equal(first.table.references, second.table.references)
    assert one.facts(first) == other.facts(second)
    assert alone.recommend("u3", k=5) == finished.recommend("u3", k=5)


def test_a_run_without_evidence_has_none(saved: Path) -> None:
    done = run(load_pipeline(pipeline(saved, evidence=[])), runs_dir=saved / "runs")
    assert done.evidence() is None
    with pytest.raises(ArtifactError, match="has no online adapter"):
        fresh_evidence(done)


def test_evidence_keeps_up_with_the_run_s_own_stream_and_with_what_comes_after(
    saved: Path,
) -> None:
    online = {"name": "gated_mlp", "config": {"window": 100}, "controls": False, "baselines": False}
    rules = [SETTINGS, {"name": "trend", "refresh": {"windows": 2}}]
    mapping = pipeline(saved, split={"strategy": "streaming"}, online=online, evidence=rules)
    done = run(load_pipeline(mapping), runs_dir=saved / "runs")
    fresh = fresh_evidence(done)
    assert fresh.refreshed > 0
    trained, now = done.evidence(), fresh.source
    item, later = 7, int(done.dataset.interactions.timestamps.max()) + 86_400
    for number in range(4):  # each more than a window
        times = np.full(101, later + number)
        fresh.push(Events.of(np.arange(101) + 1000, np.full(101, item), times))
    asked = np.array([[item]], np.int32)
    nobody = Histories.of([[]], done.dataset.n_items)
    found = now.find(nobody, asked)
    (fact,) = now.facts(found.take(found.extractors == 1))
    assert fact.values["count"] >= 101
    before = trained.find(nobody, asked)
    facts = trained.facts(before.take(before.extractors == 1))
    assert all(fact.values["count"] < 80 for fact in facts)


def test_an_extractor_that_does_not_age_cannot_be_refreshed(saved: Path, tmp_path: Path) -> None:
    rules = [{**SETTINGS, "refresh": {"age": "1d"}}]
    mapping = pipeline(saved, split={"strategy": "streaming"}, online="gated_mlp", evidence=rules)
    with pytest.raises(PluginError, match="cf_neighbours cannot be brought up to date"):
        run(load_pipeline(mapping), runs_dir=tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone": None, "baseline": "popularity"}, "evidence needs a backbone"),
        ({"evidence": ["cf_neighbors"]}, "did you mean cf_neighbours"),
        ({"evidence": [{"name": "trend", "config": {"day": 3}}]}, "did you mean days"),
        ({"evidence": [{"name": "trend", "config": {"least": 4}}]}, "evidence.0.config.least"),
        ({"evidence": [{"name": "trend", "refresh": {"windows": 2}}]}, "it needs online"),
        ({"evidence": [{"name": "trend", "refresh": {}}]}, "give either windows or age"),
        ({"evidence": [{"name": "trend", "refresh": {"age": "100"}}]}, "must be a time, as in 1h"),
        ({"evidence": ["sasrec"]}, "evidence"),
    ],
)
def test_wrong_evidence_is_refused(saved: Path, changed: dict[str, Any], message: str) -> None:
    wrong = {key: value for key, value in pipeline(saved, **changed).items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        load_pipeline(wrong)
    assert message in str(caught.value)


# The control.


def test_shuffled_evidence_is_that_of_other_items(saved: Path, catalogue: Any) -> None:
    mapping = pipeline(saved, prompt="reading", controls=["shuffled_evidence"])
    found = run(load_pipeline(mapping, catalogue=catalogue), runs_dir=saved / "runs")
    control = "reading-shuffled_evidence"
    assert list(found.metrics["recommenders"]) == ["reading", "bpr_mf", control]
    compared = {(c["a"], c["b"]) for c in found.metrics["comparisons"] if c["metric"] == "ndcg@10"}
    assert ("reading", control) in compared
    # The finished run asks with the same evidence as the stage that ranked.
    whole, other = found.recommender(), found.recommender(control)
    histories = found.dataset.interactions.histories().take(slice(0, 20))
    asked = np.tile(np.arange(48, dtype=np.int32), (20, 1))
    order = other.given._order
    assert sorted(order) == list(range(48))
    counts = np.zeros((2, 20, 48))
    for place, source in enumerate((whole.given, other.given)):
        table = source.find(histories, asked).table
        np.add.at(counts[place], (table.rows, table.columns), 1)
    dealt = counts[0][:, order]
    assert (counts[1] <= dealt).all()  # less where an item would have spoken for itself
    assert counts[1].sum() > 0.9 * dealt.sum()
    assert not np.array_equal(counts[1], counts[0])
    fresh = found.metrics["recommenders"]
    assert fresh["reading"]["full"]["ndcg@10"] != fresh[control]["full"]["ndcg@10"]


def test_the_control_has_a_key_of_its_own_and_leaves_the_others(
    saved: Path, catalogue: Any
) -> None:
    plain = keys(pipeline(saved, prompt="reading"), saved / "runs", catalogue=catalogue)
    mapping = pipeline(saved, prompt="reading", controls=["shuffled_evidence"])
    controlled = keys(mapping, saved / "runs", catalogue=catalogue)
    new = set(controlled) - set(plain)
    assert new == {
        "prompt/reading-shuffled_evidence/seed-7",
        "rank/reading-shuffled_evidence/seed-7/full",
    }
    assert {name: controlled[name] for name in plain} == plain
    assert len({controlled[name] for name in controlled}) == len(controlled)


@pytest.mark.parametrize("changed", [{}, {"prompt": "reading", "evidence": []}])
def test_the_control_needs_a_prompt_and_evidence(
    saved: Path, catalogue: Any, changed: dict[str, Any]
) -> None:
    mapping = pipeline(saved, controls=["shuffled_evidence"], **changed)
    with pytest.raises(ConfigError, match="shuffled_evidence is of a prompt that reads evidence"):
        load_pipeline(mapping, catalogue=catalogue)
