from __future__ import annotations

import sys

import pytest
from on_disk import GOOD, Site

from dynmm_framework.catalogue import Catalogue, PluginStatus, load_catalogue
from dynmm_framework.errors import PluginError
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec, MetricSpec

HEAD = """
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec, MetricSpec
from pathlib import Path
def spec(**changes):
    fields = dict(name="m", target="a.b:C", config="a.c:D", summary="s")
    return ComponentSpec(**{**fields, **changes})
def metric(**changes):
    fields = dict(name="m", target="a.b:c", higher_is_better=True, summary="s")
    return MetricSpec(**{**fields, **changes})
"""


def load_beside_good(site: Site, source: str) -> PluginStatus:
    """Loads a plugin beside a good one, which must survive it, and returns how it fared."""
    site.install("acme", {"suspect": source})
    site.install("other", {"good": GOOD})
    catalogue = load_catalogue(entry_points=site.entry_points)
    suspect, good = catalogue.plugins
    assert (good.name, good.status, good.reason) == ("good", "ok", "")
    assert catalogue.find("backbone", "good_model").provider.distribution == "other"
    if suspect.status != "ok":
        assert [c.provider.distribution for c in catalogue.components()] == ["other"]
        assert catalogue.metrics() == ()
    return suspect


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("from os import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        ("def broken(:\n    pass", "SyntaxError: "),
        ("raise ValueError('no\\ngood')", "ValueError: no good ("),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("assert False", "AssertionError ("),
        ("x = b'\\xff'.decode()", "UnicodeDecodeError: "),
    ],
)
def test_a_plugin_that_fails_on_import_is_named_and_isolated(
    site: Site, source: str, reason: str
) -> None:
    suspect = load_beside_good(site, source)
    assert suspect.status == "failed"
    assert suspect.reason.startswith(reason)
    assert "suspect_" in suspect.reason  # the file
    assert "importlib" not in suspect.reason
    assert str(suspect).startswith(f"plugin suspect of acme==1.0: {reason}")


def test_an_entry_point_without_its_module_is_a_failed_plugin(site: Site) -> None:
    modules = site.install("acme", {"gone": GOOD})
    (site.folder / f"{modules['gone']}.py").unlink()
    (status,) = load_catalogue(entry_points=site.entry_points).plugins
    assert status.status == "failed"
    assert status.reason == f"ModuleNotFoundError: No module named {modules['gone']!r}"


def test_an_interruption_is_not_swallowed(site: Site) -> None:
    site.install("acme", {"slow": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load_catalogue(entry_points=site.entry_points)


def test_a_good_plugin_is_listed_with_its_hooks_and_provider(site: Site) -> None:
    modules = site.install("Acme-Rec", {"good": GOOD}, version="2.1")
    catalogue = load_catalogue(entry_points=site.entry_points)
    (status,) = catalogue.plugins
    assert (status.status, status.reason) == ("ok", "")
    assert status.hooks == ("dynmm_register_backbones",)
    (component,) = catalogue.components("backbone")
    assert component.identity == "Acme-Rec==2.1/good_model"
    assert component.provider.entry_point == "good"
    assert component.provider.module == modules["good"]
    assert catalogue.components("dataset") == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "@hookimpl\ndef dynmm_register_backbone(): return []",
            "function dynmm_register_backbone is marked with @hookimpl, and there is no such "
            "hook; did you mean dynmm_register_backbones?",
        ),
        (
            "@hookimpl\ndef zzz(): return []",
            "function zzz is marked with @hookimpl, and there is no such hook",
        ),
        (
            "@hookimpl\ndef dynmm_run_started(run, pipelin): pass",
            "Argument(s) {'pipelin'} are declared in the hookimpl but can not be found",
        ),
        (
            "DYNMM_PLUGIN_API = 2",
            "it is written for plugin API 2 and this framework has 1; install versions that match",
        ),
        (
            "@hookimpl(wrapper=True)\ndef dynmm_register_backbones(): return (yield)",
            "dynmm_register_backbones is a hook wrapper, which dynmm does not support",
        ),
    ],
)
def test_an_incompatible_plugin_is_listed_with_its_reason(
    site: Site, body: str, reason: str
) -> None:
    suspect = load_beside_good(site, HEAD + body)
    assert suspect.status == "incompatible"
    assert reason in suspect.reason


def test_a_plugin_may_state_the_present_api_version(site: Site) -> None:
    assert load_beside_good(site, "DYNMM_PLUGIN_API = 1").status == "ok"


def test_a_misspelt_hook_does_not_condemn_later_plugins() -> None:
    class Misspelt:
        @hookimpl
        def dynmm_register_baseline(self) -> list[ComponentSpec]:
            return []

    catalogue = Catalogue()
    assert catalogue.register(Misspelt(), name="one").status == "incompatible"
    assert catalogue.register(Misspelt(), name="two").status == "incompatible"
    assert catalogue.register(object(), name="three").status == "ok"


def test_a_forgotten_marker_is_a_warning(site: Site) -> None:
    suspect = load_beside_good(site, HEAD + "def dynmm_register_backbones(): return [spec()]")
    assert suspect.status == "ok"
    assert suspect.reason == "dynmm_register_backbones is not marked with @hookimpl, so ignored"
    assert suspect.hooks == ()


def test_an_imported_hook_specification_is_not_a_forgotten_marker(site: Site) -> None:
    source = "from dynmm_framework.hookspecs import dynmm_register_backbones"
    assert load_beside_good(site, source).reason == ""


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("backbones", "spec()", "must return a list of ComponentSpec; it has ComponentSpec("),
        ("backbones", "3", "must return a list of ComponentSpec; it has 3"),
        ("backbones", "'sasrec'", "must return a list of ComponentSpec; it has 'sasrec'"),
        ("backbones", "{'a': spec()}", "must return a list of ComponentSpec; it has {"),
        ("backbones", "[spec(), 'x']", "must return a list of ComponentSpec; it has one of 'x'"),
        ("backbones", "[metric()]", "must return a list of ComponentSpec; it has one of Metric"),
        ("backbones", "1 / 0", "dynmm_register_backbones: ZeroDivisionError: division by zero ("),
        ("backbones", "(1 / 0 for _ in [1])", "dynmm_register_backbones: ZeroDivisionError"),
        ("backbones", "[spec(name='-')]", "'-': name '-' has no letter or digit"),
        ("backbones", "[spec(name='a/b')]", "name 'a/b' holds a slash"),
        ("backbones", "[spec(target='a.b.C')]", "target 'a.b.C' is not of the form package.mod"),
        ("backbones", "[spec(config='a b:C')]", "config 'a b:C' is not of the form package.mod"),
        ("backbones", "[spec(target=int)]", "target must be text, not <class 'int'>; records car"),
        ("backbones", "[spec(name=None)]", "name must be text, not None"),
        ("backbones", "[spec(requires='torch')]", "requires must be a tuple of import names, not"),
        ("backbones", "[spec(requires=(1,))]", "requires must be a tuple of import names, not"),
        ("backbones", "[spec(slot='align')]", "slot 'align' is for adapters only"),
        (
            "adapters",
            "[spec()]",
            "adapter's slot must be one of align, online, prompt, not None",
        ),
        ("adapters", "[spec(slot='x')]", "slot must be one of align, online, prompt, not 'x'"),
        ("metrics", "[spec()]", "must return a list of MetricSpec; it has one of ComponentSpec("),
        ("metrics", "[metric(name='NDCG')]", "name 'NDCG' must be lower case"),
        ("metrics", "[metric(name='ndcg@10')]", "name 'ndcg@10' must be lower case"),
        ("metrics", "[metric(target='x')]", "target 'x' is not of the form package.module:name"),
        ("metrics", "[metric(higher_is_better=1)]", "higher_is_better must be true or false"),
        ("records", "['/tmp']", "must return a list of Path; it has one of '/tmp'"),
        ("backbones", "[spec(), spec(name='M')]", "acme registers the backbone m twice"),
        ("metrics", "[metric(), metric()]", "acme registers the metric m twice"),
    ],
)
def test_a_bad_record_disables_its_plugin(site: Site, kind: str, answer: str, reason: str) -> None:
    body = f"@hookimpl\ndef dynmm_register_{kind}(): return {answer}"
    suspect = load_beside_good(site, HEAD + body)
    assert suspect.status == "failed"
    assert reason in suspect.reason


def test_all_bad_records_of_a_plugin_are_reported(site: Site) -> None:
    answer = "[spec(name='-'), spec(slot='align')]"
    body = f"@hookimpl\ndef dynmm_register_backbones(): return {answer}"
    reason = load_beside_good(site, HEAD + body).reason
    assert "has no letter" in reason
    assert "for adapters only" in reason


@pytest.mark.parametrize("answer", ["None", "[]", "()", "iter([])", "[spec()]", "iter([spec()])"])
def test_none_and_any_iterable_are_fine(site: Site, answer: str) -> None:
    body = f"@hookimpl\ndef dynmm_register_backbones(): return {answer}"
    assert load_beside_good(site, HEAD + body).status == "ok"


def test_each_kind_has_its_hook() -> None:
    from dynmm_framework import hookspecs
    from dynmm_framework.catalogue.plugins import COMPONENT_HOOKS
    from dynmm_framework.specs import KINDS

    assert sorted(COMPONENT_HOOKS.values()) == sorted(KINDS)
    assert all(hasattr(hookspecs, hook) for hook in COMPONENT_HOOKS)
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("dynmm_")]
    assert all(hook.__doc__ and "alled" in hook.__doc__ for hook in hooks)


def test_a_module_named_by_two_entry_points_is_loaded_once(site: Site) -> None:
    module = site.install("acme", {"first": GOOD})["first"]
    (entry,) = site.entry_points
    second = type(entry)("second", module, entry.group)
    statuses = load_catalogue(entry_points=[entry, second]).plugins
    assert [s.status for s in statuses] == ["ok", "failed"]
    assert statuses[1].reason == "its module is already loaded as another plugin"
    assert str(statuses[1].provider) == "unknown==0"


def test_one_distribution_cannot_register_a_name_twice(site: Site) -> None:
    site.install("acme", {"first": GOOD, "second": GOOD})
    catalogue = load_catalogue(entry_points=site.entry_points)
    assert [s.status for s in catalogue.plugins] == ["ok", "failed"]
    assert catalogue.plugins[1].reason == "acme registers the backbone good_model twice"
    assert catalogue.find("backbone", "good_model").provider.entry_point == "first"


# Which plugins are loaded.


def test_no_plugin_is_loaded_if_the_list_is_empty(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = site.install("acme", {"good": GOOD, "bad": "1 / 0"})
    monkeypatch.setenv("DYNMM_PLUGINS", "")
    monkeypatch.setenv("DYNMM_STRICT_PLUGINS", "1")
    catalogue = load_catalogue(entry_points=site.entry_points)
    assert {s.status for s in catalogue.plugins} == {"filtered"}
    assert {s.reason for s in catalogue.plugins} == {"left out by DYNMM_PLUGINS"}
    assert catalogue.components() == ()
    assert not set(modules.values()) & set(sys.modules)


@pytest.mark.parametrize("names", ["good", " Good ,", "acme/good", "good,fine"])
def test_some_plugins_are_loaded(site: Site, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    site.install("acme", {"good": GOOD, "bad": "1 / 0"})
    site.install("other", {"fine": ""})
    monkeypatch.setenv("DYNMM_PLUGINS", names)
    statuses = {s.name: s.status for s in load_catalogue(entry_points=site.entry_points).plugins}
    assert statuses["good"] == "ok"
    assert statuses["bad"] == "filtered"
    assert statuses["fine"] == ("ok" if "fine" in names else "filtered")


def test_the_argument_goes_before_the_environment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("acme", {"good": GOOD})
    monkeypatch.setenv("DYNMM_PLUGINS", "")
    (status,) = load_catalogue(only=["good"], entry_points=site.entry_points).plugins
    assert status.status == "ok"


def test_an_unknown_plugin_in_the_list_is_an_error(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("acme", {"good": GOOD, "fine": ""})
    monkeypatch.setenv("DYNMM_PLUGINS", "fine,goood")
    with pytest.raises(PluginError) as caught:
        load_catalogue(entry_points=site.entry_points)
    assert str(caught.value) == (
        "DYNMM_PLUGINS: there is no plugin 'goood'; did you mean good?\n  installed: fine, good"
    )


def test_strict_makes_failures_and_warnings_errors_all_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("acme", {"bad": "1 / 0", "good": GOOD, "odd": "DYNMM_PLUGIN_API = 9"})
    site.install("other", {"unmarked": "def dynmm_register_backbones(): pass"})
    monkeypatch.setenv("DYNMM_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError) as caught:
        load_catalogue(entry_points=site.entry_points)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "plugin bad of acme==1.0",
        "plugin odd of acme==1.0",
        "plugin unmarked of other==1.0",
        "  unset DYNMM_STRICT_PLUGINS to go on without them",
    ]
    assert len(load_catalogue(entry_points=site.entry_points, strict=False).plugins) == 4
    monkeypatch.setenv("DYNMM_STRICT_PLUGINS", "0")
    assert len(load_catalogue(entry_points=site.entry_points).plugins) == 4


def test_registering_by_hand_goes_the_same_way() -> None:
    class Plugin:
        @hookimpl
        def dynmm_register_metrics(self) -> list[MetricSpec]:
            return [
                MetricSpec(name="hit", target="a:b", higher_is_better=True, summary="s"),
            ]

    class Broken:
        @hookimpl
        def dynmm_register_metrics(self) -> list[MetricSpec]:
            raise RuntimeError("no")

    catalogue = Catalogue()
    assert catalogue.register(Plugin(), name="mine").status == "ok"
    assert catalogue.metric("hit").target == "a:b"
    ((_, provider),) = catalogue.metrics()
    assert str(provider) == "local==0"
    broken = catalogue.register(Broken(), name="broken", distribution="acme", version="3")
    assert broken.status == "failed"
    assert broken.reason.startswith("dynmm_register_metrics: RuntimeError: no (")
    with pytest.raises(PluginError, match="plugin broken of local==0: dynmm_register_metrics"):
        Catalogue(strict=True).register(Broken(), name="broken")
