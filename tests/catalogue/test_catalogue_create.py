from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.errors import ConfigError, PluginError
from dynmm_framework.specs import Component, ComponentSpec, Kind, Provider


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 4


class Whole:
    """A baseline whose property must not be run to see whether it is one."""

    def __init__(self, config: Config) -> None:
        self.config = config
        if config.size == 1:
            raise ValueError("too small")
        if config.size == 2:
            raise ConfigError("size 2 is taken")
        if config.size == 3:
            import no_such_library  # noqa: F401

    @property
    def get_state(self) -> Any:
        raise AssertionError("must not be called")

    def load_state(self, state: Any) -> None: ...
    def fit(self, data: Any, ctx: Any) -> None: ...
    def score(self, histories: Any, candidates: Any = None) -> None: ...


class Partial:
    def __init__(self, config: Config) -> None: ...
    def fit(self, data: Any, ctx: Any) -> None: ...


HERE = "catalogue_create_module"


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType(HERE)
    module.__dict__.update(Config=Config, Whole=Whole, Partial=Partial, number=3, half=round)
    monkeypatch.setitem(sys.modules, HERE, module)
    (tmp_path / "needs_torchx.py").write_text("import torchx.nn\n")
    (tmp_path / "is_broken.py").write_text("\n1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def component(kind: Kind = "baseline", **fields: Any) -> Component:
    defaults = {"target": f"{HERE}:Whole", "config": f"{HERE}:Config", "summary": "s"}
    spec = ComponentSpec(**{**defaults, **fields}, name="Half-Life")
    return Component(kind, spec, Provider("acme", "1.0", "half", "acme.plugin"))


def refusal(component: Component, config: Any = None) -> str:
    with pytest.raises(PluginError) as caught:
        Catalogue().create(component, config or {})
    return str(caught.value)


def test_a_component_is_built_from_a_mapping_or_a_model() -> None:
    catalogue = Catalogue()
    assert catalogue.config_model(component()) is Config
    assert catalogue.create(component(), {"size": 7}).config == Config(size=7)
    config = Config(size=8)
    assert catalogue.create(component(), config).config is config


def test_a_bad_configuration_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        Catalogue().create(component(), {"size": "x", "color": 1})
    assert [p.path for p in caught.value.problems] == ["size", "color"]


def test_a_missing_library_names_the_command_that_installs_it() -> None:
    needing = component(target="needs_torchx:X", requires=("torchx.nn", "json"), extra="torch")
    assert refusal(needing) == (
        "baseline half_life of acme needs torchx, which is not installed\n"
        "  pip install 'acme[torch]'"
    )
    assert Catalogue().missing(needing) == ("torchx",)
    without_extra = component(target="needs_torchx:X", requires=("torchx",))
    assert refusal(without_extra).endswith("\n  pip install 'torchx'")


def test_a_library_missing_in_the_constructor_is_named_too() -> None:
    needing = component(requires=("no_such_library",), extra="all")
    assert refusal(needing, {"size": 3}).endswith("\n  pip install 'acme[all]'")


def test_an_undeclared_import_is_the_fault_of_the_plugin() -> None:
    text = refusal(component(target="needs_torchx:X"))
    assert text.startswith(
        "baseline half_life of acme cannot be loaded: ModuleNotFoundError: No module named 'torchx'"
    )
    assert text.endswith(
        "needs_torchx.py:1)\n  the fault lies in acme==1.0: update it, or report it to its authors"
    )


@pytest.mark.parametrize(
    ("fields", "config", "text"),
    [
        ({"target": "is_broken:X"}, None, "cannot be loaded: ZeroDivisionError: division by zero"),
        ({"target": f"{HERE}:Nope"}, None, "cannot be loaded: AttributeError: module"),
        ({"config": "no_such_module:X"}, None, "cannot be loaded: ModuleNotFoundError"),
        ({"config": f"{HERE}:Whole"}, None, f"{HERE}:Whole is not a pydantic model"),
        ({"config": f"{HERE}:number"}, None, f"{HERE}:number is not a pydantic model"),
        ({"target": f"{HERE}:number"}, None, "cannot be loaded: TypeError: 'int' object is not"),
        ({}, {"size": 1}, "cannot be loaded: ValueError: too small"),
        (
            {"target": f"{HERE}:Partial"},
            None,
            "is not a Recommender: it lacks get_state, load_state, score\n"
            "  report this to the authors of acme",
        ),
    ],
)
def test_a_faulty_component_is_refused(
    fields: dict[str, Any], config: dict[str, int] | None, text: str
) -> None:
    message = refusal(component(**fields), config)
    assert message.startswith("baseline half_life of acme")
    assert text in message


def test_an_error_meant_for_the_user_passes_through() -> None:
    with pytest.raises(ConfigError, match=r"^size 2 is taken$"):
        Catalogue().create(component(), {"size": 2})


@pytest.mark.parametrize(
    ("kind", "slot", "protocol"),
    [
        ("backbone", None, "Backbone"),
        ("encoder", None, "ModalityEncoder"),
        ("adapter", "align", "AlignAdapter"),
        ("adapter", "online", "OnlineAdapter"),
        ("adapter", "prompt", "PromptAdapter"),
        ("evidence", None, "EvidenceExtractor"),
        ("language_model", None, "LanguageModel"),
        ("dataset", None, "DatasetReader"),
    ],
)
def test_each_kind_is_held_to_its_protocol(kind: Kind, slot: Any, protocol: str) -> None:
    assert f"is not a {protocol}: it lacks" in refusal(component(kind, slot=slot))


# The installed plugins.


def test_the_installed_plugins_are_all_well() -> None:
    catalogue = load_catalogue(strict=True)
    assert {p.name for p in catalogue.plugins} >= {"sasrec", "popularity", "ranking_metrics"}
    for each in catalogue.components():
        assert catalogue.config_model(each).__doc__


CODE = """
import sys, time
from importlib import metadata
from dynmm_framework.catalogue import load_catalogue
def timed():
    start = time.process_time()
    load_catalogue()
    return time.process_time() - start
first = timed()
heavy = {"torch", "numpy", "pydantic", "scipy", "pyarrow", "ruamel", "rich", "click", "difflib"}
print(sorted(heavy & set(sys.modules)), first)
catalogue = load_catalogue()
for component in catalogue.components():
    catalogue.config_model(component)
heavy = {"torch", "scipy", "pyarrow", "pandas", "polars", "sklearn", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""


def test_building_the_catalogue_is_light_and_so_are_configuration_models() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    built, configured = run.stdout.splitlines()
    heavy, seconds = built.split("] ")
    assert heavy == "["
    assert float(seconds) < 0.08  # 0.01 on an idle machine
    assert configured == "[]"
