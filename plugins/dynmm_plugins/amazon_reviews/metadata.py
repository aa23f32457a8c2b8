"""Metadata of products, whose form changed from dump to dump and within them."""

from __future__ import annotations

import html
import re
from collections.abc import Set
from pathlib import Path
from typing import Any

import pyarrow as pa

from dynmm_framework.data.jsonlines import first_objects, parse_object
from dynmm_framework.data.rows import Findings, numbered_lines

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("brand", pa.string()),
        ("price", pa.float64()),
        ("image_url", pa.string()),
    ]
)

_ID = re.compile(r"""["'](?:parent_)?asin["']\s*:\s*["']([^"']*)["']""")
_INLINE_TAG = re.compile(r"</?(?:a|b|em|font|i|span|strong|u)(?:\s[^<>]{0,500})?>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{1,500}>")
_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)")
_SCRIPT = "getTime"
"""Found in what is no title but a script of the page, in the dump of 2018."""


def read_metadata(path: Path, *, only: Set[str] | None = None) -> pa.Table:
    """Reads the products of a file, the first entry of each.

    The files are of the size of the catalogue, irregular, and in 2014 not even JSON but literals
    of Python; so they are read line by line, those of products not asked for unparsed.

    Args:
        path: A file of metadata, plain or gzip.
        only: Products to read; ``None`` for all.

    Returns:
        A table of :data:`SCHEMA`.

    Raises:
        DataError: With every line that cannot be parsed or has no product id.
    """
    first_objects(path, loose=True)
    findings = Findings()
    rows: dict[str, dict[str, Any]] = {}
    for line, text in numbered_lines(path, findings=findings):
        if not text.strip() or _skip(text, only):
            continue
        try:
            record = parse_object(text, loose=True)
        except ValueError as error:
            findings.add(str(error), file=path, line=line)
            continue
        product = record.get("parent_asin") or record.get("asin")
        if not isinstance(product, str) or not product.strip():
            keys = ", ".join(list(record)[:10])
            findings.add(
                f"has no product id in 'parent_asin' or 'asin'; its fields are: {keys}",
                file=path,
                line=line,
            )
        elif product not in rows and (only is None or product in only):
            rows[product.strip()] = _row(product.strip(), record)
    findings.raise_if_any(hint="Download the file again, or repair the lines named.")
    return pa.Table.from_pylist(list(rows.values()), schema=SCHEMA)


def _skip(text: str, only: Set[str] | None) -> bool:
    """Whether a whole-looking line is about products that were not asked for."""
    if only is None or not text.rstrip().endswith("}"):
        return False
    found = _ID.findall(text)
    return bool(found) and not any(product in only for product in found)


def _row(product: str, record: dict[str, Any]) -> dict[str, Any]:
    title = _clean(record.get("title"))
    return {
        "id": product,
        "title": None if title and _SCRIPT in title else title,
        "text": _clean(record.get("description")),
        "categories": _categories(record),
        "brand": _clean(record.get("brand") or record.get("store")),
        "price": _price(record.get("price")),
        "image_url": _image(record),
    }


def _clean(value: Any) -> str | None:
    """Returns text, or the parts of a list joined, without HTML; ``None`` if there is none."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    text = _INLINE_TAG.sub("", html.unescape(value))
    return " ".join(_TAG.sub(" ", text).split()) or None


def _categories(record: dict[str, Any]) -> list[str] | None:
    """Returns the distinct categories, from general to special."""
    found = record.get("categories") or record.get("category")
    if not found:
        found = record.get("main_category") or record.get("main_cat")
    paths = found if isinstance(found, list) else [found]
    words = [word for path in paths for word in (path if isinstance(path, list) else [path])]
    cleaned = (_clean(word) for word in words)
    return list(dict.fromkeys(word for word in cleaned if word)) or None


def _price(value: Any) -> float | None:
    """Returns a price in dollars; ``None`` for none and for ranges."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1].replace(",", "")) if match else None


def _image(record: dict[str, Any]) -> str | None:
    """Returns the largest form of the first picture."""
    for key in ("imageURLHighRes", "imageURL", "image", "imUrl", "images"):
        value = record.get(key)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict):
            first = first.get("hi_res") or first.get("large") or first.get("thumb")
        if isinstance(first, str) and first:
            return first
    return None
