"""What holds for components of every kind: their registration and their settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ValidationError

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.engine.context import RunContext, Surroundings, connected
from dynmm_framework.errors import PluginError
from dynmm_framework.specs import Component, Kind

HEAVY = (
    "datasets", "faiss", "huggingface_hub", "matplotlib", "open_clip", "pandas", "peft", "polars",
    "ray", "scipy", "sklearn", "torch", "torchaudio", "torchvision", "transformers",
)  # fmt: skip
"""Libraries that a plugin's light door and configuration must not import."""


def require(condition: bool, message: str) -> None:
    """Fails the test with a message to the component's author, without the kit's traceback."""
    __tracebackhide__ = True
    if not condition:
        pytest.fail(message, pytrace=False)


class ComponentConformance:
    """Conformance of components of every kind; use the subclass of your component's kind."""

    kind: ClassVar[Kind]
    """Kind of the component; the subclasses set it."""
    component: ClassVar[str]
    """Name of the component as in YAML: ``my_model``, or ``my-distribution/my_model``."""
    config: ClassVar[Mapping[str, Any]] = {}
    """Its settings in these tests, as in YAML: small and quick."""

    @pytest.fixture
    def registered(self, dynmm_catalogue: Catalogue) -> Component:
        """The component's record and provider."""
        name = getattr(self, "component", "")
        require(bool(name), f'set component = "the name in YAML" in {type(self).__name__}')
        try:
            return dynmm_catalogue.find(self.kind, name)
        except PluginError as error:
            reasons = [f"  {status}" for status in dynmm_catalogue.plugins if status.amiss]
            advice = (
                "  not installed? pip install -e . where its pyproject.toml is, or override the"
                " fixture dynmm_catalogue; the documentation of dynmm_framework.testing shows how"
            )
            lines = [str(error), *reasons, advice]
        pytest.fail("\n".join(lines), pytrace=False)

    @pytest.fixture
    def config_model(self, dynmm_catalogue: Catalogue, registered: Component) -> type[BaseModel]:
        """The model of the component's settings."""
        return dynmm_catalogue.config_model(registered)

    @pytest.fixture
    def make(self, dynmm_catalogue: Catalogue, registered: Component) -> Callable[..., Any]:
        """Makes a fresh component: ``make()``, or ``make(epochs=1)`` to change settings."""
        ctx = RunContext(Surroundings(dynmm_catalogue), stage="test")

        def make(**changed: Any) -> Any:
            settings = {**self.config, **changed}
            return connected(dynmm_catalogue.create(registered, settings), ctx)

        return make

    def test_config_survives_a_round_trip(self, config_model: type[BaseModel]) -> None:
        config = config_model.model_validate(dict(self.config))
        again = config_model.model_validate_json(config.model_dump_json())
        changed = [
            f"{name} was {getattr(config, name)!r} and came back as {getattr(again, name)!r}"
            for name in config_model.model_fields
            if getattr(config, name) != getattr(again, name)
        ]
        require(
            again == config,
            f"{config_model.__name__} does not survive being written as JSON and read back, as"
            f" manifests and caches do: {'; '.join(changed) or 'the two are not equal'}."
            " Use types that pydantic writes and reads alike.",
        )

    def test_unknown_setting_is_refused(self, config_model: type[BaseModel]) -> None:
        try:
            config_model.model_validate({**self.config, "no_such_setting": 1})
            refused = False
        except ValidationError:
            refused = True
        require(
            refused,
            f"{config_model.__name__} takes a setting that does not exist, so a misspelt one would"
            " go unnoticed. Derive it from dynmm_framework.config.blocks.Block, or set"
            ' extra="forbid".',
        )

    def test_settings_cannot_be_changed_later(self, config_model: type[BaseModel]) -> None:
        require(
            bool(config_model.model_config.get("frozen")),
            f"{config_model.__name__} can be changed after validation, so a manifest may tell"
            " other settings than were used. Derive it from dynmm_framework.config.blocks.Block,"
            " or set frozen=True.",
        )

    def test_every_setting_is_documented(self, config_model: type[BaseModel]) -> None:
        schema = config_model.model_json_schema()
        models = {config_model.__name__: schema, **schema.get("$defs", {})}
        silent = [
            f"{model}.{name}"
            for model, content in models.items()
            for name, field in content.get("properties", {}).items()
            if not field.get("description")
        ]
        require(
            not silent,
            f"no documentation: {', '.join(silent)}. Write a docstring under the field (meaning,"
            " unit, the paper's default) and derive the model from"
            " dynmm_framework.config.blocks.Block, which reads it; or use"
            " Field(description=...).",
        )

    def test_door_and_config_import_nothing_heavy(self, registered: Component) -> None:
        door, config = registered.provider.module, registered.spec.config.partition(":")[0]
        for module, loaded in heavy_imports((door, config)).items():
            require(
                not loaded,
                f"importing {module} imports {', '.join(loaded)}, which would slow down every"
                " command for everyone who has this plugin installed. Import it in the module of"
                " the component itself (target), or inside functions.",
            )


@cache
def heavy_imports(modules: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Returns the heavy libraries that importing each module loads, tried in a fresh Python.

    A library that two modules load counts for the first.
    """
    program = f"""
import importlib, json, sys
sys.path[:] = {[entry for entry in sys.path if isinstance(entry, str)]!r}
found = {{}}
for module in {[module for module in dict.fromkeys(modules) if module]!r}:
    before = set(sys.modules)
    importlib.import_module(module)
    found[module] = sorted((set(sys.modules) - before) & {set(HEAVY)!r})
print(json.dumps(found))
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    require(
        done.returncode == 0,
        f"{' or '.join(modules)} cannot be imported in a fresh Python:\n{done.stderr}",
    )
    found: Mapping[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found
