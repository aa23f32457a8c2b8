"""Names and providers: which entries a name means, and what to say when it is not exactly one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from dynmm_framework.errors import PluginError
from dynmm_framework.specs import Component, Kind, Provider, fold

T = TypeVar("T")


def matching(name: str, entries: Iterable[tuple[str, Provider, T]]) -> list[T]:
    """Returns the entries that ``name`` or ``distribution/name`` means."""
    distribution, bare = split_name(name)
    return [
        entry
        for known, provider, entry in entries
        if known == bare and distribution in ("", fold(provider.distribution))
    ]


def split_name(name: str) -> tuple[str, str]:
    """Splits ``acme/SASRec`` into folded distribution, empty if not given, and folded name."""
    distribution, _, bare = name.rpartition("/")
    return fold(distribution), fold(bare)


def refuse_ambiguous(noun: str, name: str, providers: Sequence[Provider]) -> None:
    """Raises if the entries that a name means come from several distributions.

    Raises:
        PluginError: Names all of them and how to choose.
    """
    by_distribution = {fold(provider.distribution): provider for provider in providers}
    if len(by_distribution) > 1:
        _, bare = split_name(name)
        distinct = [by_distribution[key] for key in sorted(by_distribution)]
        raise PluginError(
            f"{noun} {bare!r} is provided by {' and by '.join(str(p) for p in distinct)}",
            hint=f"write {' or '.join(f'{p.distribution}/{bare}' for p in distinct)}",
        )


def listing(entries: Iterable[tuple[str, Provider]]) -> str:
    """Lists names, with their distribution where the name alone is ambiguous."""
    by_name: dict[str, set[str]] = {}
    for name, provider in entries:
        by_name.setdefault(name, set()).add(provider.distribution)
    listed = [
        name if len(sources) == 1 else f"{source}/{name}"
        for name, sources in sorted(by_name.items())
        for source in sorted(sources)
    ]
    return ", ".join(listed) or "none"


def noun(kind: Kind) -> str:
    """Returns the word for a kind in a sentence."""
    return "evidence extractor" if kind == "evidence" else kind.replace("_", " ")


def with_article(word: str) -> str:
    """Returns ``an encoder``, ``a backbone``."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def title(component: Component) -> str:
    """Names a component in a sentence, with its distribution."""
    return f"{noun(component.kind)} {component.name} of {component.provider.distribution}"
