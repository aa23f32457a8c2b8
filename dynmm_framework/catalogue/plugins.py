"""The host of plugins: admits them one by one, collects their records, calls their hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

from dynmm_framework import hookspecs
from dynmm_framework.errors import DynmmError, PluginError
from dynmm_framework.specs import (
    PLUGIN_API,
    Component,
    ComponentSpec,
    Kind,
    MetricSpec,
    Provider,
    did_you_mean,
    fold,
)

if TYPE_CHECKING:
    import click

T = TypeVar("T")
Status = Literal["ok", "failed", "incompatible", "filtered"]

COMPONENT_HOOKS: Mapping[str, Kind] = {
    "dynmm_register_backbones": "backbone",
    "dynmm_register_encoders": "encoder",
    "dynmm_register_adapters": "adapter",
    "dynmm_register_evidence_extractors": "evidence",
    "dynmm_register_baselines": "baseline",
    "dynmm_register_language_models": "language_model",
    "dynmm_register_datasets": "dataset",
}

_HERE = Path(__file__).parent
_HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("dynmm_"))


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """How one plugin fared.

    Attributes:
        name: The entry point's name.
        provider: The distribution it came from.
        status: ``ok``; ``failed`` (it raised, or handed over a bad record); ``incompatible``
            (another API version, or a hook that does not exist); ``filtered`` (``DYNMM_PLUGINS``
            leaves it out, so it is not even imported).
        reason: Why it is not ``ok``; a warning if it is.
        hooks: Names of the hooks that it implements.
    """

    name: str
    provider: Provider
    status: Status
    reason: str = ""
    hooks: tuple[str, ...] = ()

    @property
    def amiss(self) -> bool:
        """Whether it failed, or deserves a warning."""
        return bool(self.reason) and self.status != "filtered"

    def __str__(self) -> str:
        return f"plugin {self.name} of {self.provider}: {self.reason or self.status}"


class _RefusedError(Exception):
    """Why a plugin is not admitted; never leaves this module."""

    def __init__(self, reason: str, *, status: Status = "failed") -> None:
        super().__init__(reason)
        self.status: Status = status


class PluginHost:
    """Keeps plugins apart from each other: what one raises is its own status and nobody else's.

    Args:
        strict: Raise when a plugin fails or deserves a warning, rather than list it.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._plugins: dict[str, PluginStatus] = {}
        self._components: list[Component] = []
        self._metrics: list[tuple[MetricSpec, Provider]] = []
        self._folders: list[Path] = []

    @property
    def plugins(self) -> tuple[PluginStatus, ...]:
        """Every plugin that was found, in the order of registration."""
        return tuple(self._plugins.values())

    def register(
        self, plugin: object, *, name: str, distribution: str = "local", version: str = "0"
    ) -> PluginStatus:
        """Admits a module, or an object with marked methods, as an installed plugin would be.

        Args:
            plugin: Bears functions marked with :data:`~dynmm_framework.hookspecs.hookimpl`.
            name: What an entry point would be called.
            distribution: What ``distribution/component`` refers to.
            version: Version of the distribution, for manifests.

        Returns:
            How the plugin fared. One that fails is listed with its reason, not raised.

        Raises:
            PluginError: If the catalogue is strict and the plugin fails or deserves a warning.
        """
        module = plugin.__name__ if inspect.ismodule(plugin) else type(plugin).__module__
        return self.admit(lambda: plugin, Provider(distribution, version, name, module))

    def admit(self, load: Callable[[], object], provider: Provider) -> PluginStatus:
        """Loads, connects and collects one plugin; whatever it raises becomes its status.

        Raises:
            PluginError: See :meth:`register`.
        """
        key = f"{len(self._plugins)}:{provider.distribution}/{provider.entry_point}"
        status: Status = "ok"
        hooks: tuple[str, ...] = ()
        try:
            plugin = load()
            self._connect(plugin, key)
            hooks = tuple(sorted(hook.name for hook in self._manager.get_hookcallers(plugin) or ()))
            absent = self._collect(key, provider)
            reason = "; ".join(filter(None, (absent, _unmarked(plugin))))
        except _RefusedError as error:
            status, reason = error.status, str(error)
        except (Exception, SystemExit) as error:
            status, reason = "failed", describe(error)
        if status != "ok" and self._manager.has_plugin(key):
            self._manager.unregister(name=key)
        return self._note(key, PluginStatus(provider.entry_point, provider, status, reason, hooks))

    def leave_out(self, provider: Provider, *, reason: str) -> None:
        """Lists a plugin that is not to be loaded."""
        status = PluginStatus(provider.entry_point, provider, "filtered", reason)
        self._note(f"{len(self._plugins)}:", status)

    def _note(self, key: str, status: PluginStatus) -> PluginStatus:
        self._plugins[key] = status
        if self.strict and status.amiss:
            raise PluginError(str(status))
        return status

    def _connect(self, plugin: object, key: str) -> None:
        version = getattr(plugin, "DYNMM_PLUGIN_API", PLUGIN_API)
        if version != PLUGIN_API:
            raise _RefusedError(
                f"it is written for plugin API {version!r} and this framework has {PLUGIN_API}; "
                "install versions that match",
                status="incompatible",
            )
        if any(plugin is known for _, known in self._manager.list_name_plugin()):
            raise _RefusedError("its module is already loaded as another plugin")
        try:
            self._manager.register(plugin, name=key)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            callers = self._manager.get_hookcallers(plugin) or ()
            unknown = [caller.name for caller in callers if not caller.has_spec()]
            reason = "; ".join(
                f"function {name} is marked with @hookimpl, and there is no such hook"
                + did_you_mean(name, _HOOKS)
                for name in unknown
            )
            reason = reason or " ".join(str(error).replace(f"{key!r} ", "").split())
            raise _RefusedError(reason, status="incompatible") from error
        for impl in self._impls(key=key):
            if impl.wrapper or impl.hookwrapper:
                reason = f"{impl.function.__name__} is a hook wrapper, which dynmm does not support"
                raise _RefusedError(reason, status="incompatible")

    def _impls(self, *hooks: str, key: str | None = None) -> Iterator[pluggy.HookImpl]:
        """Yields implementations in the order of calling: the last registered comes first."""
        for hook in hooks or _HOOKS:
            for impl in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
                if key is None or impl.plugin_name == key:
                    yield impl

    def _collect(self, key: str, provider: Provider) -> str:
        """Keeps what the plugin hands over: all of it, or nothing if one record is bad.

        Returns:
            A warning about folders of registry records that do not exist; they are skipped.
        """
        components: list[Component] = []
        faults: list[str] = []
        for hook, kind in COMPONENT_HOOKS.items():
            for spec in self._records(key, hook, ComponentSpec):
                faults += [f"{hook}: {spec.name!r}: {fault}" for fault in spec.faults(kind)]
                components.append(Component(kind, spec, provider))
        metrics = self._records(key, "dynmm_register_metrics", MetricSpec)
        for metric in metrics:
            faults += [f"dynmm_register_metrics: {metric.name!r}: {f}" for f in metric.faults()]
        folders = self._records(key, "dynmm_register_records", Path)
        faults = faults or self._repeated(provider, components, metrics)
        if faults:
            raise _RefusedError("; ".join(faults))
        self._components += components
        self._metrics += [(metric, provider) for metric in metrics]
        self._folders += [folder for folder in folders if folder.is_dir()]
        absent = [str(folder) for folder in folders if not folder.is_dir()]
        return f"no such folder of records: {', '.join(absent)}" if absent else ""

    def _repeated(
        self, provider: Provider, components: Iterable[Component], metrics: Iterable[MetricSpec]
    ) -> list[str]:
        """Finds names that one distribution has twice: no spelling could tell them apart."""
        home = fold(provider.distribution)
        mine = [c for c in self._components if fold(c.provider.distribution) == home]
        seen = {f"{c.kind} {c.name}" for c in mine}
        seen |= {f"metric {m.name}" for m, p in self._metrics if fold(p.distribution) == home}
        faults = []
        new = [f"{c.kind} {c.name}" for c in components] + [f"metric {m.name}" for m in metrics]
        for name in new:
            if name in seen:
                faults.append(f"{provider.distribution} registers the {name} twice")
            seen.add(name)
        return faults

    def _records(self, key: str, hook: str, record_type: type[T]) -> list[T]:
        for impl in self._impls(hook, key=key):
            try:
                result = call(impl, {})
                single = not isinstance(result, Iterable) or isinstance(result, str | Mapping)
                records = [] if result is None else [result] if single else list(result)
            except Exception as error:
                raise _RefusedError(f"{hook}: {describe(error)}") from error
            wrong = [record for record in records if single or not isinstance(record, record_type)]
            if wrong:
                expected = f"{hook} must return a list of {record_type.__name__}"
                raise _RefusedError(f"{expected}; it has {'' if single else 'one of '}{wrong[0]!r}")
            return records
        return []

    # Hooks that are called later.

    def notify(self, hook: str, **kwargs: Any) -> None:
        """Tells every observer; an exception in one is logged as a warning and goes no further."""
        for impl in self._impls(hook):
            try:
                call(impl, kwargs)
            except Exception as error:
                _warn(f"{hook} of plugin {self._name(impl)}: {describe(error)}")

    def first(self, hook: str, **kwargs: Any) -> Any | None:
        """Asks plugins in turn and returns the first result that is not ``None``.

        Raises:
            DynmmError: As raised by a plugin.
            PluginError: For any other exception; names the plugin.
        """
        for impl in self._impls(hook):
            try:
                result = call(impl, kwargs)
            except DynmmError:
                raise
            except Exception as error:
                message = f"{hook} of plugin {self._name(impl)}: {describe(error)}"
                raise PluginError(message) from error
            if result is not None:
                return result
        return None

    def add_commands(self, cli: click.Group) -> None:
        """Lets plugins add commands to the root group; none may replace another.

        The commands of a plugin that raises, or replaces one, are taken back; a warning and the
        plugin's reason say so.

        Raises:
            PluginError: If that happens and the catalogue is strict.
        """
        import click

        for impl in reversed(list(self._impls("dynmm_register_commands"))):
            before, taken = dict(cli.commands), set(cli.list_commands(click.Context(cli)))
            try:
                call(impl, {"cli": cli})
                changed = {n for n, command in cli.commands.items() if before.get(n) is not command}
                replaced = sorted(changed & taken | before.keys() - cli.commands.keys())
                reason = f"it may not replace the command {', '.join(replaced)}" if replaced else ""
            except (Exception, SystemExit) as error:
                reason = describe(error)
            if reason:
                cli.commands.clear()
                cli.commands.update(before)
                reason = f"its commands are left out: {reason}"
                _warn(f"plugin {self._name(impl)}: {reason}")
                status = self._plugins[impl.plugin_name]
                reasons = "; ".join(filter(None, (status.reason, reason)))
                self._note(impl.plugin_name, replace(status, reason=reasons))

    def _name(self, impl: pluggy.HookImpl) -> str:
        status = self._plugins[impl.plugin_name]
        return f"{status.name} of {status.provider}"


def call(impl: pluggy.HookImpl, kwargs: Mapping[str, Any]) -> Any:
    """Calls one implementation with the arguments that it declares."""
    return impl.function(*(kwargs[name] for name in impl.argnames))


def describe(error: BaseException) -> str:
    """Says what was raised and where: ``ValueError: too few (acme/plugin.py:12)``."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    if isinstance(error, SyntaxError):  # its text has the place
        return text
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.name[0] != "<" and file.parent != _HERE and "importlib" not in file.parts:
            place = f" ({file}:{trace.tb_lineno})"
        trace = trace.tb_next
    return text + place


def _warn(message: str) -> None:
    import logging  # not needed to print `dynmm --help`

    logging.getLogger("dynmm").warning("%s", message)


def _unmarked(plugin: object) -> str:
    """Returns a warning about functions that look like hooks and lack the marker."""
    names = [
        name
        for name, value in inspect.getmembers_static(plugin, inspect.isfunction)
        if name.startswith("dynmm_") and not _has_marker(value)
    ]
    are = "is" if len(names) == 1 else "are"
    return f"{', '.join(names)} {are} not marked with @hookimpl, so ignored" if names else ""


def _has_marker(function: object) -> bool:
    project = hookspecs.PROJECT
    return hasattr(function, f"{project}_impl") or hasattr(function, f"{project}_spec")
