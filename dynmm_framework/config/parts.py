"""Components that stand on other components, which their settings name.

A field of such a type names a component and may configure it::

    class LLMOnlyConfig(Block):
        llm: LanguageModelRef = LanguageModelRef(name="smollm2_135m")

It is written as a name or as ``{name: …, config: {…}}``. The named component's own settings are
checked with the rest of the pipeline, it is part of the stage's key, and
:meth:`dynmm_framework.protocols.Context.component` builds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, GetJsonSchemaHandler

from dynmm_framework.catalogue import Catalogue, describe
from dynmm_framework.config.blocks import ComponentRef
from dynmm_framework.config.validate import Finding, check
from dynmm_framework.config.yaml import KeyPath
from dynmm_framework.errors import PluginError
from dynmm_framework.specs import Component, Kind


class PartRef(ComponentRef):
    """Names a component that another one stands on; use the subclass of its kind."""

    kinds: ClassVar[tuple[Kind, ...]] = ()
    """The kinds of component that may be named."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> Any:
        reference = handler(core)
        body = handler.resolve_ref_schema(reference)
        whole = dict(body)
        name = {"type": "string", "minLength": 1}
        body.clear()
        body.update(
            {
                "anyOf": [name, whole],
                "description": whole.get("description", ""),
                "x-component": list(cls.kinds),
            }
        )
        return reference


class LanguageModelRef(PartRef):
    """Names a language model: ``smollm2_135m``, ``{name: hf_causal, config: {model: ./llm}}``."""

    kinds: ClassVar[tuple[Kind, ...]] = ("language_model",)


class BackboneRef(PartRef):
    """Names a backbone: ``sasrec``, or ``{name: sasrec, config: {hidden_size: 32}}``."""

    kinds: ClassVar[tuple[Kind, ...]] = ("backbone",)


class RecommenderRef(PartRef):
    """Names a baseline or a backbone: ``popularity``, or ``{name: …, config: {…}}``."""

    kinds: ClassVar[tuple[Kind, ...]] = ("baseline", "backbone")


class EncoderRef(PartRef):
    """Names an encoder: ``sentence_text``, or ``{name: …, config: {…}}``."""

    kinds: ClassVar[tuple[Kind, ...]] = ("encoder",)


@dataclass(frozen=True, slots=True)
class Part:
    """A component that another one stands on.

    Attributes:
        component: What is named.
        config: Its settings.
    """

    component: Component
    config: BaseModel


def references(value: Any, at: KeyPath = ()) -> Iterator[tuple[KeyPath, PartRef]]:
    """Yields path and content of every field in settings that names a part."""
    if isinstance(value, PartRef):
        yield at, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from references(getattr(value, name), (*at, field.alias or name))
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from references(child, (*at, key))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, child in enumerate(value):
            yield from references(child, (*at, index))


def find_part(ref: PartRef, catalogue: Catalogue) -> Part:
    """Looks up what a reference names.

    Raises:
        PluginError: If it is unknown or ambiguous.
        ValidationError: If its settings are wrong; not after :func:`complete_parts`.
    """
    component = catalogue.find(ref.kinds, ref.name)
    return Part(component, catalogue.config_model(component).model_validate(ref.config))


def parts_of(config: Any, catalogue: Catalogue) -> dict[str, Part]:
    """Returns the parts of a component by their dotted place in its settings, parts' parts too."""
    found: dict[str, Part] = {}
    for path, ref in references(config):
        place, part = ".".join(map(str, path)), find_part(ref, catalogue)
        found[place] = part
        for inner, deeper in parts_of(part.config, catalogue).items():
            found[f"{place}.{inner}"] = deeper
    return found


def complete_parts(
    config: BaseModel, raw: Any, catalogue: Catalogue, *, at: KeyPath
) -> tuple[BaseModel, list[Finding]]:
    """Checks the parts that settings name.

    Args:
        config: The settings of the component that stands on them.
        raw: The same as they were written, to tell a name alone from a block.
        catalogue: Where components are looked up.
        at: Path of the settings in their file.

    Returns:
        The settings with the parts' names as registered and their settings complete, and what is
        wrong with them.
    """
    findings: list[Finding] = []
    given = list(references(config))
    if not given:
        return config, findings
    data = config.model_dump(mode="json", by_alias=True, round_trip=True)
    for path, ref in given:
        place = (*at, *path)
        try:
            component = catalogue.find(ref.kinds, ref.name)
            model = catalogue.config_model(component)
        except PluginError as error:
            message = f"{error.message} ({error.hint})" if error.hint else error.message
            named = place if isinstance(_get(raw, path), str) else (*place, "name")
            findings.append(Finding(named, message))
            continue
        inner = (*place, "config")
        try:
            value, wrong = check(model, ref.config, at=inner)
        except Exception as error:
            value, wrong = (
                None,
                [Finding(inner, f"{model.__name__} fails on it: {describe(error)}")],
            )
        if value is not None:
            value, more = complete_parts(value, ref.config, catalogue, at=inner)
            wrong = [*wrong, *more]
            settings = value.model_dump(mode="json", by_alias=True, round_trip=True)
            _put(data, path, {"name": _spelling(ref, component, catalogue), "config": settings})
        findings += wrong
    return (config if findings else type(config).model_validate(data)), findings


def _spelling(ref: PartRef, component: Component, catalogue: Catalogue) -> str:
    """Returns the plain name of a component, or as it was written if that is ambiguous."""
    try:
        return (
            component.name if catalogue.find(ref.kinds, component.name) is component else ref.name
        )
    except PluginError:
        return ref.name


def _get(data: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _put(data: Any, path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        data = data[part]
    data[path[-1]] = value
