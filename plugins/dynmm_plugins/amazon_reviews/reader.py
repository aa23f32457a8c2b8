"""Amazon review dumps of 2014, 2018 and 2023, told apart by the names of their fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dynmm_framework.data.arrow import listed
from dynmm_framework.data.columns import Field
from dynmm_framework.data.files import files_in, folder_content, require_file
from dynmm_framework.data.jsonlines import first_objects, read_json_lines
from dynmm_framework.data.rows import Findings, build
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import Context
from dynmm_plugins.amazon_reviews.config import AmazonReviewsConfig
from dynmm_plugins.amazon_reviews.metadata import read_metadata

OLD = (
    Field(name="user", column="reviewerID", kind="id"),
    Field(name="item", column="asin", kind="id"),
    Field(name="rating", column="overall", kind="number"),
    Field(name="timestamp", column="unixReviewTime", kind="time"),
    Field(name="review", column="reviewText", kind="text", optional=True),
)
"""Fields of 2014 and 2018."""

REVIEW = "review"
"""Name of the field of texts, which are read on request only."""

_SUFFIX = re.compile(r"\.(json|jsonl)(\.gz)?$", re.IGNORECASE)
_METADATA = "meta_"
_HTML = (
    (r"</?[A-Za-z][^<>]{0,500}>", " "),
    ("&(?:quot|#34);", '"'),
    ("&(?:apos|#39|#x27);", "'"),
    ("&(?:nbsp|#160);", " "),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&amp;", "&"),
)
"""Tags and character references in reviews, which are too many to be taken one by one."""


class AmazonReviews:
    """Reads who reviewed which product when, with rating, and the products' metadata.

    Products have title, text (the description), categories, brand, price in dollars and the URL
    of their first picture. Character references and tags of HTML are taken out of titles and
    texts. Products of 2023 are told by ``parent_asin``, which joins variants of one product. With
    ``reviews``, the reviews' own texts are read too; the names of those who wrote them never are.

    Data: McAuley et al., Image-based Recommendations on Styles and Substitutes, SIGIR 2015 (2014);
    Ni et al., Justifying Recommendations using Distantly-Labeled Reviews, EMNLP 2019 (2018); Hou
    et al., Bridging Language and Items for Retrieval and Recommendation, 2024 (2023).
    """

    def __init__(self, config: AmazonReviewsConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        record, own = self.config.record, self.config.path
        path = Path(own or ".").expanduser() if record is None else ctx.fetch(record)
        metadata = self.config.metadata
        found = None
        entries = files_in(path)
        if entries is not None:
            path, found = _choose(path, entries)
        if metadata is not None:
            found = Path(metadata).expanduser()
        findings = Findings()
        with findings.collecting():
            require_file(path)
        if found is not None:
            with findings.collecting():
                require_file(found, setting="data.config.metadata")
        findings.raise_if_any()
        return [path] if found is None else [path, found]

    def read(self, ctx: Context) -> Dataset:
        reviews, *metadata = self.files(ctx)
        findings = Findings()
        interactions = items = None
        with findings.collecting():
            fields = _fields(reviews)
            wanted = [field for field in fields if self.config.reviews or field.name != REVIEW]
            interactions = read_json_lines(reviews, wanted, loose=True)
        for path in metadata:
            with findings.collecting():
                seen = None
                if interactions is not None and not self.config.keep_unseen_items:
                    seen = frozenset(pc.unique(interactions.column("item")).to_pylist())
                items = read_metadata(path, only=seen)
        findings.raise_if_any()
        assert isinstance(interactions, pa.Table)
        if self.config.reviews:
            interactions = _with_reviews(interactions, reviews)
        return build(
            _SUFFIX.sub("", reviews.name),
            interactions,
            items=items,
            keep_unseen_items=self.config.keep_unseen_items,
            ctx=ctx,
        )


def _choose(folder: Path, entries: Sequence[Path]) -> tuple[Path, Path | None]:
    """Returns the file of reviews of a folder, and the file of metadata that goes with it."""
    files = [path for path in entries if _SUFFIX.search(path.name)]
    metadata = [path for path in files if path.name.startswith(_METADATA)]
    reviews = [path for path in files if path not in metadata]
    if len(reviews) != 1:
        found = (
            f"there are several files of reviews in it: {listed(path.name for path in reviews)}"
            if reviews
            else f"there is no file of reviews in it. {folder_content(folder)}"
        )
        raise DataError(
            [Problem(found, file=str(folder))],
            hint="Set data.config.path to one file of reviews (*.json, *.jsonl, or either .gz).",
        )
    if len(metadata) > 1:
        category = _category(reviews[0])
        metadata = [path for path in metadata if _category(path) == category]
    return reviews[0], metadata[0] if len(metadata) == 1 else None


def _with_reviews(interactions: pa.Table, path: Path) -> pa.Table:
    """Returns the interactions with texts without HTML.

    Raises:
        DataError: If the file has no texts.
    """
    if REVIEW not in interactions.column_names:
        raise DataError(
            [Problem("the reviews have no text in 'reviewText' or 'text'", file=str(path))],
            hint="Set data.config.reviews to false, or use the dump that has the texts.",
        )
    place = interactions.column_names.index(REVIEW)
    texts = interactions.column(place)
    for pattern, instead in _HTML:
        texts = pc.replace_substring_regex(texts, pattern=pattern, replacement=instead)
    return interactions.set_column(place, REVIEW, texts)


def _category(path: Path) -> str:
    stem = _SUFFIX.sub("", path.name)
    return re.sub(r"^(meta_|reviews_)|_\d+$", "", stem).lower()


def _fields(path: Path) -> Sequence[Field]:
    """Returns the fields of the file's year.

    Raises:
        DataError: If the first objects have the fields of none.
    """
    records = first_objects(path, loose=True)
    keys = {key for record in records for key in record}
    if "reviewerID" in keys or not keys:
        return OLD
    if "user_id" in keys and keys & {"parent_asin", "asin"}:
        return (
            Field(name="user", column="user_id", kind="id"),
            Field(
                name="item",
                column="parent_asin" if "parent_asin" in keys else "asin",
                kind="id",
            ),
            Field(name="rating", column="rating", kind="number"),
            Field(name="timestamp", column="timestamp", kind="time", unit="ms"),
            Field(name="review", column="text", kind="text", optional=True),
        )
    raise DataError(
        [
            Problem(
                "these are no Amazon reviews: there is neither 'reviewerID' (2014, 2018) nor "
                f"'user_id' with 'parent_asin' or 'asin' (2023). The fields are: "
                f"{listed(sorted(keys))}",
                file=str(path),
                line=1,
            )
        ],
        hint="Metadata belong into data.config.metadata; other JSON lines are read by "
        "interaction_file.",
    )
