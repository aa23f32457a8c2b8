"""Numbers and foreign text as people read them."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"
"""Stands for a value that does not exist."""

_ACRONYMS = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "auc": "AUC", "uauc": "UAUC"}

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def printable(text: str) -> str:
    """Returns foreign text without the characters that could steer a terminal or a page."""
    if text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in _INVISIBLE
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def metric_title(name: str) -> str:
    """Returns a metric as it is written in papers: ``ndcg@10`` → ``NDCG@10``."""
    family, at, cutoff = name.partition("@")
    title = _ACRONYMS.get(family) or family.replace("_", " ").capitalize()
    return f"{title}{at}{cutoff}"


def stars(p: float | None) -> str:
    """Returns ``*`` for p < .05, ``**`` for p < .01, ``***`` for p < .001."""
    if p is None:
        return ""
    return "*" * sum(p < level for level in (0.05, 0.01, 0.001))


def number(value: float | None, *, signed: bool = False) -> str:
    """Returns a metric's value with four decimals, or four digits if it is large."""
    if value is None or value != value:
        return DASH
    sign = "+" if signed else ""
    return f"{value:{sign}.4f}" if abs(value) < 100 else f"{value:{sign}.4g}"


def p_value(value: float | None) -> str:
    """Returns a p-value: three decimals, or a power of ten where they would be zero."""
    if value is None or value != value:
        return DASH
    if value >= 0.001:
        return f"{value:.3f}"
    return f"{value:.0e}" if value >= 1e-300 else "<1e-300"


def interval(bounds: Sequence[float | None] | None, *, signed: bool = False) -> str:
    """Returns ``lo … hi``, or an empty string."""
    if not bounds or any(bound is None for bound in bounds):
        return ""
    return " … ".join(number(bound, signed=signed) for bound in bounds)


def duration(seconds: float | None) -> str:
    """Returns a duration such as ``420 ms``, ``3.4 s``, ``2 min 5 s``, ``1 h 4 min``."""
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: int | None) -> str:
    """Returns a size such as ``512 B``, ``3.4 MB``, ``1.2 GB`` (powers of 1,000)."""
    if n_bytes is None:
        return DASH
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def as_yaml(document: Mapping[str, Any]) -> str:
    """Returns plain data as YAML, keys in their order."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = None  # short lists and mappings on one line
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 100
    stream = io.StringIO()
    writer.dump(dict(document), stream)
    return stream.getvalue()
