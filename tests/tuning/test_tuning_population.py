"""Population-based training: what may change on the way, and the way that weights have come."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework import tune
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.config.search import Dimension, SearchBlock
from dynmm_framework.errors import ConfigError, PluginError
from dynmm_framework.tuning import engine as engine_module
from dynmm_framework.tuning.engine import choose_engine
from dynmm_framework.tuning.population import Lineage, bounded, drawn

RATE, DROP = "backbone.config.learning_rate", "backbone.config.dropout"
DIMENSIONS = [
    {"float": {"low": 0.1, "high": 0.7}},
    {"log": {"low": 1e-4, "high": 1e-1}},
    {"int": {"low": 3, "high": 12, "step": 4}},
    {"power_of_two": {"low": 8, "high": 64}},
    {"choice": [0.1, 0.5]},
]


def test_a_lineage_is_first_settings_and_what_changed_when():
    start = Lineage({RATE: 0.1, DROP: 0.5})
    assert start.params() == {RATE: 0.1, DROP: 0.5}
    assert start.going_on({RATE: 0.1, DROP: 0.5}, after=4) is start
    one = start.going_on({RATE: 0.2, DROP: 0.5}, after=4)
    two = one.going_on({RATE: 0.2, DROP: 0.1}, after=8)
    assert two.present == {RATE: 0.2, DROP: 0.1}
    assert two.params() == {
        RATE: 0.1,
        DROP: 0.5,
        "backbone.config.schedule": [
            {"after": 4, "settings": {"learning_rate": 0.2}},
            {"after": 8, "settings": {"dropout": 0.1}},
        ],
    }
    # Settings that were drawn again before an epoch was trained with them leave no trace.
    assert one.going_on({RATE: 0.3, DROP: 0.4}, after=4).changes == ((4, {RATE: 0.3, DROP: 0.4}),)
    assert start.going_on({RATE: 0.3, DROP: 0.5}, after=0).params() == {RATE: 0.3, DROP: 0.5}
    assert Lineage.from_json(json.loads(json.dumps(two.as_json()))) == two


@given(st.floats(-100, 100), st.sampled_from(DIMENSIONS), st.integers(0, 2**31))
def test_moved_and_drawn_values_are_the_dimensions_own(value, raw, seed):
    dimension = Dimension.model_validate(raw)
    found = drawn(dimension, np.random.default_rng(seed))
    for one in (found, bounded(dimension, found), bounded(dimension, value)):
        known = dimension.values
        if dimension.choice or dimension.power_of_two:
            if one is not value and one != value:
                assert one in known
        elif known is not None:
            assert one in known
        else:
            ends = dimension.float or dimension.log
            assert ends.low <= one <= ends.high


@pytest.fixture
def refused(settings, catalogue, tmp_path):
    """Says what is wrong with a search by a population."""
    pytest.importorskip("ray")

    def refused(*, backbone=None, blocks=None, **search) -> str:
        config = {"epochs": 10, **(backbone or {})}
        changed = {key: value for key, value in settings.items() if key != "baseline"}
        changed |= {"backbone": {"name": "sasrec", "config": config}, **(blocks or {})}
        space = {RATE: {"log": {"low": 1e-4, "high": 1e-2}}}
        changed["search"] = {"engine": "ray", "scheduler": "pbt", "space": space, **search}
        kept = {key: value for key, value in changed.items() if value is not None}
        with pytest.raises(ConfigError) as caught:
            tune(load_pipeline(kept, catalogue=catalogue), runs_dir=tmp_path)
        assert not list(tmp_path.iterdir())
        return str(caught.value)

    return refused


def test_what_cannot_change_on_the_way_is_refused_before_anything_starts(refused):
    other = {"encoders": {"text": "tfidf_text"}, "align": "joint_alignment"}
    text = refused(blocks=other)
    assert f"search.space.{RATE}: pbt: cannot change while joint_alignment is trained" in text
    assert "align.config can in align_weight, batch_size" in text
    assert "cannot change while" in refused(space={"backbone.config.epochs": [10, 20]})
    conditional = {RATE: [0.1, 0.2], DROP: {"choice": [0.1, 0.2], "when": {RATE: 0.1}}}
    assert "nothing can depend on another" in refused(space=conditional)
    assert "no more than 10 epochs" in refused(scheduler={"name": "pbt", "interval": 10})
    assert "search.scheduler.grace" in refused(scheduler={"name": "pbt", "grace": 10})
    assert "pbt trains all members to the end" in refused(time_budget=60)
    assert "cannot change while" in refused(space={"backbone.config.hidden_size": [8, 16]})
    assert "pbt has no grid" in refused(sampler="grid", space={RATE: [0.1, 0.2]})
    assert "a population of 2 at least" in refused(trials=1)
    schedule = [{"after": 2, "settings": {"dropout": 0.1}}]
    assert "pbt finds the schedule" in refused(backbone={"schedule": schedule})
    assert "needs engine: ray" in refused(engine="local")
    toy = {"baseline": {"name": "toy"}, "backbone": None}
    space = {"baseline.config.quality": [0.1, 0.2]}
    assert "toy is not trained in one sequence of epochs" in refused(blocks=toy, space=space)


def test_without_ray_there_is_no_population(monkeypatch):
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    block = SearchBlock.model_validate({"scheduler": "pbt"})
    with pytest.raises(PluginError, match=r"search\.scheduler: pbt needs Ray Tune"):
        choose_engine(block)
