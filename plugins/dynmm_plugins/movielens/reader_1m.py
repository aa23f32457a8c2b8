"""MovieLens-1M, from the official files or from sequences in a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dynmm_framework.data.columns import Field
from dynmm_framework.data.delimited import Layout, read_delimited
from dynmm_framework.data.files import find_folder, require_file
from dynmm_framework.data.parquet import read_parquet
from dynmm_framework.data.rows import Findings, build
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import Context
from dynmm_plugins.movielens.config import MovieLens1MConfig

RATINGS = "ratings.dat"
SEQUENCES = "ml1m_sequences.parquet"
MOVIES = "movies.dat"
USERS = "users.dat"
PLOTS = "dbpedia_abstracts.json"
POSTERS = "posters"


class MovieLens1M:
    """Reads MovieLens-1M with titles, genres, users, plot texts and posters.

    The official ``ratings.dat`` gives 6,040 users, 3,706 movies and 1,000,209 ratings with times.
    ``ml1m_sequences.parquet`` (user_id, movie_id, position, rating_or_0, timestamp_or_0) gives
    the order of every user's movies, and times and ratings for a part of the rows only; they are
    left out unless ``timed_only`` asks for that part.

    Warning:
        The timed part is no fair sample: mostly ratings of 4 and more have a time. Do not read
        anything about ratings from it.

    Data: Harper & Konstan, The MovieLens Datasets: History and Context, ACM TiiS 2015.
    """

    def __init__(self, config: MovieLens1MConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        folder = self._folder(ctx)
        main = RATINGS if (folder / RATINGS).exists() else SEQUENCES
        extra = [name for name in (MOVIES, USERS, PLOTS) if (folder / name).exists()]
        findings = Findings()
        for name in (main, *extra):
            with findings.collecting():
                require_file(folder / name)
        findings.raise_if_any()
        posters = sorted((folder / POSTERS).glob("*.jpg"))
        return [*(folder / name for name in (main, *extra)), *posters]

    def read(self, ctx: Context) -> Dataset:
        files = {path.name: path for path in self.files(ctx)}
        findings = Findings()
        interactions = items = users = plots = None
        with findings.collecting():
            if RATINGS in files:
                interactions = _ratings(files[RATINGS])
            else:
                interactions = _sequences(files[SEQUENCES], timed_only=self.config.timed_only)
        with findings.collecting():
            items = _movies(files[MOVIES]) if MOVIES in files else None
        with findings.collecting():
            users = _users(files[USERS]) if USERS in files else None
        with findings.collecting():
            plots = _plots(files[PLOTS]) if PLOTS in files else None
        findings.raise_if_any()
        assert interactions is not None
        if items is None:
            items = pa.table({"id": pc.unique(interactions.column("item"))})
        if plots is not None:
            items = _with_column(items, "text", plots)
        posters = {path.stem: str(path) for name, path in files.items() if name.endswith(".jpg")}
        if posters:
            items = _with_column(items, "image", posters)
        return build(
            "movielens_1m",
            interactions,
            items=items,
            users=users,
            keep_unseen_items=self.config.keep_unseen_items,
            ctx=ctx,
        )

    def _folder(self, ctx: Context) -> Path:
        path = self.config.path
        place = ctx.fetch("movielens_1m") if path is None else Path(path).expanduser()
        return find_folder(place, (RATINGS, SEQUENCES), subfolders=("ml-1m",)).resolve()


def _layout(*names: str, encoding: str | None = "utf-8") -> Layout:
    return Layout(separator="::", header=False, quoting=False, encoding=encoding, names=names)


def _ratings(path: Path) -> pa.Table:
    fields = [
        Field(name="user", column="UserID", kind="id"),
        Field(name="item", column="MovieID", kind="id"),
        Field(name="rating", column="Rating", kind="number"),
        Field(name="timestamp", column="Timestamp", kind="time"),
    ]
    return read_delimited(path, fields, layout=_layout("UserID", "MovieID", "Rating", "Timestamp"))


def _sequences(path: Path, *, timed_only: bool) -> pa.Table:
    fields = [
        Field(name="user", column="user_id", kind="id"),
        Field(name="item", column="movie_id", kind="id"),
        Field(name="position", column="position", kind="number"),
        Field(name="rating", column="rating_or_0", kind="number"),
        Field(name="timestamp", column="timestamp_or_0", kind="time"),
    ]
    rows = read_parquet(path, fields)
    order = np.argsort(rows.column("position").to_numpy(), kind="stable")
    rows = rows.take(pa.array(order)).drop_columns(["position"])
    if not timed_only:
        return rows.select(["user", "item"])
    rows = rows.filter(pc.and_(pc.greater(rows["timestamp"], 0), pc.greater(rows["rating"], 0)))
    if not rows.num_rows:
        raise DataError(
            [Problem("has no row with a time", file=str(path))], hint="Set timed_only to false."
        )
    return rows


def _movies(path: Path) -> pa.Table:
    fields = [
        Field(name="id", column="MovieID", kind="id", unique=True),
        Field(name="title", column="Title"),
        Field(name="categories", column="Genres", kind="list", separator="|"),
    ]
    table = read_delimited(
        path, fields, layout=_layout("MovieID", "Title", "Genres", encoding=None)
    )
    years = pc.struct_field(pc.extract_regex(table["title"], r"\((?P<year>\d{4})\)$"), "year")
    return table.append_column("release_year", years.cast(pa.int32()))


def _users(path: Path) -> pa.Table:
    fields = [
        Field(name="id", column="UserID", kind="id", unique=True),
        Field(name="gender", column="Gender"),
        Field(name="age", column="Age", kind="any"),
        Field(name="occupation", column="Occupation"),
        Field(name="zip_code", column="Zip-code"),
    ]
    names = ("UserID", "Gender", "Age", "Occupation", "Zip-code")
    return read_delimited(path, fields, layout=_layout(*names))


def _plots(path: Path) -> dict[str, str]:
    findings = Findings()
    try:
        plots = json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        findings.add(f"is not UTF-8: {error.reason} at byte {error.start + 1}", file=path)
    except json.JSONDecodeError as error:
        findings.add(f"is not JSON: {error.msg}", file=path, line=error.lineno)
    else:
        if isinstance(plots, dict):
            for movie, plot in plots.items():
                if not isinstance(plot, str):
                    findings.add(f"is a {type(plot).__name__}, not text", file=path, path=movie)
        else:
            findings.add("is not an object from MovieID to text", file=path)
    findings.raise_if_any(hint="Download the file again, or move it out of the folder.")
    texts: dict[str, str] = plots
    return texts


def _with_column(items: pa.Table, name: str, values: dict[str, str]) -> pa.Table:
    """Adds a string column by item id; null where ``values`` has none."""
    places = pc.index_in(items.column("id"), value_set=pa.array(list(values), pa.string()))
    return items.append_column(name, pa.array(list(values.values()), pa.string()).take(places))
