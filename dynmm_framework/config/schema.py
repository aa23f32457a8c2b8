"""The JSON schema of this installation: the envelope and the settings of every component."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic.errors import PydanticUserError

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.choices import CHOICES, Choice
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.errors import PluginError
from dynmm_framework.specs import Component, Provider, fold

_REFS = "#/$defs/"
_EXTENDS = """A YAML file, relative to this one, whose settings hold unless this file sets them: \
mappings are merged, everything else is replaced."""


def json_schema(catalogue: Catalogue) -> dict[str, Any]:
    """Describes pipeline files for editors, with the components that are installed.

    A component's ``config`` is described by its own model, chosen by ``name``. A file that
    extends another may leave out what the other holds.

    Args:
        catalogue: Whose components to describe. One whose configuration model cannot be imported
            is listed by name only.

    Returns:
        A JSON schema, draft 2020-12.
    """
    schema = Pipeline.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    properties: dict[str, Any] = schema["properties"]
    whole: dict[str, Any] = {"split": properties["split"]}
    properties["split"] = {"description": "How interactions are split.", "type": "object"}
    properties["extends"] = {"description": _EXTENDS, "type": "string"}
    described: dict[str, str] = {}
    for choice in CHOICES:
        if choice.is_component:
            whole |= _describe_choice(choice, schema, catalogue, described)
    metrics = _spellings((spec.name, provider) for spec, provider in catalogue.metrics())
    evaluate = definitions["EvaluateBlock"]["properties"]
    evaluate["metrics"]["items"] = {"enum": sorted({w for words in metrics for w in words})}
    schema["if"] = {"required": ["extends"]}
    schema["else"] = {
        "required": schema.pop("required"),
        "anyOf": [{"required": ["backbone"]}, {"required": ["baseline"]}],
        "properties": whole,
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "dynmm pipeline"
    schema["$defs"] = _in_use(schema, definitions)
    return schema


def _describe_choice(
    choice: Choice, schema: dict[str, Any], catalogue: Catalogue, described: dict[str, str]
) -> dict[str, Any]:
    """Describes one block that names a component.

    Args:
        choice: The block.
        schema: What is added to.
        catalogue: Whose components there are.
        described: Definition to the block it describes; blocks of one kind share one, unless they
            have settings of their own.

    Returns:
        What a file must have besides if it extends no other, as properties of its root.
    """
    definitions: dict[str, Any] = schema["$defs"]
    # A block inside an entry of a list changes what the pipeline has; it need not be whole.
    changes = "*" in choice.path[:-1]
    parts = ("-or-".join(choice.kinds), choice.slot, "change" if changes else None)
    name = "-".join(part for part in parts if part)
    reference = _reference(schema, choice.path)
    model = reference["$ref"].removeprefix(_REFS)
    if described.setdefault(name, model) != model:
        name = f"{name}-{choice.path[-1]}"
    block = json.loads(json.dumps(definitions[model]))
    reference["$ref"] = f"{_REFS}{name}"
    components = [
        component
        for kind in choice.kinds
        for component in catalogue.components(kind)
        if choice.slot in (None, component.spec.slot)
    ]
    spellings = _spellings((c.spec.name, c.provider) for c in components)
    settings, complete = [], []
    for component, words in zip(components, spellings, strict=True):
        key = _define_settings(component, definitions, catalogue)
        condition = {"properties": {"name": {"enum": words}}, "required": ["name"]}
        config = {"$ref": f"{_REFS}{key}"}
        settings.append({"if": condition, "then": {"properties": {"config": config}}})
        required = definitions[key].pop("required", [])
        if required:
            then = {"required": ["config"], "properties": {"config": {"required": required}}}
            complete.append({"if": condition, "then": then})
    names = sorted({word for words in spellings for word in words})
    block["properties"]["name"] |= {"enum": names}
    block.pop("required")
    if settings:
        block["allOf"] = settings
    definitions[name] = {
        "description": block["description"],
        "if": {"type": "string"},
        "then": {"enum": names},
        "else": block,
    }
    whole: dict[str, Any] = {"required": ["name"]}
    definitions[f"whole-{name}"] = whole | ({"allOf": complete} if complete else {})
    if len(choice.path) == 1:
        return {choice.path[0]: {"$ref": f"{_REFS}whole-{name}"}}
    if changes:
        return {}
    # A list is never merged with that of another file, so its entries are always whole.
    definitions[name]["allOf"] = [{"$ref": f"{_REFS}whole-{name}"}]
    return {}


def _define_settings(
    component: Component, definitions: dict[str, Any], catalogue: Catalogue
) -> str:
    """Adds the schema of a component's settings to the definitions and returns its key."""
    source = fold(component.provider.distribution)
    key = f"{component.kind}.{source}.{component.name}"
    try:
        model = catalogue.config_model(component)
        settings = model.model_json_schema(ref_template=f"{_REFS}{key}.{{model}}")
    except (PluginError, PydanticUserError):
        settings = {"type": "object"}
    for name, inner in settings.pop("$defs", {}).items():
        definitions[f"{key}.{name}"] = inner
    text = settings.get("description", "")
    settings["description"] = "\n\n".join(filter(None, (component.spec.summary, text)))
    definitions[key] = settings
    return key


def _spellings(entries: Iterable[tuple[str, Provider]]) -> list[list[str]]:
    """Returns how each entry may be written: by name if only one provider has it, and in full."""
    known = [(fold(name), name, provider.distribution) for name, provider in entries]
    sources = Counter(name for name, _ in {(name, fold(source)) for name, _, source in known})
    return [
        [*sorted({name, written} if sources[name] == 1 else ()), f"{source}/{name}"]
        for name, written, source in known
    ]


def _reference(schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Returns the part of the schema that refers to the definition of the block at ``path``."""
    node = schema
    for part in path:
        options = node.get("anyOf", [node])
        node = next((option for option in options if "$ref" in option), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].removeprefix(_REFS)]
        node = node["items"] if part == "*" else node["properties"][part]
    found: dict[str, Any] = next(o for o in node.get("anyOf", [node]) if "$ref" in o)
    return found


def _in_use(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Returns the definitions that something refers to, by name."""
    used: set[str] = set()
    queue: list[Any] = [{key: part for key, part in schema.items() if key != "$defs"}]
    while queue:
        found = re.findall(f'"{re.escape(_REFS)}([^"]+)"', json.dumps(queue.pop()))
        new = set(found) - used
        used |= new
        queue += [definitions[name] for name in new]
    return {name: definitions[name] for name in sorted(used)}
