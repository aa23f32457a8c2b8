"""The records that a plugin hands over: strings only, so that reading them imports nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

Kind = Literal[
    "backbone", "encoder", "adapter", "evidence", "baseline", "language_model", "dataset"
]
"""The kinds of component. Each has its hook in :mod:`dynmm_framework.hookspecs`."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Slot = Literal["align", "online", "prompt"]
"""Where an adapter works; see :class:`dynmm_framework.protocols.Adapter`."""

SLOTS: tuple[Slot, ...] = get_args(Slot)

Modality = Literal["text", "vision", "audio"]
"""What content is made of; the blocks under ``encoders`` in a pipeline."""

MODALITIES: tuple[Modality, ...] = get_args(Modality)

Need = Literal["features", "reviews"]
"""What a recommender may ask for; see :class:`ComponentSpec`."""

PLUGIN_API = 1
"""Version of the hooks and protocols. A plugin module may declare ``DYNMM_PLUGIN_API``."""

_IDENTIFIER = r"[^\W\d]\w*"
_DOTTED = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}(\.{_IDENTIFIER})*")


def fold(name: str) -> str:
    """Folds a component's name: ``A-LLMRec`` and ``a_llmrec`` are the same component."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def closest(name: str, options: Iterable[str]) -> str:
    """Returns the option that ``name`` most likely means, or an empty string."""
    import difflib  # only on the way to an error message

    pool = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), pool, n=1, cutoff=0.6)
    return pool[found[0]] if found else ""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns ``; did you mean sasrec?`` to append to a message, or an empty string."""
    option = closest(name, options)
    return f"; did you mean {option}?" if option else ""


def split_metric(name: str) -> tuple[str, int | None]:
    """Splits ``ndcg@10`` into its family and cut-off, which is ``None`` for ``auc``.

    Raises:
        ValueError: If the cut-off is not a positive whole number; says so.
    """
    family, at, cutoff = name.partition("@")
    if not at:
        return family, None
    if not (cutoff.isascii() and cutoff.isdigit() and int(cutoff) >= 1):
        raise ValueError(f"the cut-off of {name!r} must be a positive whole number, as in ndcg@10")
    return family, int(cutoff)


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
        modalities: For encoders only: what it can encode, of ``text``, ``vision``, ``audio``.
        needs: What of the run it needs besides interactions: ``features`` for recommenders that
            learn from the encoders' vectors, ``reviews`` for what learns from the texts of the
            data's reviews.
    """

    name: str
    target: str
    config: str
    summary: str
    requires: tuple[str, ...] = ()
    extra: str = ""
    slot: Slot | None = None
    modalities: tuple[Modality, ...] = ()
    needs: tuple[Need, ...] = ()

    def faults(self, kind: Kind) -> list[str]:
        """Returns what is wrong with the record as one of ``kind``; nobody type-checks plugins."""
        faults = _text_faults(self, "name", "target", "config", "summary", "extra")
        if faults:
            return faults
        if not fold(self.name):
            faults.append(f"name {self.name!r} has no letter or digit")
        if "/" in self.name:
            faults.append(f"name {self.name!r} holds a slash, which separates the distribution")
        faults += [
            f"{key} {value!r} is not of the form package.module:Name"
            for key, value in (("target", self.target), ("config", self.config))
            if not _DOTTED.fullmatch(value)
        ]
        if isinstance(self.requires, str) or not all(isinstance(r, str) for r in self.requires):
            faults.append(f"requires must be a tuple of import names, not {self.requires!r}")
        if kind == "adapter" and self.slot not in SLOTS:
            faults.append(f"an adapter's slot must be one of {', '.join(SLOTS)}, not {self.slot!r}")
        if kind != "adapter" and self.slot is not None:
            faults.append(f"slot {self.slot!r} is for adapters only")
        if kind == "encoder" and (
            not self.modalities or any(name not in MODALITIES for name in self.modalities)
        ):
            known = ", ".join(MODALITIES)
            faults.append(f"an encoder's modalities are some of {known}, not {self.modalities!r}")
        if kind != "encoder" and self.modalities:
            faults.append(f"modalities {self.modalities!r} are for encoders only")
        if any(need not in get_args(Need) for need in self.needs):
            known = ", ".join(get_args(Need))
            faults.append(f"needs may only hold {known}, not {self.needs!r}")
        return faults


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

    def faults(self) -> list[str]:
        """Returns what is wrong with the record; nobody type-checks plugins."""
        faults = _text_faults(self, "name", "target", "summary")
        if faults:
            return faults
        if not self.name or fold(self.name) != self.name:
            faults.append(
                f"name {self.name!r} must be lower case, with digits and underscores only"
                " and no cut-off"
            )
        if not _DOTTED.fullmatch(self.target):
            faults.append(f"target {self.target!r} is not of the form package.module:name")
        faults += [
            f"{key} must be true or false, not {getattr(self, key)!r}"
            for key in ("higher_is_better", "at_cutoff", "per_user")
            if not isinstance(getattr(self, key), bool)
        ]
        return faults


def _text_faults(record: object, *keys: str) -> list[str]:
    values = ((key, getattr(record, key)) for key in keys)
    return [
        f"{key} must be text, not {value!r}; records carry strings, never classes"
        for key, value in values
        if not isinstance(value, str)
    ]


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
