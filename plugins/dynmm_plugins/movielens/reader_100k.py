"""MovieLens-100K, from the official files or from RecBole's atomic ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dynmm_framework.data.columns import Field
from dynmm_framework.data.delimited import Layout, read_delimited
from dynmm_framework.data.files import find_folder, require_file
from dynmm_framework.data.rows import Findings, build
from dynmm_framework.data.tables import Dataset
from dynmm_framework.protocols import Context
from dynmm_plugins.movielens.config import MovieLens100KConfig

OFFICIAL = ("u.data", "u.item", "u.user")
ATOMIC = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")

GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""Genres in the order of the flags of ``u.item``."""

_USER_COLUMNS = ("age", "gender", "occupation", "zip_code")
_UNKNOWN = "unkonwn"
"""How the atomic files spell what the official ones leave empty."""


class MovieLens100K:
    """Reads 943 users, 1,682 movies and 100,000 ratings with times.

    Titles read ``Toy Story (1995)`` and genres are ``categories``; users have age, gender,
    occupation and zip code. Both layouts give the same data set.

    Data: Harper & Konstan, The MovieLens Datasets: History and Context, ACM TiiS 2015.
    """

    def __init__(self, config: MovieLens100KConfig) -> None:
        self.config = config

    def files(self, ctx: Context) -> Sequence[Path]:
        path = self.config.path
        place = ctx.fetch("movielens_100k") if path is None else Path(path).expanduser()
        folder = find_folder(place, (OFFICIAL[0], ATOMIC[0]), subfolders=("ml-100k",))
        names = OFFICIAL if (folder / OFFICIAL[0]).exists() else ATOMIC
        findings = Findings()
        for name in names:
            with findings.collecting():
                require_file(folder / name)
        findings.raise_if_any()
        return [folder / name for name in names]

    def read(self, ctx: Context) -> Dataset:
        files = self.files(ctx)
        official = files[0].name == OFFICIAL[0]
        ratings, items, users = (_official if official else _atomic)(*files)
        return build("movielens_100k", ratings, items=items, users=users, ctx=ctx)


def _official(data: Path, item: Path, user: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    tab = Layout(
        separator="\t",
        header=False,
        quoting=False,
        names=("user_id", "item_id", "rating", "timestamp"),
    )
    movie_columns = ("movie_id", "title", "release_date", "video_release_date", "imdb_url")
    movies = Layout(
        separator="|",
        header=False,
        quoting=False,
        encoding=None,
        names=(*movie_columns, *GENRES),
    )
    people = Layout(
        separator="|",
        header=False,
        quoting=False,
        encoding=None,
        names=("user_id", *_USER_COLUMNS),
    )
    findings = Findings()
    with findings.collecting():
        ratings = read_delimited(data, _rating_fields("{}"), layout=tab)
    with findings.collecting():
        raw = read_delimited(
            item,
            [
                Field(name="id", column="movie_id", kind="id", unique=True),
                Field(name="title", column="title"),
                *(Field(name=genre, column=genre, kind="number") for genre in GENRES),
            ],
            layout=movies,
        )
    with findings.collecting():
        users = read_delimited(user, _user_fields("{}"), layout=people)
    findings.raise_if_any()
    flags = zip(*(raw.column(genre).to_pylist() for genre in GENRES), strict=True)
    categories = [[genre for genre, flag in zip(GENRES, row, strict=True) if flag] for row in flags]
    genres = pa.chunked_array([pa.array(categories, pa.list_(pa.string()))])
    return ratings, _item_table(raw.column("id"), raw.column("title"), genres), users


def _atomic(inter: Path, item: Path, user: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    tab = Layout(separator="\t", quoting=False)
    findings = Findings()
    with findings.collecting():
        ratings = read_delimited(inter, _rating_fields("{}:float", ids="{}:token"), layout=tab)
    with findings.collecting():
        raw = read_delimited(
            item,
            [
                Field(name="id", column="item_id:token", kind="id", unique=True),
                Field(name="title", column="movie_title:token_seq"),
                Field(name="year", column="release_year:token"),
                Field(name="genres", column="class:token_seq", kind="list", separator=" "),
            ],
            layout=tab,
        )
    with findings.collecting():
        users = read_delimited(user, _user_fields("{}:token"), layout=tab)
    findings.raise_if_any()
    title, year = raw.column("title"), raw.column("year")
    title = pc.if_else(pc.equal(title, _UNKNOWN), "unknown", title)
    year = pc.if_else(pc.equal(year, _UNKNOWN), None, year)
    titles = pc.coalesce(pc.binary_join_element_wise(title, " (", year, ")", ""), title)
    return ratings, _item_table(raw.column("id"), titles, raw.column("genres")), users


def _item_table(ids: pa.ChunkedArray, titles: pa.ChunkedArray, genres: pa.ChunkedArray) -> pa.Table:
    years = pc.extract_regex(titles, r"\((?P<year>\d{4})\)")
    return pa.table(
        {
            "id": ids,
            "title": titles,
            "categories": genres,
            "release_year": pc.struct_field(years, "year").cast(pa.int32()),
        }
    )


def _rating_fields(form: str, *, ids: str = "{}") -> list[Field]:
    return [
        Field(name="user", column=ids.format("user_id"), kind="id"),
        Field(name="item", column=ids.format("item_id"), kind="id"),
        Field(name="rating", column=form.format("rating"), kind="number"),
        Field(name="timestamp", column=form.format("timestamp"), kind="time"),
    ]


def _user_fields(form: str) -> list[Field]:
    return [
        Field(name="id", column=form.format("user_id"), kind="id", unique=True),
        *(
            Field(name=name, column=form.format(name), kind="any" if name == "age" else "text")
            for name in _USER_COLUMNS
        ),
    ]
