"""The records that a plugin hands over: strings only, so that reading them imports nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

Kind = Literal[
    "backbone", "encoder", "adapter", "evidence", "baseline", "language_model", "dataset"
]
"""The kinds of component. Each has its hook in :mod:`dynmm_framework.hookspecs`."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Slot = Literal["align", "online", "prompt"]
"""Where an adapter works; see :class:`dynmm_framework.protocols.Adapter`."""

PLUGIN_API = 1
"""Version of the hooks and protocols. A plugin module may declare ``DYNMM_PLUGIN_API``."""


def fold(name: str) -> str:
    """Folds a component's name: ``A-LLMRec`` and ``a_llmrec`` are the same component."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSpec:
    """Describes one component without importing it.

    Attributes:
        name: The name used in YAML; compared after :func:`fold`.
        target: ``package.module:Class``, called with its configuration: ``Class(config)``.
        config: ``package.module:Model``, a pydantic model; its module imports nothing heavy.
        summary: One line for listings, with the paper where there is one.
        requires: Import names that must be installed for ``target`` to load.
        extra: The extra of the providing distribution that installs ``requires``.
        slot: For adapters only: ``align``, ``online`` or ``prompt``.
    """

    name: str
    target: str
    config: str
    summary: str
    requires: tuple[str, ...] = ()
    extra: str = ""
    slot: Slot | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """Describes one metric without importing it.

    Attributes:
        name: Family name in lower case, without cut-off: ``ndcg``, ``mrr``.
        target: ``package.module:function``; see :class:`dynmm_framework.protocols.Metric`.
        higher_is_better: Direction of improvement; declared, never guessed.
        summary: One line for listings.
        at_cutoff: Whether the metric takes a cut-off, as in ``ndcg@10``.
        per_user: Whether the function returns one value per user (``True``) or one value for
            all lists together, such as coverage.
    """

    name: str
    target: str
    higher_is_better: bool
    summary: str
    at_cutoff: bool = True
    per_user: bool = True


@dataclass(frozen=True, slots=True)
class Provider:
    """Who registered a component: a distribution, its version and the entry point's name."""

    distribution: str
    version: str
    entry_point: str
    module: str = ""

    def __str__(self) -> str:
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True)
class Component:
    """A registered component: its kind, its record and its provider."""

    kind: Kind
    spec: ComponentSpec
    provider: Provider = field(compare=False)

    @property
    def name(self) -> str:
        return fold(self.spec.name)

    @property
    def identity(self) -> str:
        """``dist==version/name``, as written into manifests."""
        return f"{self.provider}/{self.name}"
