"""Re-checks every claim of a run's stored explanations against the stored evidence.

    python examples/audit_explanations.py runs/movielens_explained-1a2b3c4d

It reads nothing but ``explanations.parquet`` and ``data/items.parquet`` of the run's folder, and
none of the framework: what a record does not hold literally is unsupported here. Exits with 1 if
any claim is.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_COUNTED = "two three four five six seven eight nine ten eleven twelve"
DENIAL = re.compile(r"\b(?:not|no|none|never|nobody|nothing|neither|nor|\w+n['’]t)\b", re.I)
PAIR = re.compile(r"(\d[\d,]*) (?:out )?of (?:the |your )?(?:last |newest )?(\d[\d,]*)")
SPELT = {word: float(value) for value, word in enumerate(_COUNTED.split(), start=2)}


def words(text: str) -> str:
    """Returns a text's letters and digits, word by word, without case and accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(char for char in plain if not unicodedata.combining(char))
    return " ".join(re.findall(r"[^\W_]+", kept))


def same_title(shown: str, title: str) -> bool:
    """Tells whether a title is shown: with its year or none, wherever its article stands."""
    year = r"\(\d{4}\)\s*$"
    cut = shown.endswith("…")
    shown_words = sorted(words(shown.rstrip("…")).split())
    for form in (title, re.sub(year, "", title)):
        known = sorted(words(form).split())
        if shown_words == known or (cut and set(shown_words) <= set(known)):
            return True
    return False


def numbers(record: Mapping[str, Any]) -> list[float]:
    """Returns every number that a record holds."""
    counted = [record["support"], record["of"]] if record["support"] else []
    # How many items of the catalogue have an attribute is no number that is ever told, nor is how
    # much noise is on one.
    told = [value for name, value in record["values"].items() if name not in ("items", "epsilon")]
    return [float(value) for value in [*told, *counted]]


def holds(claim: Mapping[str, Any], record: Mapping[str, Any], titles: Mapping[str, str]) -> bool:
    """Tells whether a record of evidence holds a claim, word for word."""
    text = claim["text"]
    if claim["kind"] == "title":
        return same_title(text, record["name"] or titles.get(record["item"] or "", ""))
    if claim["kind"] == "number":
        found = re.search(r"\d[\d,]*(?:\.\d+)?", text)
        value = float(found.group().replace(",", "")) if found else SPELT.get(text.casefold())
        known = numbers(record)
        if "%" in text or "percent" in text:
            known = [100 * number for number in known]
        # A number with decimals is held to the last of them.
        nearest = 0.5 * 10.0 ** -len(text.partition(".")[2].rstrip("% "))
        exact = [n for n in known if float(n).is_integer() and "." not in text]
        rounded = [n for n in known if not float(n).is_integer()]
        if value is None:
            return False
        return value in exact or any(abs(value - n) <= nearest for n in rounded)
    if claim["kind"] == "quotation":
        return says(record["passage"], text.rstrip("…"))
    name, wanted = f"{record['name']} {record['group']}", words(text)
    forms = (wanted, wanted.removesuffix("s"), re.sub("ies$", "y", wanted))
    # A hyphen may be a space: what is left of either is the same letters.
    alike = words(record["name"]).replace(" ", "") == wanted.replace(" ", "")
    return alike or any(says(name, form) for form in forms)


def says(text: str, part: str) -> bool:
    """Tells whether a text holds another as whole words."""
    wanted = words(part)
    return bool(wanted) and f" {wanted} " in f" {words(text)} "


def problems(row: Mapping[str, Any], titles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields every claim of an explanation that nothing bears out, and why."""
    records = {record["id"]: record for record in json.loads(row["evidence"])}
    for claim in json.loads(row["claims"]):
        text, shown = claim["text"], row["sentence"][claim["start"] : claim["end"]]
        if shown != text:
            yield text, f"is not what the sentence says there, which is {shown!r}"
        elif not claim["evidence"]:
            yield text, "rests on nothing"
        for name in claim["evidence"]:
            if name == "item":
                title = titles.get(row["item"], "")
                if not same_title(text, title) and not says(title, text):
                    yield text, "is not the item's title"
            elif name not in records:
                yield text, f"rests on {name}, which is not stored"
            elif not holds(claim, records[name], titles) and not any(
                holds(claim, records[other], titles)
                for other in claim["evidence"]
                if other in records
            ):
                yield text, f"is not in {name}"
    yield from unnamed(row)
    yield from unpaired(row, records.values())


def unpaired(
    row: Mapping[str, Any], records: Collection[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Yields what reads ``7 of your last 20`` and is so of no record that the sentence names."""
    for found in PAIR.finditer(row["sentence"]):
        pair = tuple(float(number.replace(",", "")) for number in found.groups())
        for record in records:
            values = record["values"]
            counted = pair == (record["support"], record["of"])
            if record["kind"] == "attribute":
                counted = counted and says(row["sentence"], record["name"])
            people = [(values.get("count"), values.get(of)) for of in ("users", "of")]
            if counted or pair in people:
                break
        else:
            claims = json.loads(row["claims"])  # a title or a quotation may read like that
            if not any(c["start"] < found.start() and found.end() < c["end"] for c in claims):
                yield found.group(), "is so of no record that the sentence names"


def unclaimed(row: Mapping[str, Any], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields titles of several words that a sentence names outside of every claim."""
    sentence, claims = row["sentence"], json.loads(row["claims"])
    places = [m.span() for m in re.finditer(r"\w+(?:['’.&-]\w+)*", sentence)]
    for first, (start, _) in enumerate(places):
        for _, end in places[first + 1 : first + 8] if sentence[start].isupper() else ():
            text = sentence[start:end]
            if words(text) not in known or re.search(r"[“”\"(),;]", text):
                continue
            if not any(claim["start"] <= start and end <= claim["end"] for claim in claims):
                yield text, "is a title, and claimed nowhere"


def unnamed(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields numbers, quotations and negations of a sentence that stand outside of every claim."""
    claims = [(claim["start"], claim["end"]) for claim in json.loads(row["claims"])]
    for found in re.finditer(r"\d[\d,.]*|“[^”]+”", row["sentence"]):
        start, end = found.span()
        if not any(start < until and since < end for since, until in claims):
            yield found.group(), "is said and claimed nowhere"
    for found in DENIAL.finditer(row["sentence"]) if claims else ():
        start, end = found.span()
        if not any(start < until and since < end for since, until in claims):
            yield found.group(), "denies what is claimed"


def table(path: Path) -> pa.Table:
    """Reads a table, or says that it cannot be read."""
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        sys.exit(f"{path} cannot be read, so nothing was checked: {error}")


def audit(folder: Path) -> int:
    """Prints what was checked, and returns the number of unsupported claims."""
    if not (folder / "explanations.parquet").is_file():
        sys.exit(f"{folder} has no explanations.parquet: name the folder of a run with explain")
    rows = table(folder / "explanations.parquet").to_pylist()
    items = table(folder / "data" / "items.parquet")
    given = items["title"].to_pylist() if "title" in items.column_names else [None] * len(items)
    titles = {
        item: title or f"item {item}"
        for item, title in zip(items["id"].to_pylist(), given, strict=True)
    }
    kinds = Counter(claim["kind"] for row in rows for claim in json.loads(row["claims"]))
    years = re.compile(r"\s*\(\d{4}\)\s*$")
    forms = (form for title in titles.values() for form in (title, years.sub("", title)))
    known = {name for name in map(words, forms) if " " in name}
    wrong = [
        (row, *found) for row in rows for found in (*problems(row, titles), *unclaimed(row, known))
    ]
    for row, text, reason in wrong[:20]:
        print(f"user {row['user']}, item {row['item']}: {text!r} {reason}")
    print(f"{len(rows):,} explanations of {len({row['user'] for row in rows}):,} users")
    print(f"{sum(kinds.values()):,} claims: {', '.join(f'{n:,} {k}' for k, n in kinds.items())}")
    print(f"{len(wrong):,} unsupported")
    return len(wrong)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/audit_explanations.py RUN_FOLDER")
    sys.exit(1 if audit(Path(sys.argv[1])) else 0)
