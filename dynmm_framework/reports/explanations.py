"""Explanations on a page: cards with sentences, evidence, and pictures where the data has them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynmm_framework.reports.text import DASH, number, p_value

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run

CARDS = 24
"""Most explanations on a page."""
SIDE = 120
"""Longest side of a picture, in pixels."""
PICTURE_BYTES = 600_000
"""Most bytes of all pictures of a page."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a sentence.

    Attributes:
        text: The words.
        kind: What they claim; empty for words that claim nothing.
        evidence: Ids of the records that they rest on.
    """

    text: str
    kind: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One explained recommendation.

    Attributes:
        user: The user.
        title: The item's title.
        rank: Its place in the user's list.
        pieces: The sentence, claims apart.
        evidence: Id, words, extractor and score of each record.
        fallback: Why the writer's own sentence gave way; empty if it did not.
        picture: The item's picture as a ``data:`` address; empty without one.
    """

    user: str
    title: str
    rank: int
    pieces: tuple[Piece, ...]
    evidence: tuple[tuple[str, str, str, str], ...]
    fallback: str = ""
    picture: str = ""


def cards(run: Run) -> tuple[Card, ...]:
    """Returns cards of a run's explanations, user by user; pictures as long as there is room."""
    chosen = run.explanations[:CARDS]
    if not chosen:
        return ()
    pictures = _pictures(run, [entry["item"] for entry in chosen])
    return tuple(
        Card(
            user=entry["user"],
            title=entry["title"],
            rank=entry["rank"],
            pieces=tuple(pieces_of(entry)),
            evidence=tuple(
                (r["id"], evidence_words(r), r["extractor"], f"{r['score']:.3f}")
                for r in entry["evidence"]
            ),
            fallback=entry["fallback"],
            picture=pictures.get(entry["item"], ""),
        )
        for entry in chosen
    )


def pieces_of(entry: Mapping[str, Any]) -> Iterator[Piece]:
    """Yields a stored sentence piece by piece."""
    sentence, place = entry["sentence"], 0
    for claim in sorted(entry["claims"], key=lambda claim: claim["start"]):
        if claim["start"] < place:
            continue
        if claim["start"] > place:
            yield Piece(sentence[place : claim["start"]])
        yield Piece(
            sentence[claim["start"] : claim["end"]], claim["kind"], ", ".join(claim["evidence"])
        )
        place = claim["end"]
    if place < len(sentence):
        yield Piece(sentence[place:])


def evidence_words(record: Mapping[str, Any]) -> str:
    """Returns a stored record of evidence in a few words."""
    kind, name, values = record["kind"], record["name"], record["values"]
    told = {
        key: f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
        for key, value in values.items()
    }
    if kind == "neighbour":
        return f"close to “{name}”{', which is in the history' if record['own'] else ''}"
    if kind == "attribute":
        of = f"the newest {record['of']:,}" if record["windowed"] else f"{record['of']:,}"
        counted = f", like {record['support']:,} of {of} in the history"
        group = record["group"].replace("_", " ") or "attribute"
        return f"{group}: {name}{counted if record['support'] else ''}"
    if kind in ("passage", "review"):
        text = record["passage"]
        where = "a review" if kind == "review" else f"the {record['source'] or 'text'}"
        return f"“{text[:160]}{'…' if len(text) > 160 else ''}” (from {where})"
    if kind == "cohort" and {"count", "users"} <= values.keys():
        who = f"who chose “{name}”" if name else "of similar taste"
        return f"{told['count']} of {told['users']} people {who} chose it"
    if kind == "trend" and "count" in values:
        when = f"in the last {told['days']} days" if "days" in values else "lately"
        if "of" in values:
            when = f"among the newest {told['of']} choices"
        before = f", {told['before']} before" if "before" in values else ""
        return f"{told['count']} people chose it {when}{before}"
    numbers = ", ".join(f"{key} {value}" for key, value in told.items())
    return f"{name or kind}: {numbers}"


def result_rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields what was measured of the explanations of one model seed, as it is read.

    Args:
        results: An entry of ``explanations`` of ``metrics.json``.
    """

    def share(value: float | None) -> str:
        return DASH if value is None else f"{value:.1%}"

    yield "explanations", f"{results['explanations']:,} for {results['users']:,} users"
    yield "written by", ", ".join(f"{who} {n:,}" for who, n in results["writers"].items())
    yield "forms", ", ".join(f"{form} {n:,}" for form, n in results["forms"].items())
    yield "rest on evidence", share(results["coverage"])
    hallucinated = results["hallucination"]
    yield (
        "say what the evidence does not, before checking",
        share(hallucinated["before_checking"]),
    )
    yield "after checking", share(hallucinated["after_checking"])
    yield "gave way to a template's sentence", share(results["fallbacks"]["rate"])
    if again := results["fallbacks"].get("asked_again"):
        yield "written when asked again, with one reason", f"{again:,}"
    for reason, count in list(results["fallbacks"]["reasons"].items())[:5]:
        yield f"… because it {reason}", f"{count:,}"
    consistency = results["consistency"]
    yield f"cites the same again ({consistency['varied']})", number(consistency["jaccard"])
    yield "different things among what is cited", share(results["diversity"]["distinct"])
    if results["evidence_ms"] is not None:
        yield "finding evidence, user and 20 candidates", f"{results['evidence_ms']:.2f} ms"
    if texts := results.get("texts"):
        of = f"{texts['texts']:,} texts by {texts['references_written_by']}"
        yield f"BLEU-4 ({of})", number(texts["bleu4"])
        yield f"ROUGE-L ({of})", number(texts["rouge_l"])


def faithfulness_rows(results: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yields what taking evidence away does, for recommended items and targets.

    Random is evidence of the user's other candidates, and then, the stricter, of the same item.
    """
    for of, found in _controls(results):
        for name in ("comprehensiveness", "sufficiency"):
            test = found["tests"][name]
            yield (
                f"{name}, {of}",
                number(found[name], signed=True),
                number(found[f"{name}_random"], signed=True),
                number(test["difference"], signed=True),
                p_value(test.get("t_p_holm", test["t_p"])),
                f"{test['n']:,}",
            )


def _controls(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields what was measured, by whose item it is and where random evidence comes from."""
    for of, found in (results.get("faithfulness") or {}).items():
        if not isinstance(found, Mapping):
            continue
        yield f"{of}, random of other items", found
        own = found.get("among_own", {})
        if own.get("pairs"):
            yield f"{of}, random of the same item", own


def _pictures(run: Run, items: Sequence[str]) -> dict[str, str]:
    """Returns small pictures of items as ``data:`` addresses, as many as there is room for."""
    found: dict[str, str] = {}
    left = PICTURE_BYTES
    for item, path in _files(run, items).items():
        address = thumbnail(path)
        if address and len(address) <= left:
            found[item] = address
            left -= len(address)
    return found


def _files(run: Run, items: Sequence[str]) -> dict[str, Path]:
    """Returns the image files of items: by the pipeline's pattern, or the item table's column."""
    from dynmm_framework.config.pipeline import Pipeline
    from dynmm_framework.errors import DynmmError
    from dynmm_framework.features.locate import locate_files

    wanted = list(dict.fromkeys(items))
    ref = Pipeline.model_validate(run.manifest.pipeline).encoders.vision
    paths: list[str | None] = [None] * len(wanted)
    try:
        if ref is not None and ref.media is not None:
            paths = list(locate_files(wanted, ref.media.pattern, folder=ref.media.folder))
        elif "image" in run.dataset.items.column_names:
            table = run.dataset.items
            images = dict(zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True))
            paths = [images.get(item) for item in wanted]
    except (DynmmError, OSError):
        return {}
    named = zip(wanted, paths, strict=True)
    return {item: Path(path) for item, path in named if path and Path(path).is_file()}


def thumbnail(path: Path) -> str:
    """Returns a small picture as a ``data:`` address; empty if it cannot be read."""
    try:
        from PIL import Image
    except ImportError:
        return ""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=70)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
