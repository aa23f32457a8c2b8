from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynmm_framework.config.blocks import ComponentRef
from dynmm_framework.config.choices import CHOICES, choice_at
from dynmm_framework.config.merge import Place, Settings, extend, override
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.config.yaml import parse

BASE = """
seed: 1
data: {name: file, config: {path: a.csv}, filters: {k_core: 5}}
split: {strategy: temporal_user, ratios: [0.8, 0.1, 0.1]}
backbone:
  name: deep_net
  config:
    hidden_size: 32
    optimiser: {rate: 0.1}
evaluate:
  at: [5, 10]
  compare_with: [counts, {name: other, config: {k: 1}}]
"""


def base() -> Settings:
    return Settings.of(parse(BASE, file="base.yaml"))


def merged(over: str) -> Settings:
    return extend(base(), Settings.of(parse(over, file="over.yaml")))


def changed(*overrides: str) -> dict[str, Any]:
    result = base()
    assert override(result, overrides) == []
    return result.data


def test_mappings_are_merged_deeply_and_lists_replaced() -> None:
    result = merged("seed: 2\nbackbone: {config: {layers: 3}}\nevaluate: {at: [20]}")
    assert result.data["seed"] == 2
    assert result.data["backbone"]["config"] == {
        "hidden_size": 32,
        "optimiser": {"rate": 0.1},
        "layers": 3,
    }
    assert result.data["evaluate"]["at"] == [20]
    assert len(result.data["evaluate"]["compare_with"]) == 2


def test_each_setting_keeps_its_origin() -> None:
    result = merged("seed: 2\nbackbone:\n  config:\n    layers: 3\nevaluate: {at: [20]}")
    assert result.place(("seed",)) == Place("over.yaml", 1)
    assert result.place(("split", "ratios", 1)) == Place("base.yaml", 4)
    assert result.place(("backbone", "config", "layers")) == Place("over.yaml", 4)
    assert result.place(("backbone", "config", "hidden_size")) == Place("base.yaml", 8)
    assert result.place(("backbone", "config", "nothing")) == Place("over.yaml", 3)
    assert result.place(("evaluate", "at", 0)) == Place("over.yaml", 5)
    assert result.place(("evaluate", "at", 1)) == Place("over.yaml", 5)
    assert result.place(("nothing",)) == Place("over.yaml", 1)


def test_a_new_name_drops_the_settings_of_the_old_component() -> None:
    result = merged("backbone: {name: other, config: {k: 2}}\ndata: {name: toy}")
    assert result.data["backbone"] == {"name": "other", "config": {"k": 2}}
    assert result.data["data"] == {"name": "toy", "filters": {"k_core": 5}}
    assert result.place(("backbone", "config", "hidden_size")).file == "over.yaml"
    assert merged("backbone: other").data["backbone"] == {"name": "other"}
    assert merged("split: {strategy: leave_one_out}").data["split"] == {"strategy": "leave_one_out"}


def test_the_same_name_keeps_them() -> None:
    kept = base().data["backbone"]["config"]
    for same in ("{name: Deep-Net}", "deep_net", "DEEP NET", "{config: {}}"):
        assert merged(f"backbone: {same}").data["backbone"]["config"] == kept
    ratios = merged("split: {strategy: temporal_user}").data["split"]["ratios"]
    assert ratios == [0.8, 0.1, 0.1]


def test_a_block_can_be_taken_away() -> None:
    assert merged("backbone: null\nbaseline: counts").data["backbone"] is None


def test_the_files_themselves_are_left_as_they_are() -> None:
    below, above = base(), Settings.of(parse("backbone: {config: {optimiser: {rate: 9}}}"))
    before = deepcopy(below.data), deepcopy(above.data)
    extend(below, above).data["backbone"]["config"]["optimiser"]["rate"] = 7
    assert (below.data, above.data) == before


def test_every_component_of_a_pipeline_is_a_known_choice() -> None:
    def references(model: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = []
        for name, field in model.model_fields.items():
            types = [field.annotation, *getattr(field.annotation, "__args__", ())]
            for kind in types:
                if isinstance(kind, type) and issubclass(kind, ComponentRef):
                    inside = str(field.annotation).startswith("list[")
                    found.append((*path, name, *["*"] * inside))
                elif isinstance(kind, type) and hasattr(kind, "model_fields"):
                    inside = str(field.annotation).startswith("list[")
                    found += references(kind, (*path, name, *["*"] * inside))
        return found

    assert sorted(references(Pipeline)) == sorted(c.path for c in CHOICES if c.is_component)
    found = choice_at(("evaluate", "compare_with", 3))
    assert found is not None
    assert found.path == ("evaluate", "compare_with", "*")
    assert choice_at(("evaluate", "compare_with")) is None


# Overrides.


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("backbone.config.hidden_size=128", ("backbone", "config", "hidden_size"), 128),
        ("backbone.config.new.deep=1e-3", ("backbone", "config", "new", "deep"), 0.001),
        ("split.ratios=[0.6, 0.2, 0.2]", ("split", "ratios"), [0.6, 0.2, 0.2]),
        ("split.ratios.0=0.7", ("split", "ratios", 0), 0.7),
        ("evaluate.at.2=50", ("evaluate", "at", 2), 50),
        ("evaluate.compare_with.0.name=new", ("evaluate", "compare_with", 0), {"name": "new"}),
        (
            "evaluate.compare_with.0.config.k=2",
            ("evaluate", "compare_with", 0),
            {"name": "counts", "config": {"k": 2}},
        ),
        ("evaluate.compare_with.1=new", ("evaluate", "compare_with", 1), {"name": "new"}),
        ("evaluate.compare_with.2=new", ("evaluate", "compare_with", 2), {"name": "new"}),
        ("evaluate.compare_with.2.name=new", ("evaluate", "compare_with", 2), {"name": "new"}),
        ("compute.device=cpu", ("compute", "device"), "cpu"),
        (" compute . device = cpu ", ("compute", "device"), "cpu"),
        ("data.config.path=a=b.csv", ("data", "config", "path"), "a=b.csv"),
        ("data.config.path='1'", ("data", "config", "path"), "1"),
        ("data.filters={k_core: 2}", ("data", "filters"), {"k_core": 2}),
        ("backbone=null", ("backbone",), None),
        ("backbone=Deep-Net", ("backbone", "config", "hidden_size"), 32),
        ("baseline=counts", ("baseline",), {"name": "counts"}),
        ("evaluate.monitor=no", ("evaluate", "monitor"), "no"),
    ],
)
def test_an_override_sets_one_value(text: str, path: tuple[str | int, ...], value: Any) -> None:
    node: Any = changed(text)
    for part in path:
        node = node[part]
    assert node == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "write it as path=value, such as backbone.config.hidden_size=128"),
        ("=3", "write it as path=value, such as backbone.config.hidden_size=128"),
        ("a..b=3", "write it as path=value, such as backbone.config.hidden_size=128"),
        ("", "write it as path=value, such as backbone.config.hidden_size=128"),
        ("seed=", "there is no value; write null, or '' for an empty text"),
        ("extends=x.yaml", "extends is for files; it cannot be overridden"),
        ("seed.x=3", "seed is 1, which has no field 'x'"),
        (
            "split.ratios.x=3",
            "split.ratios is a list; write the number of an entry in place",
        ),
        (
            "split.ratios.-1=3",
            "split.ratios is a list; write the number of an entry in place",
        ),
        ("split.ratios.4=3", "split.ratios has 3 entries, and they are numbered from 0"),
        ("split.ratios.0.x=3", "split.ratios.0 is 0.8, which has no field 'x'"),
        ("split.ratios=[1", "not valid YAML: expected ',' or ']'"),
        ("seed=!x 3", "!x 3 is not allowed; files hold plain data only"),
    ],
)
def test_a_bad_override_is_named(text: str, message: str) -> None:
    result = base()
    (problem,) = override(result, [text])
    assert str(problem).startswith(f"override {text}: {message}")
    assert result.data == base().data


def test_all_bad_overrides_are_reported_and_good_ones_applied() -> None:
    result = base()
    assert len(override(result, ["seed", "seed=4", "x.=1"])) == 2
    assert result.data["seed"] == 4


def test_the_origin_of_a_setting_is_its_override() -> None:
    result = base()
    override(result, ["backbone.config={layers: 3}", "compute.threads=2"])
    for path in [("backbone", "config", "layers"), ("backbone", "config", "hidden_size")]:
        assert result.place(path).file == "override backbone.config={layers: 3}"
    assert result.place(("compute",)).file == "override compute.threads=2"
    assert result.place(("seed",)) == Place("base.yaml", 2)


@pytest.mark.parametrize(
    "overrides",
    [
        ("backbone.name=other", "backbone.config.k=2"),
        ("backbone.config.k=2", "backbone.name=other"),
        ("backbone.config.k=2", "backbone=other"),
        ("backbone={name: other, config: {k: 1}}", "backbone.config.k=2"),
    ],
)
def test_a_new_name_drops_what_files_set_and_keeps_what_overrides_set(
    overrides: tuple[str, ...],
) -> None:
    assert changed(*overrides)["backbone"] == {"name": "other", "config": {"k": 2}}


def test_a_new_name_without_settings_starts_from_defaults() -> None:
    assert changed("backbone.name=other")["backbone"] == {"name": "other"}
    assert changed("split.strategy=mmrec")["split"] == {"strategy": "mmrec"}
    assert changed("data=toy")["data"] == {"name": "toy", "filters": {"k_core": 5}}
    assert "config" in changed("backbone.name=DEEP-NET")["backbone"]


# Properties.

keys = st.sampled_from(["a", "b", "c", "d"])
trees = st.recursive(
    st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(keys, trees, max_size=4)


@given(mappings, mappings)
def test_the_extending_file_wins_and_nothing_else_is_lost(
    below: dict[str, Any], above: dict[str, Any]
) -> None:
    def expected(old: Any, new: Any) -> Any:
        if not (isinstance(old, dict) and isinstance(new, dict)):
            return new
        return {**old, **{k: expected(old.get(k), v) for k, v in new.items()}}

    assert extend(Settings(below), Settings(above)).data == expected(below, above)
    assert extend(Settings(below), Settings({})).data == below
    assert extend(Settings({}), Settings(above)).data == above


@settings(deadline=None, max_examples=60)
@given(mappings, st.lists(keys, min_size=1, max_size=3), st.integers(0, 9))
def test_what_an_override_sets_is_there_and_the_rest_unchanged(
    data: dict[str, Any], path: list[str], value: int
) -> None:
    result = Settings(deepcopy(data))
    text = f"{'.'.join(path)}={value}"
    if override(result, [text]):
        return
    node, old = result.data, data
    for part in path[:-1]:
        assert {k: v for k, v in node.items() if k != part} == {
            k: v for k, v in old.items() if k != part
        }
        node, old = node[part], old.get(part) or {}
    assert node[path[-1]] == value
    assert result.place(tuple(path)) == Place(f"override {text}", override=True)
