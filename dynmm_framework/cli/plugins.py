"""``dynmm plugins``: what is installed, and what it can be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from dynmm_framework.cli import check
from dynmm_framework.cli.arguments import json_option
from dynmm_framework.cli.command import Group
from dynmm_framework.cli.invocation import Invocation, clipped

if TYPE_CHECKING:
    from pydantic import BaseModel

    from dynmm_framework.catalogue import Catalogue
    from dynmm_framework.specs import Component, MetricSpec, Provider

METRIC = "metric"


@click.group(
    cls=Group,
    examples=("dynmm plugins list", "dynmm plugins info sasrec", "dynmm plugins check sasrec"),
)
def command() -> None:
    """Lists and checks what is installed."""


command.add_command(check.command, "check")


@command.command(
    "list",
    examples=(
        "dynmm plugins list",
        "dynmm plugins list --kind backbone",
        "dynmm plugins list --json | jq '.[] | select(.status != \"ok\")'",
    ),
)
@click.option("--kind", metavar="KIND", help="Only this kind, such as backbone or metric.")
@json_option
@click.pass_obj
def list_plugins(invocation: Invocation, kind: str | None, as_json: bool) -> None:
    """Lists components, metrics and plugins that failed.

    A plugin that cannot be used is listed with its reason and does not disturb the others.
    """
    rows = list(_rows(invocation.catalogue))
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    if kind is not None:
        if kind not in (*_all_kinds(), METRIC):
            from dynmm_framework.specs import did_you_mean

            guess = did_you_mean(kind, kinds) or f"; there are {', '.join(kinds)}"
            raise click.UsageError(f"no such kind: {kind!r}{guess}")
        rows = [row for row in rows if row["kind"] == kind]
    if as_json:
        invocation.json(rows)
        return
    sources = list(dict.fromkeys(f"{row['distribution']} {row['version']}" for row in rows))
    several = len(sources) > 1
    invocation.table(
        ("kind", "name", *(("from",) if several else ()), "summary"),
        (
            (
                row["kind"],
                row["name"],
                *((clipped(f"{row['distribution']} {row['version']}"),) if several else ()),
                clipped(row["summary"])
                if row["status"] == "ok" and not row["reason"]
                else f"{row['status']}: {row['reason']}",
            )
            for row in rows
        ),
    )
    if len(sources) == 1:
        invocation.line(f"All from {sources[0]}.")


def _all_kinds() -> tuple[str, ...]:
    from dynmm_framework.specs import KINDS

    return KINDS


def _rows(catalogue: Catalogue) -> Iterator[dict[str, str]]:
    def row(kind: str, name: str, provider: Provider, **rest: str) -> dict[str, str]:
        return {
            "kind": kind,
            "name": name,
            "distribution": provider.distribution,
            "version": provider.version,
            "status": "ok",
            "reason": "",
            "summary": "",
            **rest,
        }

    for component in catalogue.components():
        missing = catalogue.missing(component)
        yield row(
            component.kind,
            component.name,
            component.provider,
            status="needs an extra" if missing else "ok",
            reason=f"not installed: {', '.join(missing)}" if missing else "",
            summary=component.spec.summary,
        )
    for spec, provider in catalogue.metrics():
        yield row(METRIC, spec.name, provider, summary=spec.summary)
    for plugin in catalogue.plugins:
        if plugin.status != "ok" or plugin.reason:
            yield row(
                "plugin", plugin.name, plugin.provider, status=plugin.status, reason=plugin.reason
            )


@command.command(
    "info",
    examples=(
        "dynmm plugins info sasrec",
        "dynmm plugins info acme/sasrec --kind backbone --json",
    ),
)
@click.argument("name")
@click.option("--kind", metavar="KIND", help="Which kind, if several have a component NAME.")
@json_option
@click.pass_obj
def info(invocation: Invocation, name: str, kind: str | None, as_json: bool) -> None:
    """Shows a component's settings: type, default, bounds and meaning."""
    found = _find(invocation.catalogue, name, kind)
    record = _describe(invocation.catalogue, found)
    if as_json:
        invocation.json(record)
        return
    invocation.line(f"{record['name']} ({record['kind']}): {record['summary']}")
    invocation.line(f"from {record['provider']}, {record['target']}")
    if record["requires"]:
        missing = f"; not installed: {', '.join(record['missing'])}" if record["missing"] else ""
        invocation.line(f"needs {', '.join(record['requires'])}{missing}")
    if record["settings"]:
        invocation.table(
            ("setting", "type", "default", "meaning"),
            (
                (field["name"], field["type"], field["default"], field["description"])
                for field in record["settings"]
            ),
        )
    elif record["kind"] != METRIC:
        invocation.line("It has no settings.")


def _find(catalogue: Catalogue, name: str, kind: str | None) -> Component | MetricSpec:
    from dynmm_framework.errors import PluginError
    from dynmm_framework.specs import KINDS, closest, did_you_mean

    if kind is not None and kind not in (*KINDS, METRIC):
        raise click.UsageError(f"no such kind: {kind!r}; there are {', '.join((*KINDS, METRIC))}")
    metrics = {spec.name for spec, _ in catalogue.metrics()}
    if kind == METRIC or (kind is None and name in metrics):
        return catalogue.metric(name)
    kinds = [entry for entry in KINDS if kind in (None, entry)]
    try:
        return catalogue.find(kinds, name)
    except PluginError:
        if kind is None and closest(name, metrics) and not _known(catalogue, name):
            guess = did_you_mean(name, metrics)
            raise PluginError(f"no component or metric {name!r}{guess}") from None
        raise


def _known(catalogue: Catalogue, name: str) -> bool:
    from dynmm_framework.specs import closest

    return bool(closest(name, (component.name for component in catalogue.components())))


def _describe(catalogue: Catalogue, found: Component | MetricSpec) -> dict[str, Any]:
    from dynmm_framework.specs import Component

    if isinstance(found, Component):
        return {
            "name": found.name,
            "kind": found.kind,
            "summary": found.spec.summary,
            "provider": str(found.provider),
            "target": found.spec.target,
            "requires": found.spec.requires,
            "missing": catalogue.missing(found),
            "slot": found.spec.slot,
            "settings": settings_of(catalogue.config_model(found)),
        }
    provider = next(provider for spec, provider in catalogue.metrics() if spec is found)
    return {
        "name": found.name,
        "kind": METRIC,
        "summary": found.summary,
        "provider": str(provider),
        "target": found.target,
        "requires": (),
        "missing": (),
        "higher_is_better": found.higher_is_better,
        "at_cutoff": found.at_cutoff,
        "settings": [],
    }


def settings_of(model: type[BaseModel]) -> list[dict[str, str]]:
    """Returns the fields of a settings model: name, type in words, default and meaning."""
    schema = model.model_json_schema()
    return list(_settings(schema, schema.get("$defs", {})))


def _settings(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str = ""
) -> Iterator[dict[str, str]]:
    """Yields the fields of a model; those of a nested block under a dotted name."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        inner = _block(field, definitions)
        yield {
            "name": f"{prefix}{name}",
            "type": type_text(field, definitions),
            "default": _default(field, inner, required=name in required),
            "description": " ".join(str(field.get("description", "")).split()),
        }
        if inner is not None:
            yield from _settings(inner, definitions, f"{prefix}{name}.")


def _block(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the schema of the nested block that a field holds, or may hold."""
    parts = [_resolved(part, definitions) for part in (field, *field.get("anyOf", ()))]
    return next((part for part in parts if part.get("properties")), None)


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = field.get("$ref", "")
    resolved: Mapping[str, Any] = definitions.get(reference.rpartition("/")[2], field)
    return resolved


def _default(field: Mapping[str, Any], block: object, *, required: bool) -> str:
    if required:
        return "required"
    value = field.get("default")
    if isinstance(value, dict) and value.keys() == {"name", "config"} and not value["config"]:
        value = value["name"]
    return "as below" if block is not None and value is not None else _text(value)


def _text(value: Any) -> str:
    """Returns a value as one would write it into YAML."""
    import json

    plain = isinstance(value, str) and "\n" not in value
    return value if plain else json.dumps(value, ensure_ascii=False)


_BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}
_TYPES = {"boolean": "true or false", "string": "text", "object": "mapping", "array": "list"}


def type_text(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Returns a JSON schema's type in words, bounds included: ``integer ≥ 1``."""
    field = _resolved(field, definitions)
    if "x-component" in field:
        kinds = " or ".join(kind.replace("_", " ") for kind in field["x-component"])
        return f"name of a {kinds}, or {{name, config}}"
    if "const" in field:
        return _text(field["const"])
    if "enum" in field:
        return " | ".join(_text(value) for value in field["enum"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            parts = [type_text(part, definitions) for part in field[union]]
            return " | ".join(dict.fromkeys(parts))
    kind = field.get("type", "anything")
    if kind == "array":
        items = field.get("items")
        if not isinstance(items, Mapping):
            return "list"
        inner = type_text(items, definitions)
        return f"list of ({inner})" if " | " in inner else f"list of {inner}"
    bounds = [
        f"{sign} {field[key]:{'d' if isinstance(field[key], int) else 'g'}}"
        for key, sign in _BOUNDS.items()
        if key in field
    ]
    if "minLength" in field:
        bounds.append(f"of {field['minLength']}+ characters")
    return " ".join([_TYPES.get(kind, kind), ", ".join(bounds)]).strip()
