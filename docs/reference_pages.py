"""Writes the generated pages of this folder: ``python docs/reference_pages.py``.

``pipeline.md`` and ``components.md`` are what the models of the settings say of themselves, in the
words of ``dynmm plugins info``; ``plugin-directory.md`` is what the registry's records say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.record_types import ComponentRecord, Paper
from dynmm_framework.artifacts.records import Registry
from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.cli.plugins import settings_of, type_text
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.specs import KINDS, Component, Kind

FOLDER = Path(__file__).parent
DISTRIBUTION = "dynmm-framework"
TITLES: Mapping[Kind, str] = {
    "backbone": "Backbones",
    "encoder": "Encoders",
    "adapter": "Adapters",
    "evidence": "Evidence extractors",
    "baseline": "Baselines",
    "language_model": "Language models",
    "dataset": "Datasets",
}
LONGEST = 120
"""Characters of a default that a table can hold."""
NOTE = "<!-- Written by docs/reference_pages.py; a test compares. -->"
_REFS = "#/$defs/"
Schema = Mapping[str, Any]


def pipeline_page() -> str:
    """Returns the page of every block of a pipeline and its settings."""
    schema = Pipeline.model_json_schema()
    definitions = schema["$defs"]
    parts = [
        "# Blocks of a pipeline",
        NOTE,
        "Every setting of a pipeline but those of its components, which are"
        " [on a page of their own](components.md). `dynmm schema` prints the same for editors.",
        "A component is named alone (`backbone: sasrec`) or with settings (`backbone: {name:"
        " sasrec, config: {…}}`). A file may build on another by `extends: FILE`: mappings are"
        " merged, everything else is replaced.",
        "## The root",
        _table(_rows(schema, definitions)),
    ]
    for places, definition in _blocks(schema, definitions).values():
        parts.append(f"## {', '.join(f'`{place}`' for place in places)}")
        parts.append(_text(definition.get("description", "")))
        if fields := _mapping(definition):
            parts.append(_table(_rows(fields, definitions)))
    return "\n\n".join(filter(None, parts)) + "\n"


def _mapping(definition: Schema) -> Schema:
    """Returns the form of a block that has settings, if it may be written in several."""
    forms = (definition, *definition.get("anyOf", ()))
    return next((form for form in forms if form.get("properties")), {})


def _blocks(schema: Schema, definitions: Schema) -> dict[str, tuple[list[str], Schema]]:
    """Returns every block that the pipeline refers to, with the places where it may stand."""
    found: dict[str, tuple[list[str], Schema]] = {}

    def visit(prefix: str, block: Schema) -> None:
        for name, field in _mapping(block).get("properties", {}).items():
            for reference in _references(field):
                definition = definitions[reference]
                place = f"{prefix}{name}{_choice(field, definition)}"
                if reference in found:
                    found[reference][0].append(place)
                else:
                    found[reference] = ([place], definition)
                    visit(f"{prefix}{name}.", definition)

    visit("", schema)
    return found


def _references(field: Any) -> Iterator[str]:
    """Yields the definitions that a field may be, or may hold, each once."""
    names = re.findall(rf"'\$ref': '{re.escape(_REFS)}(\w+)'", repr(field))
    yield from dict.fromkeys(names)


def _choice(field: Schema, definition: Schema) -> str:
    """Tells one of several blocks of the same place by what is written there."""
    if len(list(_references(field))) == 1:
        return ""
    properties = definition.get("properties", {})
    constants = [
        f"{name}: {json.dumps(part['const']).strip(chr(34))}"
        for name, part in properties.items()
        if "const" in part
    ]
    return f": {{{(constants or [f'{next(iter(properties))}: …'])[0]}}}"


def _rows(schema: Schema, definitions: Schema) -> Iterator[dict[str, str]]:
    """Yields a block's own settings; those of a block in it have a section of their own."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        block = definitions.get(field.get("$ref", "").removeprefix(_REFS), {})
        kind = "mapping" if "oneOf" in field else type_text(field, definitions)
        named = [definitions[found].get("properties", {}) for found in _references(field)]
        if any({"name", "config"} <= properties.keys() for properties in named):
            kind = kind.replace("mapping", "component")
        yield {
            "name": name,
            "type": kind,
            "default": "required" if name in required else _default(field),
            "description": field.get("description") or block.get("description", ""),
        }


def _default(field: Schema) -> str:
    value = field.get("default")
    if isinstance(value, dict):
        return "as below"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def components_page(catalogue: Catalogue) -> str:
    """Returns the page of every component's settings."""
    parts = [
        "# Components and their settings",
        NOTE,
        "What `dynmm plugins info NAME` prints, for everything that comes with dynmm. Yours are"
        " printed by the same command. Names are those of YAML; every setting has its default where"
        " it is not given.",
    ]
    for kind in KINDS:
        parts.append(f"## {TITLES[kind]}")
        for component in _ours(catalogue, kind):
            spec = component.spec
            parts += [f"### {component.name}", f"{_text(spec.summary)}. {_needs(component)}"]
            settings = settings_of(catalogue.config_model(component))
            parts.append(_table(settings) if settings else "It has no settings.")
    return "\n\n".join(parts) + "\n"


def _ours(catalogue: Catalogue, kind: Kind) -> list[Component]:
    found = catalogue.components(kind)
    return sorted(
        (c for c in found if c.provider.distribution == DISTRIBUTION), key=lambda c: c.name
    )


def _needs(component: Component) -> str:
    spec = component.spec
    facts = [
        f"Slot `{spec.slot}`." if spec.slot else "",
        f"For {' and '.join(spec.modalities)}." if spec.modalities else "",
        f"Learns from {' and '.join(spec.needs)} too." if spec.needs else "",
        f"Extra `{spec.extra}`." if spec.extra else "",
    ]
    return " ".join(filter(None, facts))


def directory_page(catalogue: Catalogue, registry: Registry) -> str:
    """Returns the directory of plugins: the records of components, and what has none."""
    records = {
        (record.provides, record.name): record
        for record in registry.records("component")
        if isinstance(record, ComponentRecord)
    }
    parts = [
        "# Plugin directory",
        NOTE,
        "Components that a reviewed record of the registry describes, or that come with dynmm."
        " `dynmm registry show NAME` prints a record with its numbers. How yours is listed:"
        " [being found](plugins.md#being-found).",
    ]
    for kind in KINDS:
        installed = {component.name: component for component in _ours(catalogue, kind)}
        named = {name for provides, name in records if provides == kind}
        rows = [
            _entry(name, records.get((kind, name)), installed.get(name), _paper(registry, name))
            for name in sorted(installed.keys() | named)
        ]
        titles = ("name", "what it is", "install", "paper")
        parts += [f"## {TITLES[kind]}", _markdown(titles, rows)]
    return "\n\n".join(parts) + "\n"


def _paper(registry: Registry, name: str) -> Paper | None:
    """Returns what the records of data and weights of a component's name cite."""
    found = [registry.get(kind, name) for kind in ("dataset", "model")]
    return next((record.paper for record in found if record is not None), None)


def _entry(
    name: str, record: ComponentRecord | None, component: Component | None, paper: Paper | None
) -> tuple[str, ...]:
    if record is None:
        assert component is not None  # one of both is there
        what, where = component.spec.summary, _install(DISTRIBUTION, component)
    else:
        what, where = record.summary, _install(record.distribution, record)
        paper = record.paper
    return (f"`{name}`", _cell(what), where, "" if paper is None else _citation(paper))


def _install(distribution: str, found: ComponentRecord | Component) -> str:
    extra = found.spec.extra if isinstance(found, Component) else found.extra
    return f"`{distribution}[{extra}]`" if extra else f"`{distribution}`"


def _citation(paper: Paper) -> str:
    title = f"[{_cell(paper.title)}]({paper.url})" if paper.url else _cell(paper.title)
    names = [author.split()[-1] for author in paper.authors if author != "et al."]
    others = (
        f" and {names[1]}" if names[1:] and len(names) == len(paper.authors) == 2 else " et al."
    )
    others = others if paper.authors[1:] else ""
    return f"{names[0]}{others}: {title}, {_cell(paper.venue)}, {paper.year}"


def _table(rows: Iterable[Mapping[str, str]]) -> str:
    return _markdown(
        ("setting", "type", "default", "meaning"),
        [
            (
                f"`{row['name']}`",
                _cell(row["type"]),
                _code(row["default"]),
                _cell(row["description"]),
            )
            for row in rows
        ],
    )


def _code(default: str) -> str:
    if default in ("required", "as below"):
        return default
    if len(default) > LONGEST:
        return "as in the code"
    return f"`{_pipes(default)}`" if default.strip() else "empty"


def _markdown(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(titles)} |", "|" + "---|" * len(titles), *lines])


def _text(text: str) -> str:
    """Returns a docstring's reStructuredText as Markdown; of roles only their names stay."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    return " ".join(text.replace("``", "`").split())


def _cell(text: str) -> str:
    text = _pipes(_text(text))
    # Outside of code, brackets and asterisks are meant as they are.
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<\[])", r"\\\1", p) for p in parts)


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")


def pages() -> dict[str, Callable[[], str]]:
    """Returns what makes each generated page, by the name of its file."""
    catalogue = load_catalogue()
    registry = Registry.load(catalogue.record_folders())
    return {
        "pipeline.md": pipeline_page,
        "components.md": lambda: components_page(catalogue),
        "plugin-directory.md": lambda: directory_page(catalogue, registry),
    }


def main() -> None:
    """Writes every page."""
    for name, page in pages().items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
