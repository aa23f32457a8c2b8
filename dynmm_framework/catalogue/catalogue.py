"""The catalogue: lookup by name, import and construction of what plugins registered."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynmm_framework.catalogue import lookup
from dynmm_framework.catalogue.plugins import PluginHost, describe
from dynmm_framework.errors import ConfigError, DynmmError, PluginError, Problem
from dynmm_framework.hookspecs import ENTRY_POINT_GROUP
from dynmm_framework.specs import Component, Kind, MetricSpec, Provider, Slot, did_you_mean, fold

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

Hints = Callable[[str], str | None]

_PROTOCOLS: Mapping[Kind | Slot, tuple[str, ...]] = {
    "backbone": ("Backbone",),
    "encoder": ("ModalityEncoder", "FeatureReader"),
    "align": ("AlignAdapter",),
    "online": ("OnlineAdapter",),
    "prompt": ("PromptAdapter",),
    "evidence": ("EvidenceExtractor",),
    "baseline": ("Recommender",),
    "language_model": ("LanguageModel",),
    "dataset": ("DatasetReader",),
}
"""What a component of each kind is: one of these protocols."""


class Catalogue(PluginHost):
    """The components, metrics, records and hooks of the plugins that were registered.

    Args:
        strict: Raise when a plugin fails or deserves a warning, rather than list it.
        hints: Returns the command that installs an unknown component, if it is known; may be
            set later.
    """

    def __init__(self, *, strict: bool = False, hints: Hints | None = None) -> None:
        super().__init__(strict=strict)
        self.hints = hints

    def components(self, kind: Kind | None = None) -> tuple[Component, ...]:
        """Returns the components of one kind, or of all, by kind and name."""
        chosen = (c for c in self._components if kind in (None, c.kind))
        return tuple(sorted(chosen, key=lambda c: (c.kind, c.name, c.provider.distribution)))

    def metrics(self) -> tuple[tuple[MetricSpec, Provider], ...]:
        """Returns every metric family with its provider, by name."""
        return tuple(sorted(self._metrics, key=lambda m: (m[0].name, m[1].distribution)))

    def record_folders(self) -> tuple[Path, ...]:
        """Returns the folders of registry records, in the order of registration."""
        return tuple(self._folders)

    # Lookup.

    def find(
        self, kinds: Kind | Sequence[Kind], name: str, *, slot: Slot | None = None
    ) -> Component:
        """Looks a component up by name.

        Args:
            kinds: The kind, or several; if one distribution has the name in several, the first
                of these kinds that has it is meant.
            name: As in YAML: ``sasrec``, ``A-LLMRec``, ``acme/sasrec``.
            slot: For adapters, the slot that it must work in.

        Raises:
            PluginError: If there is no such component (names the closest, all there are, and the
                command that installs it, where known), or if two distributions provide it (names
                both and how to choose).
        """
        wanted: tuple[Kind, ...] = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        pool = [c for c in self._components if c.kind in wanted]
        found = lookup.matching(name, [(c.name, c.provider, c) for c in pool])
        noun = " or ".join(lookup.noun(kind) for kind in wanted)
        if slot is not None:
            wrong = next((c for c in found if c.spec.slot != slot), None)
            found = [c for c in found if c.spec.slot == slot]
            pool = [c for c in pool if c.spec.slot == slot]
            if wrong and not found:
                raise PluginError(
                    f"{noun} {name!r} works in the slot {wrong.spec.slot}, not {slot}",
                    hint=f"for {slot}: {lookup.listing((c.name, c.provider) for c in pool)}",
                )
        if not found:
            also = lookup.matching(name, [(c.name, c.provider, c.kind) for c in self._components])
            entries = [(c.name, c.provider) for c in pool]
            raise self._unknown(noun, name, entries, also=also[0] if also else None)
        lookup.refuse_ambiguous(noun, name, [c.provider for c in found])
        return min(found, key=lambda c: wanted.index(c.kind))

    def metric(self, name: str) -> MetricSpec:
        """Looks a metric family up by name, without cut-off: ``ndcg``, ``acme/ndcg``.

        Raises:
            PluginError: If it is unknown, or if two distributions provide it.
        """
        found = lookup.matching(name, [(m.name, p, (m, p)) for m, p in self._metrics])
        if not found:
            raise self._unknown("metric", name, [(m.name, p) for m, p in self._metrics])
        lookup.refuse_ambiguous("metric", name, [provider for _, provider in found])
        return found[0][0]

    def _unknown(
        self,
        noun: str,
        name: str,
        entries: Sequence[tuple[str, Provider]],
        *,
        also: Kind | None = None,
    ) -> PluginError:
        distribution, bare = lookup.split_name(name)
        elsewhere = lookup.listing((n, p) for n, p in entries if n == bare)
        if also:
            reason = f"; it is {lookup.with_article(lookup.noun(also))}"
        elif distribution and elsewhere != "none":
            reason = f"; did you mean {elsewhere}?"
        else:
            reason = did_you_mean(bare, [known for known, _ in entries])
        left_out = [p.name for p in self.plugins if p.status == "filtered"]
        hints = [f"{'loaded' if left_out else 'installed'}: {lookup.listing(entries)}"]
        install = self.hints(name) if self.hints else None
        if left_out:
            own = [plugin for plugin in left_out if fold(plugin) == bare]
            remedy = f"add {own[0]} to it" if own else "add the one that has it, or unset it"
            hints.append(
                f"DYNMM_PLUGINS leaves out {len(left_out)} installed plugins and all that they"
                f" provide, readers and metrics too: {remedy}"
            )
        elif install and not also:
            hints.append(f"to install it: {install}")
        lost = [p.name for p in self.plugins if p.status in ("failed", "incompatible")]
        if lost:
            hints.append(f"could not be loaded: {', '.join(lost)} (see dynmm plugins list)")
        return PluginError(f"unknown {noun} {name!r}{reason}", hint="; ".join(hints))

    # Loading.

    def config_model(self, component: Component) -> type[BaseModel]:
        """Imports the configuration model of a component; its module is light.

        Raises:
            PluginError: If it cannot be imported or is not a pydantic model.
        """
        from pydantic import BaseModel

        model = _load(component.spec.config, component)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise PluginError(
                f"{lookup.title(component)}: {component.spec.config} is not a pydantic model",
                hint=f"report this to the authors of {component.provider.distribution}",
            )
        return model

    def missing(self, component: Component) -> tuple[str, ...]:
        """Returns the imports that the component requires and that are not installed."""
        roots = dict.fromkeys(name.partition(".")[0] for name in component.spec.requires)
        return tuple(root for root in roots if importlib.util.find_spec(root) is None)

    def create(self, component: Component, config: Mapping[str, Any] | BaseModel) -> Any:
        """Imports a component and builds it.

        Args:
            component: What :meth:`find` returned.
            config: An instance of its configuration model, or the fields of one.

        Raises:
            ConfigError: If the configuration does not fit the component's model.
            PluginError: If a library is missing (names the command that installs it), or if the
                component cannot be imported or built, or lacks a method of its kind.
        """
        from pydantic import ValidationError

        model = self.config_model(component)
        if not isinstance(config, model):
            try:
                config = model.model_validate(config)
            except ValidationError as error:
                raise ConfigError(
                    Problem(issue["msg"], path=".".join(map(str, issue["loc"])))
                    for issue in error.errors(include_url=False)
                ) from error
        factory = _load(component.spec.target, component)
        try:
            instance = factory(config)
        except DynmmError:
            raise
        except Exception as error:
            raise _blame(component, error) from error
        protocols = _PROTOCOLS[component.spec.slot or component.kind]
        lacks = {name: _absent_methods(instance, name) for name in protocols}
        if all(lacks.values()):
            # The one that it comes closest to; the first if it has nothing of any.
            protocol = min(protocols, key=lambda name: len(lacks[name]) / len(_methods(name)))
            raise PluginError(
                f"{lookup.title(component)} is not a {protocol}: it lacks "
                f"{', '.join(lacks[protocol])}",
                hint=f"report this to the authors of {component.provider.distribution}",
            )
        return instance


def load_catalogue(
    *,
    only: Sequence[str] | None = None,
    strict: bool | None = None,
    entry_points: Iterable[EntryPoint] | None = None,
    hints: Hints | None = None,
) -> Catalogue:
    """Finds the installed plugins and registers them one by one.

    Args:
        only: Names of the plugins (entry points) to load; by default those of the environment
            variable ``DYNMM_PLUGINS`` (comma-separated, empty for none), and all if it is unset.
        strict: Whether a plugin that fails is an error; by default ``DYNMM_STRICT_PLUGINS``.
        entry_points: What to load in place of the installed plugins.
        hints: See :class:`Catalogue`.

    Raises:
        PluginError: If ``only`` names a plugin that is not installed or, when strict, if plugins
            fail or deserve a warning: all of them at once.
    """
    if only is None and "DYNMM_PLUGINS" in os.environ:
        only = [name for name in os.environ["DYNMM_PLUGINS"].split(",") if name.strip()]
    if strict is None:
        strict = os.environ.get("DYNMM_STRICT_PLUGINS", "") not in ("", "0")
    if entry_points is None:
        from importlib import metadata

        entry_points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    # Reading a distribution's name parses its metadata; all its entry points share one object.
    sources: dict[int, tuple[str, str]] = {}
    found = sorted(
        ((_provider(entry, sources), entry) for entry in entry_points),
        key=lambda pair: _order(pair[0]),
    )
    chosen = _chosen([provider for provider, _ in found], only)
    catalogue = Catalogue(hints=hints)
    for provider, entry in found:
        if provider in chosen:
            catalogue.admit(entry.load, provider)
        else:
            catalogue.leave_out(provider, reason="left out by DYNMM_PLUGINS")
    amiss = [str(status) for status in catalogue.plugins if status.amiss]
    if strict and amiss:
        hint = "unset DYNMM_STRICT_PLUGINS to go on without them"
        raise PluginError("\n".join(amiss), hint=hint)
    catalogue.strict = strict
    return catalogue


def _provider(entry: EntryPoint, sources: dict[int, tuple[str, str]]) -> Provider:
    source = getattr(entry, "dist", None)
    module = entry.value.partition(":")[0].strip()
    if source is None:
        return Provider("unknown", "0", entry.name, module)
    if id(source) not in sources:
        sources[id(source)] = (source.name, source.version)
    name, version = sources[id(source)]
    return Provider(name, version, entry.name, module)


def _order(provider: Provider) -> tuple[str, str]:
    return fold(provider.distribution), fold(provider.entry_point)


def _chosen(providers: Sequence[Provider], only: Sequence[str] | None) -> Sequence[Provider]:
    if only is None:
        return providers
    entries = [(fold(provider.entry_point), provider, provider) for provider in providers]
    chosen: list[Provider] = []
    for name in only:
        matching = lookup.matching(name, entries)
        if not matching:
            names = [provider.entry_point for provider in providers]
            raise PluginError(
                f"DYNMM_PLUGINS: there is no plugin {name.strip()!r}{did_you_mean(name, names)}",
                hint=f"installed: {', '.join(names) or 'none'}",
            )
        chosen += matching
    return chosen


def _load(dotted: str, owner: Component | MetricSpec) -> Any:
    module, _, attribute = dotted.partition(":")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:
        raise _blame(owner, error) from error


def _blame(owner: Component | MetricSpec, error: Exception) -> PluginError:
    """Returns the error to raise when an import or a constructor of a plugin failed."""
    if isinstance(owner, MetricSpec):
        return PluginError(f"metric {owner.name} cannot be loaded: {describe(error)}")
    missing = (error.name or "") if isinstance(error, ImportError) else ""
    root = missing.partition(".")[0]
    spec, distribution = owner.spec, owner.provider.distribution
    if root and root in {name.partition(".")[0] for name in spec.requires}:
        package = f"{distribution}[{spec.extra}]" if spec.extra else root
        return PluginError(
            f"{lookup.title(owner)} needs {root}, which is not installed",
            hint=f"pip install '{package}'",
        )
    return PluginError(
        f"{lookup.title(owner)} cannot be loaded: {describe(error)}",
        hint=f"the fault lies in {owner.provider}: update it, or report it to its authors",
    )


def _methods(protocol: str) -> set[str]:
    from dynmm_framework import protocols

    return {
        name
        for base in getattr(protocols, protocol).__mro__
        for name, value in vars(base).items()
        if not name.startswith("_") and inspect.isfunction(value)
    }


def _absent_methods(instance: object, protocol: str) -> list[str]:
    """Returns the methods of a protocol that an instance lacks, without running properties."""
    absent = object()
    methods = _methods(protocol)
    return sorted(n for n in methods if inspect.getattr_static(instance, n, absent) is absent)
