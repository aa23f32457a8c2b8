"""A search's space: components' own spaces filled in, and every value checked before anything runs.

A value is checked as the pipeline would check it: the setting is changed and the whole is looked
at again. So a space can only name what a pipeline may hold, in the bounds that its fields have.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.choices import choice_at
from dynmm_framework.config.merge import Settings, assign, dotted
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.config.search import LATENCY, Dimension, SearchBlock
from dynmm_framework.config.validate import Finding, check, given
from dynmm_framework.config.yaml import KeyPath, read
from dynmm_framework.errors import PluginError, Problem
from dynmm_framework.specs import MetricSpec, did_you_mean, fold, split_metric

SPACE_FILE: Final = "search.yaml"
"""In a plugin's folder: the default spaces of its components, by name."""
OWNERS: Final = ("prompt", "align", "online", "backbone", "baseline")
"""Blocks whose components may bring a space."""
MEASURED: Final = ("version", "seed", "seeds", "data", "split", "evaluate", "tracking", "search")
"""Blocks that decide what is measured, or that compute nothing."""
SHOWN: Final = ("ablation", "controls", "robustness", "explain")
"""Blocks that say what else is shown of a recommender."""
STREAM_METRICS: Final = ("hit@5", "hit@10", "hit@20", "ndcg@5", "ndcg@10", "ndcg@20")
"""What the stages that meet a stream report."""
MOST_CONTEXTS: Final = 64

Space = Mapping[str, Dimension]
Check = Callable[[Settings], list[Finding]]


def check_search(
    settings: Settings, block: SearchBlock, catalogue: Catalogue, check_pipeline: Check
) -> tuple[Space, list[Problem]]:
    """Checks a search against the pipeline that it is in.

    Args:
        settings: The pipeline's settings, which are right apart from the search.
        block: The search.
        catalogue: Where components and metrics are looked up.
        check_pipeline: Returns what is wrong with settings.

    Returns:
        The space, components' own spaces filled in and conditions before what depends on them, and
        all problems.
    """
    checker = _SpaceCheck(settings, block, catalogue, check_pipeline)
    checker.metrics()
    checker.expand()
    checker.conditions()
    space = checker.ordered()
    for path in space:
        checker.values(path)
    return space, list(dict.fromkeys(checker.problems))


def default_space(catalogue: Catalogue, kinds: Any, name: str, slot: Any) -> Path | None:
    """Returns the file in which a component's plugin keeps default spaces, if it has one.

    Raises:
        PluginError: If there is no such component.
    """
    component = catalogue.find(kinds, name, slot=slot)
    module = component.spec.target.partition(":")[0]
    package = module.rpartition(".")[0] or module
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / SPACE_FILE
    return path if path.is_file() else None


class _SpaceCheck:
    def __init__(
        self, settings: Settings, block: SearchBlock, catalogue: Catalogue, check_pipeline: Check
    ) -> None:
        self.settings, self.block, self.catalogue = settings, block, catalogue
        self.check_pipeline = check_pipeline
        self.problems: list[Problem] = []
        self.space: dict[str, Dimension] = {}
        self.files: dict[str, tuple[Settings, KeyPath]] = {}
        data = {
            key: value
            for key, value in settings.data.items()
            if key not in ("search", "ablation", "controls", "robustness")
        }
        self.base = Settings(data)
        self.right: dict[str, bool] = {}

    # What decides.

    def metrics(self) -> None:
        evaluate = self.settings.data.get("evaluate")
        monitor = (evaluate if isinstance(evaluate, dict) else {}).get("monitor", "ndcg@10")
        names = self.block.names(monitor if isinstance(monitor, str) else "ndcg@10")
        stream = self.settings.data.get("online") is not None
        for index, name in enumerate(names):
            path: KeyPath = ("search", "objectives", index)
            if not self.block.objectives:
                path = ("search", "metric" if self.block.metric else "space")
            if name == LATENCY:
                if index == 0:
                    message = "comes after the metric that decides, such as [ndcg@10, latency]"
                    if not self.block.objectives:
                        message = "no metric: write objectives: [ndcg@10, latency]"
                    self.add(path, f"latency {message}")
                continue
            problem = self._metric(name, stream)
            if problem:
                self.add(path, problem)
            elif index == 0:
                self._mode(name)

    def _metric(self, name: str, stream: bool) -> str:
        try:
            family, k = split_metric(name)
            metric = self.catalogue.metric(family)
        except ValueError as error:
            return str(error)
        except PluginError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return f"no stage reports {name}: {error.message}{hint}"
        if metric.at_cutoff and k is None:
            return f"{metric.name} needs a cut-off, as in {metric.name}@10"
        if not metric.at_cutoff and k is not None:
            return f"{metric.name} takes no cut-off; write {metric.name}"
        if stream and name not in STREAM_METRICS:
            return f"no stage reports {name}: a stream has {', '.join(STREAM_METRICS)}"
        return ""

    def _mode(self, name: str) -> None:
        better = direction_of(self.catalogue.metric(split_metric(name)[0]))
        if self.block.mode not in (None, better):
            way = "higher" if better == "max" else "lower"
            message = f"{name} is better when it is {way}; write {better}, or leave it out"
            self.add(("search", "mode"), message)

    # The space.

    def expand(self) -> None:
        """Fills in the spaces that components bring; what is written goes before them."""
        space = self.block.space
        if space == "default":
            found = [self._brought(root, root, {}) for root in OWNERS if self._name(root)]
            if not any(found):
                names = ", ".join(filter(None, map(self._name, OWNERS)))
                message = f"{names} brings no default space; write one: {{path: values}}"
                self.add(("search", "space"), message)
            return
        for path, dimension in space.items():
            if dimension.default is None:
                self.space[path] = dimension
        for path, dimension in space.items():
            if dimension.default is not None:
                self._expand_block(path, dimension)

    def _expand_block(self, path: str, dimension: Dimension) -> None:
        at: KeyPath = ("search", "space", path)
        choice = choice_at(path.split("."))
        if choice is None or not choice.is_component or "*" in choice.path:
            message = "default is for a block that names a component, such as backbone"
            self.add(at, message)
            return
        names = self.space.get(f"{path}.name") or self.space.get(path)
        if names is None:
            if not self._name(path):
                self.add(at, f"names no field: there is no {path} in this pipeline")
            elif not self._brought(path, path, dimension.when):
                self.add(at, f"{self._name(path)} brings no default space; write one")
            return
        named = f"{path}.name"
        for name in names.choice or ():
            if isinstance(name, str) and not self._brought(
                path, path, {**dimension.when, named: name}, name
            ):
                self.add(at, f"{name} brings no default space; write one")

    def _brought(self, root: str, path: str, when: Mapping[str, Any], name: str = "") -> bool:
        """Adds the default space of a block's component; tells whether it brings one."""
        choice = choice_at(path.split("."))
        assert choice is not None  # the caller looked it up
        name = name or self._name(root)
        try:
            file = default_space(self.catalogue, choice.kinds, name, choice.slot)
        except PluginError:
            return True  # reported where it is named
        if file is None:
            return False
        document, problems = read(file)
        self.problems += problems
        key = fold(name.rsplit("/", 1)[-1])
        entries = document.data.get(key) if document is not None else None
        if document is None or not isinstance(entries, dict):
            return False
        source = Settings.of(document)
        for field, raw in entries.items():
            target = f"{path}.config.{field}"
            if target in self.space:
                continue
            dimension, findings = check(Dimension, raw, at=(key, field))
            self.problems += [source.problem(f.anchor, f.message) for f in findings]
            if dimension is not None:
                own = {f"{path}.config.{k}": v for k, v in dimension.when.items()}
                self.space[target] = dimension.model_copy(update={"when": {**when, **own}})
                self.files[target] = (source, (key, field))
        return True

    def _name(self, root: str) -> str:
        node: Any = self.settings.data
        for part in root.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        name = node.get("name") if isinstance(node, dict) else node
        return name if isinstance(name, str) else ""

    # Conditions.

    def conditions(self) -> None:
        for path, dimension in self.space.items():
            for named, wanted in dimension.when.items():
                other = self.space.get(named) or self.space.get(named.removesuffix(".name"))
                if other is None:
                    hint = did_you_mean(named, self.space)
                    message = f"when: {named} is not varied by this search{hint}"
                    self.add_at(path, ("when", named), message)
                elif other.values is None:
                    message = f"when: {named} has no values to count; make it a choice"
                    self.add_at(path, ("when", named), message)
                else:
                    for value in _listed(wanted):
                        if value not in other.values:
                            known = ", ".join(map(given, other.values))
                            message = f"when: {named} is never {given(value)}, but {known}"
                            self.add_at(path, ("when", named), message)

    def ordered(self) -> Space:
        """Returns the dimensions, names first and conditions before what depends on them."""
        rank = {path: (not path.endswith(".name"), i) for i, path in enumerate(self.space)}
        done: dict[str, Dimension] = {}
        todo = sorted(self.space, key=rank.__getitem__)
        while todo:
            ready = [p for p in todo if not (set(self.space[p].when) & set(todo))]
            if not ready:
                for path in todo:
                    self.add_at(path, ("when",), "conditions depend on one another in a circle")
                return done
            done |= {path: self.space[path] for path in ready[:1]}
            todo.remove(ready[0])
        return done

    # Values.

    def values(self, path: str) -> None:
        """Checks what one setting may be, wherever it may be so."""
        parts = path.split(".")
        root = parts[0]
        if not all(parts):
            self.add_at(path, (), "names no field: write it as backbone.config.dropout")
            return
        if root in MEASURED or root in SHOWN:
            message = "trials would not be measured alike; search over what is learned"
            if root not in ("data", "split", "seed", "seeds"):
                message = "names no setting of a recommender"
            self.add_at(path, (), message)
            return
        if root not in Pipeline.model_fields:
            hint = did_you_mean(root, Pipeline.model_fields)
            self.add_at(path, (), f"names no field: unknown block {root}{hint}")
            return
        named = root in self.space or f"{root}.name" in self.space
        if self.base.data.get(root) is None and not named:
            self.add_at(path, (), f"names no field: there is no {root} in this pipeline")
            return
        dimension = self.space[path]
        alone = not any(
            other != path and other.rpartition(".")[0] == path.rpartition(".")[0]
            for other in self.space
        )
        for context in itertools.islice(self._contexts(path), MOST_CONTEXTS):
            if not self._is_right(context):
                continue  # reported where these values are given
            for place, value in dimension.probes():
                if self._probe(path, place, value, context, alone=alone):
                    return  # the field is unknown, whatever the value

    def _contexts(self, path: str) -> Iterator[dict[str, Any]]:
        """Yields the values of other settings on which this one depends."""
        needed: dict[str, Sequence[Any]] = {}
        queue = [path]
        while queue:
            for named, wanted in self.space[queue.pop()].when.items():
                if named not in needed and named in self.space:
                    needed[named] = _listed(wanted)
                    queue.append(named)
        for other, dimension in self.space.items():
            block = other.removesuffix(".name")
            owns = other.endswith(".name") or choice_at(other.split(".")) is not None
            if owns and other not in needed and other != path and path.startswith(f"{block}."):
                needed[other] = dimension.choice or ()
        order = [name for name in self.space if name in needed]
        for values in itertools.product(*(needed[name] for name in order)):
            yield dict(zip(order, values, strict=True))

    def _is_right(self, context: Mapping[str, Any]) -> bool:
        key = repr(context)
        if key not in self.right:
            self.right[key] = not self._wrong(context)
        return self.right[key]

    def _wrong(self, values: Mapping[str, Any]) -> list[Finding]:
        settings = Settings(deepcopy(self.base.data))
        try:
            assign(settings, values)
        except ValueError as error:
            return [Finding(tuple(list(values)[-1].split(".")), str(error), "unknown")]
        return self.check_pipeline(settings)

    def _probe(
        self, path: str, place: KeyPath, value: Any, context: Mapping[str, Any], *, alone: bool
    ) -> bool:
        """Checks one value; true if the setting itself does not exist."""
        target = tuple(path.split("."))
        for finding in self._wrong({**context, path: value}):
            where = tuple(map(str, finding.path))
            own = where[: len(target)] == target or target[: len(where)] != where
            met = ", ".join(f"{name} is {given(value)}" for name, value in context.items())
            suffix = f" where {met}" if met else ""
            if finding.kind == "unknown" and target[: len(where)] == where:
                message = finding.message
                if suffix:
                    message = message.partition("; known:")[0] + "; limit it with when"
                self.add_at(path, (), f"names no field{suffix}: {message}")
                return True
            if own or alone:
                self.add_at(path, place, f"{finding.message}{suffix}")
            # Otherwise the values of several settings do not go together; a trial may be right.
        return False

    # Findings.

    def add(self, path: KeyPath, message: str) -> None:
        self.problems.append(self.settings.problem(path, message))

    def add_at(self, path: str, place: KeyPath, message: str) -> None:
        """Adds a problem of a dimension, in the file where it is written."""
        if path in self.files:
            source, prefix = self.files[path]
            problem = source.problem((*prefix, *place), message)
            self.problems.append(problem)
            return
        known = self.settings.places
        at: KeyPath = ("search", "space", path)
        if place and (*at, *place) not in known and (*at, place[-1]) in known:
            place = place[-1:]  # a list alone
        line = self.settings.place((*at, *place))
        dotted_path = dotted((*at, *place))
        self.problems.append(Problem(message, file=line.file, line=line.line, path=dotted_path))


def _listed(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, list) else [wanted]


def direction_of(metric: MetricSpec) -> str:
    """Returns ``max`` or ``min``, as the metric says itself."""
    return "max" if metric.higher_is_better else "min"


def holds(dimension: Dimension, values: Mapping[str, Any]) -> bool:
    """Tells whether a setting is varied where others have these values."""
    return all(
        name in values and values[name] in _listed(wanted)
        for name, wanted in dimension.when.items()
    )
