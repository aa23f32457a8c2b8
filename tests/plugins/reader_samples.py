"""Small files of every format that a reader reads, and a context for reading them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynmm_framework.protocols import DatasetReader
from dynmm_plugins.amazon_reviews.config import AmazonReviewsConfig
from dynmm_plugins.amazon_reviews.reader import AmazonReviews
from dynmm_plugins.interaction_file.config import InteractionFileConfig
from dynmm_plugins.interaction_file.reader import InteractionFile
from dynmm_plugins.kuairec.config import KuaiRecConfig
from dynmm_plugins.kuairec.reader import KuaiRec
from dynmm_plugins.movielens.config import MovieLens1MConfig, MovieLens100KConfig
from dynmm_plugins.movielens.reader_1m import MovieLens1M
from dynmm_plugins.movielens.reader_100k import GENRES, MovieLens100K
from dynmm_plugins.sequence_file.config import SequenceFileConfig
from dynmm_plugins.sequence_file.reader import SequenceFile

START = 881_250_949


class ReaderContext:
    """Stands in for the context of a run: fetches from a folder and keeps the log."""

    def __init__(self, fetched: Path | None = None) -> None:
        self.fetched = fetched
        self.asked: list[str] = []
        self.lines: list[str] = []

    def fetch(self, record: str) -> Path:
        self.asked.append(record)
        assert self.fetched is not None
        return self.fetched

    def log(self, message: str) -> None:
        self.lines.append(message)


def events(n: int = 12) -> list[tuple[int, int, int, int]]:
    """Returns (user, item, rating, time) of 3 users and 4 items, distinct pairs, times rising."""
    return [(1 + k % 3, 11 + k // 3, 1 + k % 5, START + 60 * k) for k in range(n)]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


@dataclass
class Sample:
    """A good dataset on disk, and how its main file is written."""

    reader: Callable[..., DatasetReader]
    main: Path
    row: Callable[[Any, Any, Any, Any], str]
    """Writes a row of the main file: user, item, rating, time."""
    header: str = ""
    timed: bool = True
    rated: bool = True
    unit: int = 1
    """Times of the file for one second."""
    first_line: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_line = 1 + self.header.count("\n")

    def rewrite(self, rows: list[tuple[Any, Any, Any, Any]]) -> None:
        write(self.main, self.header + "".join(self.row(*row) + "\n" for row in rows))

    def good_rows(self) -> list[tuple[Any, Any, Any, Any]]:
        return [(user, item, rating, time * self.unit) for user, item, rating, time in events()]


def ml100k_official(folder: Path) -> Sample:
    movies = {11: "Toy Story (1995)", 12: "Misérables, Les (1995)", 13: "unknown", 14: "Fargo"}
    lines = []
    for movie, title in movies.items():
        flags = ["1" if genre in ("Comedy", "Drama") and movie != 14 else "0" for genre in GENRES]
        lines.append("|".join([str(movie), title, "01-Jan-1995", "", "http://x/?a%20b", *flags]))
    write(folder / "u.item", "\n".join(lines) + "\n", "latin-1")
    write(folder / "u.user", "1|24|M|technician|85711\n2|53|F|other|94043\n3|33|M|writer|T8H1N\n")
    sample = Sample(
        lambda **kw: MovieLens100K(MovieLens100KConfig(path=str(folder), **kw)),
        folder / "u.data",
        lambda u, i, r, t: f"{u}\t{i}\t{r}\t{t}",
    )
    sample.rewrite(sample.good_rows())
    return sample


def ml100k_atomic(folder: Path) -> Sample:
    write(
        folder / "ml-100k.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "11\tToy Story\t1995\tComedy Drama\n12\tMisérables, Les\t1995\tComedy Drama\n"
        "13\tunkonwn\tunkonwn\tComedy Drama\n14\tFargo\tunkonwn\t\n",
    )
    write(
        folder / "ml-100k.user",
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n3\t33\tM\twriter\tT8H1N\n",
    )
    sample = Sample(
        lambda **kw: MovieLens100K(MovieLens100KConfig(path=str(folder), **kw)),
        folder / "ml-100k.inter",
        lambda u, i, r, t: f"{u}\t{i}\t{r}\t{t}",
        header="user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
    )
    sample.rewrite(sample.good_rows())
    return sample


def ml1m_official(folder: Path) -> Sample:
    write(
        folder / "movies.dat",
        "11::Toy Story (1995)::Animation|Comedy\n12::Misérables, Les (1995)::Drama\n"
        "13::Star Wars: Episode IV (1977)::Sci-Fi\n14::Fargo (1996)::Crime\n"
        "15::Unseen (1999)::War\n",
        "latin-1",
    )
    write(folder / "users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::15::55117\n")
    sample = Sample(
        lambda **kw: MovieLens1M(MovieLens1MConfig(path=str(folder), **kw)),
        folder / "ratings.dat",
        lambda u, i, r, t: f"{u}::{i}::{r}::{t}",
    )
    sample.rewrite(sample.good_rows())
    return sample


def amazon_2018(folder: Path) -> Sample:
    folder.mkdir(parents=True, exist_ok=True)
    sample = Sample(
        lambda **kw: AmazonReviews(
            AmazonReviewsConfig(path=str(folder / "Gift_Cards_5.json"), **kw)
        ),
        folder / "Gift_Cards_5.json",
        _review_2018,
    )
    sample.rewrite(sample.good_rows())
    return sample


def _review_2018(user: Any, item: Any, rating: Any, time: Any) -> str:
    record = {
        "overall": _number(rating),
        "reviewerID": _id(user),
        "asin": _id(item),
        "style": {"Gift Amount:": " 50"},
        "image": ["https://x/1.jpg"],
        "reviewText": "Another great gift.",
        "unixReviewTime": _number(time),
    }
    return json.dumps({key: value for key, value in record.items() if value != "absent"})


def amazon_2023(folder: Path) -> Sample:
    folder.mkdir(parents=True, exist_ok=True)

    def row(user: Any, item: Any, rating: Any, time: Any) -> str:
        record = {
            "rating": _number(rating),
            "title": "Five stars",
            "images": [],
            "asin": "variant",
            "parent_asin": _id(item),
            "user_id": _id(user),
            "timestamp": _number(time),
        }
        return json.dumps({key: value for key, value in record.items() if value != "absent"})

    sample = Sample(
        lambda **kw: AmazonReviews(
            AmazonReviewsConfig(path=str(folder / "Gift_Cards.jsonl"), **kw)
        ),
        folder / "Gift_Cards.jsonl",
        row,
        unit=1000,
    )
    sample.rewrite(sample.good_rows())
    return sample


def _number(value: Any) -> Any:
    try:
        return float(value) if "." in str(value) or str(value) == "nan" else int(value)
    except ValueError:
        return value


def _id(value: Any) -> Any:
    return value if value in ("", "absent") else f"{value}"


def kuairec(folder: Path) -> Sample:
    write(folder / "item_categories.csv", 'video_id,feat\n11,[8]\n12,"[27, 9]"\n13,[]\n99,[3]\n')
    sample = Sample(
        lambda **kw: KuaiRec(KuaiRecConfig(path=str(folder), **kw)),
        folder / "big_matrix.csv",
        lambda u, i, r, t: f"{u},{i},13838,10867,2020-07-05 00:08:23.438,20200705,{t},{r}",
        header="user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n",
    )
    sample.rewrite(sample.good_rows())
    return sample


def own_csv(folder: Path) -> Sample:
    columns = {"user": "uid", "item": "sku", "timestamp": "ts", "rating": "stars"}

    def row(*cells: Any) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow(cells)
        return out.getvalue()

    path = folder / "clicks.csv"
    sample = Sample(
        lambda **kw: InteractionFile(
            InteractionFileConfig(**{"path": str(path), "columns": columns, **kw})
        ),
        path,
        lambda u, i, r, t: row(u, i, r, t),
        header="uid,sku,stars,ts\n",
    )
    folder.mkdir(parents=True, exist_ok=True)
    sample.rewrite(sample.good_rows())
    return sample


def own_jsonl(folder: Path) -> Sample:
    path = folder / "clicks.jsonl"
    columns = {"user": "uid", "item": "sku", "timestamp": "ts", "rating": "stars"}

    def row(user: Any, item: Any, rating: Any, time: Any) -> str:
        record = {"uid": _id(user), "sku": _id(item), "stars": _number(rating), "ts": _number(time)}
        return json.dumps({key: value for key, value in record.items() if value != "absent"})

    sample = Sample(
        lambda **kw: InteractionFile(
            InteractionFileConfig(**{"path": str(path), "columns": columns, **kw})
        ),
        path,
        row,
    )
    folder.mkdir(parents=True, exist_ok=True)
    sample.rewrite(sample.good_rows())
    return sample


def sequence_pairs(folder: Path) -> Sample:
    path = folder / "Video.txt"
    sample = Sample(
        lambda **kw: SequenceFile(SequenceFileConfig(path=str(path), **kw)),
        path,
        lambda u, i, r, t: f"{u} {i}",
        timed=False,
        rated=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    sample.rewrite(sample.good_rows())
    return sample


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "ml100k_official": ml100k_official,
    "ml100k_atomic": ml100k_atomic,
    "ml1m_official": ml1m_official,
    "amazon_2018": amazon_2018,
    "amazon_2023": amazon_2023,
    "kuairec": kuairec,
    "own_csv": own_csv,
    "own_jsonl": own_jsonl,
    "sequence_pairs": sequence_pairs,
}
