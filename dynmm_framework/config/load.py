"""From a YAML file to a checked pipeline, with every problem reported at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dynmm_framework.catalogue import Catalogue, describe, load_catalogue
from dynmm_framework.config.choices import Choice, component_blocks
from dynmm_framework.config.content import Role, controlled
from dynmm_framework.config.merge import Settings, dotted, extend, override
from dynmm_framework.config.parts import Part, complete_parts, parts_of
from dynmm_framework.config.pipeline import DEFAULT_METRICS, Pipeline
from dynmm_framework.config.search import Dimension, SearchBlock
from dynmm_framework.config.space import check_search
from dynmm_framework.config.validate import Finding, check, field_names, given
from dynmm_framework.config.yaml import KeyPath, read
from dynmm_framework.errors import ConfigError, PluginError, Problem
from dynmm_framework.specs import Component, MetricSpec, closest, fold, split_metric

MAX_CHAIN = 5
MAX_CUTOFF = 1000


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A checked pipeline and the components that it names.

    Attributes:
        pipeline: The pipeline; names are as in the catalogue and every ``config`` is complete.
        source: The file, as the user named it; empty for a mapping.
        name: The file's name without ``.yaml`` or ``.pipeline.yaml``, or ``pipeline``.
        components: The dataset under ``data``, encoders under ``encoders/text`` and so on,
            extractors under ``evidence/cf_neighbours`` and so on, and each recommender under its
            label.
        configs: Validated configurations, under the same labels.
        metrics: The metric families to evaluate.
        catalogue: The catalogue that was searched.
        overrides: Settings changed on top of the source, as given.
        space: What its search varies, components' own spaces filled in.
        written: The settings as they were written: files merged, overrides applied, defaults not
            filled in.
    """

    pipeline: Pipeline
    source: str
    name: str
    components: Mapping[str, Component]
    configs: Mapping[str, BaseModel]
    metrics: tuple[MetricSpec, ...]
    catalogue: Catalogue
    overrides: tuple[str, ...] = ()
    space: Mapping[str, Dimension] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def without_search(self) -> LoadedPipeline:
        """Returns the same pipeline as one that nothing is searched for."""
        pipeline = self.pipeline.model_copy(update={"search": None})
        written = {key: value for key, value in self.written.items() if key != "search"}
        return replace(self, pipeline=pipeline, space={}, written=written)

    def role(self, label: str) -> Role:
        """Returns what a recommender is: it stands on itself, on the backbone, or on both."""
        return self.pipeline.roles[label]

    @property
    def backbone_label(self) -> str:
        """Label of the pipeline's own backbone.

        Raises:
            ValueError: If it has none.
        """
        found = self.pipeline.own("fit")
        if self.pipeline.backbone is None or found is None:
            raise ValueError("the pipeline has no backbone")
        return found

    @property
    def retrieval_label(self) -> str:
        """Label of what a prompt stands on: the alignment, or the backbone if there is none."""
        return self.pipeline.own("align") or self.backbone_label

    def parts(self, label: str) -> dict[str, Part]:
        """Returns the components that one stands on, by their place in its settings."""
        return parts_of(self.configs[label], self.catalogue)

    def needs_features(self, label: str) -> bool:
        """Tells whether a recommender, or a part of it, learns from the encoders' vectors."""
        parts = (part.component for part in self.parts(label).values())
        return any("features" in found.spec.needs for found in (self.components[label], *parts))

    def resolved(self) -> dict[str, Any]:
        """Returns the pipeline as plain data with every default filled in.

        Equal pipelines give equal data, however they are spelt, and loading the data again gives
        the same pipeline.
        """
        return self.pipeline.model_dump(mode="json")


def load_pipeline(
    source: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    catalogue: Catalogue | None = None,
) -> LoadedPipeline:
    """Reads and checks a pipeline without importing any component.

    Args:
        source: A YAML file, or the same as a mapping.
        overrides: Settings to change, such as ``backbone.config.hidden_size=128``.
        catalogue: Where components are looked up; the installed plugins by default.

    Raises:
        ConfigError: If the file or the pipeline is wrong: every problem, in order of line.
        PluginError: If ``DYNMM_PLUGINS`` or ``DYNMM_STRICT_PLUGINS`` forbid the catalogue.
    """
    if isinstance(source, Mapping):
        settings, problems = _from_mapping(source)
    else:
        settings, problems = _from_file(Path(source))
    if settings is None:
        raise ConfigError(problems)
    file = "" if isinstance(source, Mapping) else str(source)
    problems += override(settings, overrides)
    catalogue = load_catalogue() if catalogue is None else catalogue
    written = deepcopy(settings.data)
    checked = _Checked(settings, catalogue)
    problems += checked.problems()
    space, more = _check_search(settings, checked, problems)
    problems += more
    if problems or checked.pipeline is None:
        raise ConfigError(sorted(problems, key=lambda problem: _order(problem, file)))
    return LoadedPipeline(
        pipeline=checked.pipeline,
        source=file,
        name=Path(file).stem.removesuffix(".pipeline") if file else "pipeline",
        components=checked.labelled(checked.components),
        configs=checked.labelled(checked.configs),
        metrics=tuple(checked.metrics.values()),
        catalogue=catalogue,
        overrides=tuple(overrides),
        space=space,
        written=written,
    )


def _check_search(
    settings: Settings, checked: _Checked, problems: Sequence[Problem]
) -> tuple[Mapping[str, Dimension], list[Problem]]:
    """Checks the search, if there is one and the pipeline that it varies is right."""
    raw = settings.data.get("search")
    if not isinstance(raw, dict) or any(
        problem.path.partition(".")[0] != "search" for problem in problems
    ):
        return {}, []
    kept = ("space", "metric", "objectives", "mode")
    for tried in (raw, {key: raw[key] for key in kept if key in raw} if problems else raw):
        try:
            block = SearchBlock.model_validate(tried)
            break
        except ValueError:  # the envelope reports it; what varies can be checked all the same
            continue
    else:
        return {}, []

    def findings(changed: Settings) -> list[Finding]:
        trial = _Checked(changed, checked.catalogue)
        trial.problems()
        return trial.findings

    return check_search(settings, block, checked.catalogue, findings)


def _order(problem: Problem, file: str) -> tuple[bool, bool, str, int, str]:
    """Sorts by line: the named file first, then the files it extends, then overrides."""
    is_override = problem.file.startswith("override ")
    return is_override, problem.file != file, problem.file, problem.line, problem.path


# Reading.


def _from_file(path: Path, seen: tuple[str, ...] = ()) -> tuple[Settings | None, list[Problem]]:
    """Reads a file and what it extends; settings are ``None`` if it cannot be read at all."""
    file = str(path)
    document, problems = read(path, file=file)
    if document is None:
        return None, problems
    settings = Settings.of(document)
    return _extended(settings, problems, folder=path.parent, seen=(*seen, os.path.realpath(path)))


def _from_mapping(source: Mapping[str, Any]) -> tuple[Settings | None, list[Problem]]:
    problems: list[Problem] = []
    data = _plain(source, (), problems)
    return _extended(Settings(data), problems, folder=Path(), seen=())


def _extended(
    settings: Settings, problems: list[Problem], *, folder: Path, seen: tuple[str, ...]
) -> tuple[Settings | None, list[Problem]]:
    """Merges settings over those of the file that their ``extends`` names, if it does."""
    name = settings.data.pop("extends", None)
    if name is None:
        return settings, problems
    path = Path(os.path.normpath(folder / name)) if isinstance(name, str) and name else None
    if path is None:
        message = f"must be the path of one YAML file, not {given(name)}"
    elif os.path.realpath(path) in seen:
        message = f"{path} extends itself" + (" through the files between" if seen[1:] else "")
    elif len(seen) >= MAX_CHAIN:
        message = f"more than {MAX_CHAIN} files extend one another"
    else:
        base, more = _from_file(path, seen)
        if base is not None:
            return extend(base, settings), problems + more
        if more[0].line or more[0].path:
            return None, problems + more
        message = f"{more[0].file}: {more[0].message}"
    # Without its base a file lacks what it never had to hold, so nothing else is checked.
    return None, [*problems, settings.problem(("extends",), message)]


def _plain(value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    """Copies a mapping made in Python into what YAML could have held."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str)]
        problems += [Problem(f"the key {key!r} is not text", path=dotted(path)) for key in odd]
        items = [(key, child) for key, child in value.items() if isinstance(key, str)]
        return {key: _plain(child, (*path, key), problems) for key, child in items}
    if isinstance(value, list | tuple):
        return [_plain(child, (*path, index), problems) for index, child in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    message = f"must be plain data (text, number, list or mapping), not {given(value)}"
    problems.append(Problem(message, path=dotted(path)))
    return None


def _complete_ablations(data: dict[str, Any]) -> None:
    """Fills every ablation up with what the pipeline's own alignment or prompt has."""
    variants = data.get("ablation")
    if not isinstance(variants, list):
        return
    for variant in variants:
        if not isinstance(variant, dict) or not ({"align", "prompt"} & variant.keys()):
            continue
        role = "align" if variant.get("prompt") is None else "prompt"
        whole = data.get(role)
        if isinstance(whole, str):
            whole = {"name": whole}
        if not isinstance(whole, dict):
            continue
        change = variant.get(role) or {}
        if isinstance(change, str):
            change = {"name": change}
        own, config = whole.get("config") or {}, change.get("config") or {}
        if isinstance(own, dict) and isinstance(config, dict):
            name = change.get("name", whole.get("name"))
            kept = own if name == whole.get("name") else {}
            variant[role] = {**change, "name": name, "config": _merged(kept, config)}


def _merged(old: Any, new: Any) -> Any:
    """Merges settings deeply; where a nested component changes its name, its old settings go."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    if "name" in new and "name" in old and new["name"] != old["name"]:
        old = {key: value for key, value in old.items() if key != "config"}
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


# Checking.


class _Checked:
    """What checking raw settings against the envelope and the catalogue gives."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.components: dict[KeyPath, Component] = {}
        self.configs: dict[KeyPath, BaseModel] = {}
        self.metrics: dict[str, MetricSpec] = {}
        self.monitor = ""
        self.findings: list[Finding] = []
        self.pipeline: Pipeline | None = None

    def problems(self) -> list[Problem]:
        """Checks everything; afterwards, if nothing is wrong, ``pipeline`` is set."""
        _complete_ablations(self.settings.data)
        envelope, findings = check(Pipeline, self.settings.data)
        models = self._check_components()
        self.findings += [self._directed(finding, models) for finding in findings]
        self._check_metrics()
        if envelope is not None and not self.findings:
            self.pipeline = Pipeline.model_validate(self._canonical(envelope))
        return [
            Problem(f.message, file=place.file, line=place.line, path=dotted(f.path))
            for f in self.findings
            for place in [self.settings.place(f.anchor)]
        ]

    def _check_components(self) -> dict[KeyPath, type[BaseModel]]:
        models: dict[KeyPath, type[BaseModel]] = {}
        for path, choice, block in component_blocks(self.settings.data):
            settings = {"name": block} if isinstance(block, str) else block
            name = settings.get("name") if isinstance(settings, dict) else None
            if not isinstance(name, str) or not name:
                continue  # the envelope reports it
            named_at = path if isinstance(block, str) else (*path, "name")
            try:
                component = self.catalogue.find(choice.kinds, name, slot=choice.slot)
                models[path] = self.catalogue.config_model(component)
            except PluginError as error:
                if path[0] != "ablation" or name != self._own_name(path):  # it is told once
                    self._refuse(named_at, error)
                continue
            self.components[path] = component
            if choice.kinds == ("encoder",) and path[-1] not in component.spec.modalities:
                message = f"{component.name} encodes {', '.join(component.spec.modalities)}"
                self.findings.append(Finding(named_at, message + f", not {path[-1]}"))
            if "features" in component.spec.needs and not self.settings.data.get("encoders"):
                message = f"{component.name} learns from content and there is no encoders block"
                self.findings.append(Finding(named_at, message))
            config = settings.get("config", {})
            if isinstance(config, dict):
                self._check_config(models[path], config, (*path, "config"))
        self._refuse_same_ablations()
        return models

    def _own_name(self, path: KeyPath) -> Any:
        """Returns the name that the pipeline gives to what an ablation's block varies."""
        whole = self.settings.data.get(str(path[-1]))
        return whole.get("name") if isinstance(whole, dict) else whole

    def _refuse_same_ablations(self) -> None:
        for path, config in self.configs.items():
            role = path[-1:]
            if path[0] != "ablation" or self.components[path] is not self.components.get(role):
                continue
            if config == self.configs.get(role):
                message = f"changes nothing: these are the settings of the pipeline's own {role[0]}"
                self.findings.append(Finding(path[:-1], message))

    def _check_config(self, model: type[BaseModel], config: Any, path: KeyPath) -> None:
        try:
            value, findings = check(model, config, at=path)
        except Exception as error:
            message = f"{model.__name__} fails on it: {describe(error)}"
            findings, value = [Finding(path, message)], None
        self.findings += findings
        if value is not None:
            value, findings = complete_parts(value, config, self.catalogue, at=path)
            self.findings += findings
            self.configs[path[:-1]] = value

    def _directed(self, finding: Finding, models: Mapping[KeyPath, type[BaseModel]]) -> Finding:
        """Directs a component's setting that was written beside ``config`` into it."""
        block, key = finding.path[:-1], finding.path[-1] if finding.path else ""
        model = models.get(block)
        if finding.kind == "unknown" and model is not None:
            meant = closest(str(key), field_names(model))
            if meant == key or (meant and "did you mean" not in finding.message):
                message = f"unknown field; did you mean {dotted((*block, 'config', meant))}?"
                return Finding(finding.path, message, "unknown")
        return finding

    def _check_metrics(self) -> None:
        block = self.settings.data.get("evaluate")
        block = block if isinstance(block, dict) else {}
        names = block.get("metrics", list(DEFAULT_METRICS))
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str):
                self._check_metric(name, ("evaluate", "metrics", index))
        monitor = block.get("monitor", "ndcg@10")
        if isinstance(monitor, str):
            self._check_monitor(monitor, ("evaluate", "monitor"))

    def _check_metric(self, name: str, path: KeyPath) -> None:
        family, at, _ = name.partition("@")
        try:
            metric = self.catalogue.metric(family)
        except PluginError as error:
            self._refuse(path, error)
            return
        if at:
            message = f"cut-offs are listed in evaluate.at; write {family} in place of {name}"
            self.findings.append(Finding(path, message))
        elif metric not in self.metrics.values():
            self.metrics[self._canonical_metric(metric, family)] = metric

    def _check_monitor(self, name: str, path: KeyPath) -> None:
        try:
            family, cutoff = split_metric(name)
            metric = self.catalogue.metric(family)
        except PluginError as error:
            self._refuse(path, error)
            return
        except ValueError as error:
            self.findings.append(Finding(path, str(error)))
            return
        message = ""
        if metric.at_cutoff and cutoff is None:
            message = f"{metric.name} needs a cut-off, as in {metric.name}@10"
        elif not metric.at_cutoff and cutoff is not None:
            message = f"{metric.name} takes no cut-off; write {metric.name}"
        elif cutoff is not None and cutoff > MAX_CUTOFF:
            message = f"the cut-off must be at most {MAX_CUTOFF}, not {cutoff}"
        if message:
            self.findings.append(Finding(path, message))
        self.monitor = self._canonical_metric(metric, family)
        if cutoff is not None:
            self.monitor += f"@{cutoff}"

    def _refuse(self, path: KeyPath, error: PluginError) -> None:
        message = f"{error.message} ({error.hint})" if error.hint else error.message
        self.findings.append(Finding(path, message))

    def _canonical(self, envelope: Pipeline) -> dict[str, Any]:
        """Returns the pipeline's data with names as registered and configurations complete."""
        data = envelope.model_dump(mode="json")
        for path, choice, block in component_blocks(data):
            component = self.components[path]
            block["name"] = self._canonical_name(component, choice)
            block["config"] = self.configs[path].model_dump(
                mode="json", by_alias=True, round_trip=True
            )
        data["evaluate"]["metrics"] = list(self.metrics)
        data["evaluate"]["monitor"] = self.monitor
        return data

    def _canonical_name(self, component: Component, choice: Choice) -> str:
        """Returns the plain name of a component, with its distribution if it needs one."""
        try:
            plain = self.catalogue.find(choice.kinds, component.name, slot=choice.slot)
        except PluginError:
            plain = None
        if plain is component:
            return component.name
        return f"{fold(component.provider.distribution)}/{component.name}"

    def _canonical_metric(self, metric: MetricSpec, written: str) -> str:
        """Returns the plain name of a family, with its distribution if it needs one."""
        try:
            plain = self.catalogue.metric(metric.name)
        except PluginError:
            plain = None
        if plain is metric:
            return metric.name
        return f"{fold(written.rpartition('/')[0])}/{metric.name}"

    def labelled(self, by_path: Mapping[KeyPath, Any]) -> dict[str, Any]:
        """Re-keys what is known by path by the labels under which numbers appear."""
        assert self.pipeline is not None
        given = self.pipeline
        own = [("prompt",), ("align",), ("backbone",), ("baseline",)]
        first: list[KeyPath] = [path for path in own if getattr(given, path[0]) is not None]
        others = range(len(given.evaluate.compare_with))
        paths: list[KeyPath] = [*first, *(("evaluate", "compare_with", i) for i in others)]
        paths += [(controlled(control),) for control in given.controls]
        paths += [
            ("ablation", i, "align" if variant.prompt is None else "prompt")
            for i, variant in enumerate(given.ablation)
        ]
        labels = dict(zip(given.recommenders, paths, strict=True))
        encoders = {f"encoders/{name}": ("encoders", name) for name in given.encoders.given}
        evidence = {f"evidence/{name}": ("evidence", i) for i, name in enumerate(given.extractors)}
        everything = {"data": ("data",), **encoders, **evidence, **labels}
        if given.online is not None:
            everything["online"] = ("online",)
        if given.explain is not None and given.explain.llm is not None:
            everything["explain/llm"] = ("explain", "llm")
        return {label: by_path[path] for label, path in everything.items()}
