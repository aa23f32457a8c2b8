"""KuaiRec: who watched which video for how long."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dynmm_framework.data.columns import Field
from dynmm_framework.data.delimited import Layout, read_delimited
from dynmm_framework.data.files import find_folder, open_bytes, require_file
from dynmm_framework.data.rows import Findings, build, distinct
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import Context
from dynmm_plugins.kuairec.config import KuaiRecConfig

CATEGORIES = "item_categories.csv"
CAPTIONS = "kuairec_caption_category.csv"
_SUBFOLDERS = ("data", "KuaiRec 2.0/data", "KuaiRec/data")
_NO_TEXT = {"", "UNKNOWN", "nan"}
_LEVELS = (-5, -3, -1)
"""Columns of the three names of categories, from the end: captions hold unquoted commas."""


class KuaiRec:
    """Reads views with time, and the watch ratio as rating.

    Videos have ``categories`` (the ids of ``feat``) and, if the captions are there, ``title`` (the
    words on the cover, or else the caption), ``text`` (the caption) and ``category_names``.

    Data: Gao et al., KuaiRec: A Fully-observed Dataset and Insights for Evaluating Recommender
    Systems, CIKM 2022.
    """

    def __init__(self, config: KuaiRecConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        matrix = f"{self.config.matrix}_matrix.csv"
        folder = find_folder(Path(self.config.path).expanduser(), (matrix,), subfolders=_SUBFOLDERS)
        extra = [name for name in (CATEGORIES, CAPTIONS) if (folder / name).exists()]
        findings = Findings()
        for name in (matrix, *extra):
            with findings.collecting():
                require_file(folder / name)
        findings.raise_if_any()
        return [folder / name for name in (matrix, *extra)]

    def read(self, ctx: Context) -> Dataset:
        matrix, *extra = self.files(ctx)
        files = {path.name: path for path in extra}
        findings = Findings()
        views = categories = captions = None
        with findings.collecting():
            views = self._views(matrix, ctx)
        if CATEGORIES in files:
            with findings.collecting():
                categories = _categories(files[CATEGORIES])
        if CAPTIONS in files:
            captions = _captions(files[CAPTIONS], ctx)
        findings.raise_if_any()
        assert views is not None
        items = categories
        if captions is not None:
            items = captions if items is None else _joined(items, captions)
        return build(
            f"kuairec_{self.config.matrix}",
            views,
            items=items,
            keep_unseen_items=self.config.keep_unseen_items,
            ctx=ctx,
        )

    def _views(self, path: Path, ctx: Context) -> pa.Table:
        dropping = self.config.undated == "drop"
        fields = [
            Field(name="user", column="user_id", kind="id"),
            Field(name="item", column="video_id", kind="id"),
            Field(name="timestamp", column="timestamp", kind="time", empty=dropping),
            Field(name="rating", column="watch_ratio", kind="number"),
        ]
        views = read_delimited(path, fields, layout=Layout())
        steps = [("without time are dropped", pc.is_valid(views.column("timestamp")))]
        if self.config.min_watch_ratio is not None:
            enough = pc.greater_equal(views.column("rating"), self.config.min_watch_ratio)
            reason = f"with a watch ratio below {self.config.min_watch_ratio:g} are dropped"
            steps.append((reason, enough))
        total = views.num_rows
        keep = None
        for reason, mask in steps:
            dropped = total - pc.sum(mask).as_py()
            if dropped:
                ctx.log(f"{path.name}: {dropped:,} of {total:,} views {reason}")
            keep = mask if keep is None else pc.and_(keep, mask)
        views = views.filter(keep)
        if not views.num_rows:
            raise DataError(
                [Problem(f"none of its {total:,} views is left", file=str(path))],
                hint="Lower data.config.min_watch_ratio.",
            )
        return views


def _categories(path: Path) -> pa.Table:
    fields = [
        Field(name="id", column="video_id", kind="id", unique=True),
        Field(name="feat", column="feat"),
    ]
    table = read_delimited(path, fields, layout=Layout())
    findings = Findings()
    form = pc.match_substring_regex(table.column("feat"), r"^\[\s*(\d+\s*(,\s*\d+\s*)*)?\]$")
    wrong = table.filter(pc.invert(pc.fill_null(form, True)))
    for video, feat in zip(wrong["id"].to_pylist(), wrong["feat"].to_pylist(), strict=True):
        findings.add(f"{feat!r} is not a list as in [27, 9]", file=path, path=f"video {video}")
    findings.raise_if_any()
    bare = pc.utf8_trim(table.column("feat"), characters="[] ")
    lists = pc.split_pattern_regex(pc.if_else(pc.equal(bare, ""), None, bare), r"\s*,\s*")
    return pa.table({"id": table.column("id"), "categories": lists})


def _captions(path: Path, ctx: Context) -> pa.Table:
    """Reads what can be read: the published file has broken lines among its captions."""
    rows: dict[str, tuple[str | None, str | None, list[str] | None]] = {}
    broken = 0
    for row in _caption_rows(path):
        video = row[0].strip() if row else ""
        if len(row) < 3 or not (video.isascii() and video.isdigit()):
            broken += bool(video)
        elif video not in rows:
            cover, caption = (_text(cell) for cell in row[1:3])
            names = [_text(row[level]) for level in _LEVELS] if len(row) >= 10 else []
            rows[video] = (cover or caption, caption, [name for name in names if name] or None)
    if broken:
        ctx.log(f"{path.name}: {broken:,} lines that begin with no video id are left out")
    return pa.table(
        {
            "id": pa.array(list(rows), pa.string()),
            "title": pa.array([title for title, _, _ in rows.values()], pa.string()),
            "text": pa.array([text for _, text, _ in rows.values()], pa.string()),
            "category_names": pa.array(
                [names for _, _, names in rows.values()], pa.list_(pa.string())
            ),
        }
    )


def _caption_rows(path: Path) -> Iterator[list[str]]:
    with open_bytes(path) as stream:
        lines = (raw.decode("utf-8", errors="replace").replace("\r", " ") for raw in stream)
        next(lines, None)
        for line in lines:
            try:
                yield next(csv.reader([line]), [])
            except csv.Error:
                yield line.split(",")


def _text(cell: str) -> str | None:
    words = " ".join(cell.split())
    return None if words in _NO_TEXT else words


def _joined(left: pa.Table, right: pa.Table) -> pa.Table:
    """Returns all videos of both tables, distinct, with the columns of both."""
    ids = pa.chunked_array([*left.column("id").chunks, *right.column("id").chunks])
    both = distinct(pa.table({"id": ids}))
    for table in (left, right):
        places = pc.index_in(both.column("id"), value_set=table.column("id").combine_chunks())
        taken = table.take(places)
        for name in table.column_names[1:]:
            both = both.append_column(name, taken.column(name))
    return both
