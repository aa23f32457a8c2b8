"""People's own files: every format, every map of columns, and errors worth reading."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from reader_samples import START, ReaderContext, events, own_csv

from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError
from dynmm_plugins.interaction_file.config import InteractionFileConfig
from dynmm_plugins.interaction_file.reader import InteractionFile

COLUMNS = {"user": "uid", "item": "sku", "timestamp": "ts", "rating": "stars"}


def read(path: Path, ctx: ReaderContext | None = None, **settings: Any) -> Dataset:
    config = InteractionFileConfig(**{"path": str(path), **settings})
    return InteractionFile(config).read(ctx or ReaderContext())


def problems(path: Path, **settings: Any) -> list[tuple[int, str, str]]:
    with pytest.raises(DataError) as caught:
        read(path, **settings)
    return [(p.line, p.path, p.message) for p in caught.value.problems]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table() -> pa.Table:
    users, items, ratings, times = zip(*events(), strict=True)
    return pa.table({"uid": users, "sku": items, "stars": ratings, "ts": times})


def delimited(separator: str, quote: str = "") -> str:
    rows = [COLUMNS[role] for role in ("user", "item", "rating", "timestamp")]
    lines = [separator.join(rows)]
    lines += [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in events()]
    return "\n".join(lines) + "\n"


def check(dataset: Dataset) -> None:
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (3, 4, 12)
    assert dataset.users["id"].to_pylist() == ["1", "2", "3"]
    assert dataset.items["id"].to_pylist() == ["11", "12", "13", "14"]
    assert dataset.interactions.ratings is not None
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps[0] == START
    assert dataset.interactions.ratings.tolist() == [1, 4, 2, 5, 2, 5, 3, 1, 3, 1, 4, 2]


@pytest.mark.parametrize(
    ("name", "separator"),
    [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", ";"), ("a.txt", "|"), ("a.dat", "::")],
)
def test_separators_are_found_out(tmp_path: Path, name: str, separator: str) -> None:
    path = write(tmp_path / name, delimited(separator))
    check(read(path, columns=COLUMNS))
    check(read(path, columns=COLUMNS, separator=separator))
    assert read(path, columns=COLUMNS).name == "a"


def test_quoted_fields_hold_separators_and_line_feeds(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        'uid,review,sku,stars,ts\n"1","good, very\n""good""",11,5,100\n 2 ,ok, 12 ,4,200\n\n'
        '3,"a\nb\nc",12,x,300\n',
    )
    assert problems(path, columns=COLUMNS) == [(6, "stars", "'x' is not a number")]
    write(path, path.read_text().replace(",x,", ",3,"))
    dataset = read(path, columns=COLUMNS)
    assert dataset.users["id"].to_pylist() == ["1", "2", "3"]
    assert dataset.items["id"].to_pylist() == ["11", "12"]


def test_a_quote_that_is_never_closed_is_located(tmp_path: Path) -> None:
    text = delimited(",", quote='"').splitlines()
    text[4] = text[4].replace('",', ",", 1)
    found = problems(write(tmp_path / "a.csv", "\n".join(text)), columns=COLUMNS)
    assert found[0][0] == 5


def test_quotes_may_be_characters_like_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'user\titem\na\t"tea\nb\t5" pipe\n')
    after = "after the closing quote of a field there is more before the separator"
    assert problems(path) == [(2, "", after)]
    dataset = read(path, quoting=False)
    assert dataset.items["id"].to_pylist() == ['"tea', '5" pipe']


def test_a_quote_that_swallows_lines_is_located(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'user,item\na,1\nb,"2\nc,3\nd,4"\ne,5\n')
    assert problems(path) == [
        (3, "item", "'2\\nc,3\\nd,4' holds a line feed; is a quote around it never closed?")
    ]


def test_long_fields_beside_a_bad_row(tmp_path: Path) -> None:
    long = "x" * 200_000
    path = write(tmp_path / "a.csv", f"user,item,note\na,1,{long}\nb,,y\n")
    assert problems(path) == [(3, "item", "is empty")]


def test_lines_that_end_in_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user,item\ra,1\r")
    assert problems(path)[0][2].startswith("a line ends in a carriage return alone")


def test_a_folder_that_may_not_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert problems(tmp_path / "a.csv")[0][2] == "cannot be read: Permission denied"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig", "cp1252", "utf-16-le"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", "uid,sku\ncafé,tea\n", encoding)
    dataset = read(path, columns={"user": "uid", "item": "sku"}, encoding=encoding)
    assert dataset.users["id"].to_pylist() == ["café"]


def test_a_wrong_encoding_names_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user,item\na,b\ncafé,tea\n", "latin-1")
    assert problems(path) == [
        (3, "", "byte 4 of the line (0xe9) is not utf-8; is the file in latin-1 or cp1252?")
    ]
    with pytest.raises(DataError, match="the file is in utf-16"):
        read(write(path, "user,item\na,b\n", "utf-16"))
    write(path, "user,item\na,b\nü,b\n")
    assert problems(path, encoding="ascii")[0][0] == 3
    write(path, "user,item\na,b\nü,b\nx,\n", "utf-16-le")
    assert problems(path, encoding="utf-16-le") == [(4, "item", "is empty")]


def test_files_without_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\n".join(delimited(",").splitlines()[1:]))
    columns = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
    check(read(path, header=False, columns=columns))
    pairs = read(path, header=False, columns={"user": 0, "item": 1})
    assert pairs.interactions.timestamps is None
    found = problems(path, header=False, columns={"user": 0, "item": 7})
    assert found == [(0, "columns.item", "there is no column 7; the columns are: 0, 1, 2, 3")]
    with pytest.raises(ValidationError, match=r"columns\.user is 'user'"):
        InteractionFileConfig(path="a.csv", header=False)


@pytest.mark.parametrize("compress", [False, True])
def test_parquet_and_json_lines(tmp_path: Path, compress: bool) -> None:
    pq.write_table(table(), tmp_path / "a.parquet")
    check(read(tmp_path / "a.parquet", columns=COLUMNS))
    lines = "".join(json.dumps(row) + "\n" for row in table().to_pylist()).encode()
    path = tmp_path / ("a.jsonl.gz" if compress else "a.jsonl")
    path.write_bytes(gzip.compress(lines) if compress else lines)
    check(read(path, columns=COLUMNS))


def test_gzip_csv(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv.gz"
    path.write_bytes(gzip.compress(delimited(",").encode()))
    dataset = read(path, columns=COLUMNS)
    check(dataset)
    assert dataset.name == "clicks"


def test_json_lines_of_mixed_types_are_read_all_the_same(tmp_path: Path) -> None:
    rows = [
        {"user": 1, "item": "a", "rating": 4},
        {"user": "x", "item": "b", "rating": 3.5, "more": {"deep": [1]}},
        {"user": 1, "item": 7, "rating": "2"},
    ]
    path = write(tmp_path / "a.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    dataset = read(path)
    assert dataset.users["id"].to_pylist() == ["1", "x"]
    assert dataset.items["id"].to_pylist() == ["a", "b", "7"]
    assert dataset.interactions.ratings is not None
    assert dataset.interactions.ratings.tolist() == [4, 2, 3.5]


def test_bad_json_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        '{"user": 1, "item": 2}\n{"user": 1, "item"\n\n{"user": null, "item": [1]}\n'
        '{"item": 3}\n[1]\n{"user": 3, "item": 4',
    )
    assert problems(path) == [
        (
            2,
            "",
            "is not JSON: Expecting ':' delimiter at character 19; the line seems to be cut off",
        ),
        (4, "user", "is empty"),
        (4, "item", "[1] is a list, not an id"),
        (5, "user", "is empty"),
        (6, "", "is a list, not an object"),
        (
            7,
            "",
            "is not JSON: Expecting ',' delimiter at character 22; the line seems to be cut off",
        ),
    ]


def test_bad_parquet_rows_have_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    times = np.array([1.0, np.nan, -2.0, np.inf])
    pq.write_table(
        pa.table({"user": [1, 2, None, 4], "item": list("abcd"), "timestamp": times}), path
    )
    assert problems(path) == [
        (0, "row 2: timestamp", "nan is not finite"),
        (0, "row 3: user", "is empty"),
        (0, "row 3: timestamp", "-2.0 is negative; times are counted from 1970"),
        (0, "row 4: timestamp", "inf is not finite"),
    ]


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({}, ["2020-01-02 03:04:05", "2020-01-02T03:04:06"]),
        ({}, ["2020-01-02T03:04:05Z", "2020-01-02T04:04:06+01:00"]),
        ({"timestamp_format": "%d/%m/%Y %H:%M:%S"}, ["02/01/2020 03:04:05", "02/01/2020 03:04:06"]),
        ({"timestamp_unit": "milliseconds"}, ["1577934245000", "1577934246000"]),
        ({"timestamp_unit": "nanoseconds"}, ["1577934245000000000", "1577934246000000000"]),
    ],
)
def test_times_of_every_form(tmp_path: Path, settings: dict[str, str], values: list[str]) -> None:
    text = "user,item,timestamp\n" + "".join(f"u,{n},{value}\n" for n, value in enumerate(values))
    dataset = read(write(tmp_path / "a.csv", text), **settings)
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps.tolist() == [1577934245, 1577934246]


def test_dates_that_would_pass_for_seconds_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user,item,timestamp\na,1,20240131\na,2,20240201\n")
    assert problems(path) == [
        (
            0,
            "columns.timestamp",
            "20240131 to 20240201 look like dates, not like seconds since 1970",
        )
    ]
    dataset = read(path, timestamp_format="%Y%m%d")
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps[0] == 1706659200


def test_roles_default_to_columns_of_their_names_and_may_be_switched_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user,item,rating\na,1,5\n")
    dataset = read(path)
    assert dataset.interactions.ratings is not None
    assert dataset.interactions.timestamps is None
    assert read(path, columns={"rating": None}).interactions.ratings is None
    found = problems(path, columns={"timestamp": "timestamp"})
    assert found[0][:2] == (1, "columns.timestamp")


def test_all_missing_columns_come_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user_id,item,item\na,1,5\n")
    assert problems(path, columns={"user": "userid", "rating": "stars"}) == [
        (
            1,
            "columns.user",
            "there is no column 'userid' (did you mean 'user_id'?); the columns are: user_id, "
            "item, item",
        ),
        (1, "", "several columns are named 'item'"),
        (
            1,
            "columns.rating",
            "there is no column 'stars'; the columns are: user_id, item, item",
        ),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04....", "is a zip archive, as Excel workbooks are"),
        (b"PAR1....", "is a Parquet file"),
        (b"BZh91AY", "is compressed by a program other than gzip"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert message in problems(path)[0][2]


def test_a_name_without_a_known_ending(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xyz", delimited(","))
    with pytest.raises(DataError) as caught:
        read(path, columns=COLUMNS)
    assert "its name does not tell its format" in str(caught.value)
    assert "Set format to csv, parquet or jsonl" in caught.value.hint
    check(read(path, columns=COLUMNS, format="csv"))


def test_missing_files_name_their_settings_and_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "clicks.csv", "x")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "click.csv", items={"path": str(tmp_path / "no" / "items.csv")})
    assert [problem.message for problem in caught.value.problems] == [
        "does not exist (did you mean 'clicks.csv'?)",
        f"does not exist: there is no folder {tmp_path / 'no'} either",
    ]


ITEMS = (
    'sku,name,about,more,tags,picture,price\n11,Tea,"Green, fine",,hot; leaf,a.png,3.5\n'
    "12,Cup,White,Bone china,,gone.png,\n99,New,,,,,7\n"
)


def items_block(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    (tmp_path / "a.png").write_bytes(b"x")
    return {
        "path": str(write(tmp_path / "items.csv", ITEMS)),
        "id": "sku",
        "title": "name",
        "text": ["about", "more"],
        "categories": "tags",
        "categories_separator": ";",
        "image": "picture",
        "extra": ["price"],
        **settings,
    }


def test_items_with_all_their_columns(tmp_path: Path) -> None:
    sample = own_csv(tmp_path)
    ctx = ReaderContext()
    dataset = read(sample.main, ctx, columns=COLUMNS, items=items_block(tmp_path))
    assert dataset.items.to_pylist() == [
        {
            "id": "11",
            "title": "Tea",
            "categories": ["hot", "leaf"],
            "image": str(tmp_path.resolve() / "a.png"),
            "price": 3.5,
            "text": "Green, fine",
        },
        {
            "id": "12",
            "title": "Cup",
            "categories": None,
            "image": None,
            "price": None,
            "text": "White Bone china",
        },
        {
            "id": "99",
            "title": "New",
            "categories": None,
            "image": None,
            "price": 7,
            "text": None,
        },
        {"id": "13", "title": None, "categories": None, "image": None, "price": None, "text": None},
        {"id": "14", "title": None, "categories": None, "image": None, "price": None, "text": None},
    ]
    assert ctx.lines == ["items.csv: 1 of 2 image files do not exist"]
    dataset = read(
        sample.main, columns=COLUMNS, items=items_block(tmp_path), keep_unseen_items=False
    )
    assert dataset.n_items == 4


def test_users_and_items_of_other_formats(tmp_path: Path) -> None:
    sample = own_csv(tmp_path)
    pq.write_table(pa.table({"uid": [2, 1, 3], "age": [20, None, 40]}), tmp_path / "users.parquet")
    rows = [{"sku": 11, "tags": ["a", "b"]}, {"sku": 12, "tags": []}, {"sku": 13}]
    write(tmp_path / "items.jsonl", "\n".join(json.dumps(row) for row in rows))
    dataset = read(
        sample.main,
        columns=COLUMNS,
        items={"path": str(tmp_path / "items.jsonl"), "id": "sku", "categories": "tags"},
        users={"path": str(tmp_path / "users.parquet"), "id": "uid", "extra": ["age"]},
    )
    assert dataset.users.to_pylist() == [
        {"id": "1", "age": None},
        {"id": "2", "age": 20},
        {"id": "3", "age": 40},
    ]
    assert dataset.items["categories"].to_pylist() == [["a", "b"], [], None, None]


def test_problems_of_all_three_files_come_together(tmp_path: Path) -> None:
    sample = own_csv(tmp_path)
    rows = sample.good_rows()
    rows[1] = (1, "", 2, 3)
    sample.rewrite(rows)
    items = items_block(tmp_path)
    write(tmp_path / "items.csv", ITEMS + "12,Again,,,,,\n")
    users = {"path": str(write(tmp_path / "users.csv", "id\n1\n\n2\n1\n"))}
    with pytest.raises(DataError) as caught:
        read(sample.main, columns=COLUMNS, items=items, users=users)
    assert [(Path(p.file).name, p.line, p.path, p.message) for p in caught.value.problems] == [
        ("clicks.csv", 3, "sku", "is empty"),
        ("items.csv", 5, "sku", "'12' appears again; it is on line 3 already"),
        ("users.csv", 5, "id", "'1' appears again; it is on line 2 already"),
    ]


def test_tables_that_share_no_id_are_refused(tmp_path: Path) -> None:
    sample = own_csv(tmp_path)
    block = items_block(tmp_path, id="name", title="name")
    found = problems(sample.main, columns=COLUMNS, items=block)
    assert found[0][1:] == (
        "items.id",
        "none of its ids, such as 'Tea', is among the items of the interactions, such as '11'",
    )


def test_media_that_are_all_missing_are_refused(tmp_path: Path) -> None:
    sample = own_csv(tmp_path)
    block = items_block(tmp_path, media_folder=str(tmp_path / "elsewhere"))
    found = problems(sample.main, columns=COLUMNS, items=block)
    assert found[0][1] == "items.image"
    assert "none of the 2 files exists, such as " in found[0][2]
    assert found[0][2].endswith("; set items.media_folder")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": "utf9"}, "there is no encoding 'utf9'"),
        ({"separator": ""}, "at least 1 character"),
        ({"timestamp_unit": "hours"}, "'seconds', 'milliseconds'"),
        ({"colums": {}}, "Extra inputs are not permitted"),
        ({"columns": {"user": -1}}, "greater than or equal to 0"),
    ],
)
def test_settings_are_checked_before_anything_is_read(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        InteractionFileConfig(**{"path": "a.csv", **settings})


def test_numbers_of_columns_belong_to_files_without_names(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "a.parquet")
    found = problems(tmp_path / "a.parquet", columns={"user": 0, "item": "sku"})
    assert found == [
        (0, "columns.user", "column 0 is a number; the columns of this format have names")
    ]


def test_repeated_extra_columns(tmp_path: Path) -> None:
    sample = own_csv(tmp_path)
    block = items_block(tmp_path, extra=["title"])
    assert problems(sample.main, columns=COLUMNS, items=block) == [
        (0, "items.extra", "there is a column 'title' already")
    ]


def test_descriptions_come_from_a_json_file(tmp_path: Path) -> None:
    path = write(tmp_path / "clicks.csv", delimited(","))
    items = write(tmp_path / "items.csv", "id,title\n11,One\n12,Two\n13,\n14,Four\n")
    texts = write(tmp_path / "texts.json", '{"11": "a film", "13": "no title", "99": "unknown"}')
    settings = {"path": str(items), "title": "title", "texts": str(texts)}
    dataset = read(path, columns=COLUMNS, items=settings)
    found = dict(
        zip(dataset.items["id"].to_pylist(), dataset.items["text"].to_pylist(), strict=True)
    )
    assert found == {"11": "One a film", "12": "Two", "13": "no title", "14": "Four"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "is not an object from item to description"),
        ('{"11": 3}', "3 is no text"),
        ("{", "is not JSON"),
    ],
)
def test_a_bad_file_of_descriptions_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path / "clicks.csv", delimited(","))
    items = write(tmp_path / "items.csv", "id,title\n11,One\n")
    texts = write(tmp_path / "texts.json", content)
    settings = {"path": str(items), "title": "title", "texts": str(texts)}
    ((_, _, found),) = problems(path, columns=COLUMNS, items=settings)
    assert message in found
