"""Amazon reviews of three years, and metadata in the forms in which they occur."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from reader_samples import START, ReaderContext, amazon_2018, amazon_2023, events

from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError
from dynmm_plugins.amazon_reviews.config import AmazonReviewsConfig
from dynmm_plugins.amazon_reviews.metadata import SCHEMA, read_metadata
from dynmm_plugins.amazon_reviews.reader import AmazonReviews

META_2014 = {
    "asin": "11",
    "title": "Lipstick &amp; Mirror",
    "price": 12.5,
    "imUrl": "http://x/11.jpg",
    "brand": "Acme",
    "categories": [["Beauty", "Makeup"], ["Beauty", "Lips"]],
    "related": {"also_bought": ["12"]},
    "description": "<p>It isn't</p><b class='x'>cheap</b>.",
}
META_2018 = {
    "asin": "12",
    "title": " Lowe&#39;s Card",
    "price": "$1,234.50",
    "brand": "",
    "category": ["Gift Cards", "Gift Cards"],
    "description": ["First.", "Second."],
    "imageURL": ["http://x/small.jpg"],
    "imageURLHighRes": ["http://x/large.jpg"],
    "rank": "7,585 in Gift Cards (",
}
META_2023 = {
    "parent_asin": "13",
    "main_category": "Gift Cards",
    "title": "Card",
    "price": None,
    "store": "Shop",
    "categories": [],
    "description": [],
    "images": [{"thumb": "http://x/t.jpg", "large": "http://x/l.jpg", "hi_res": None}],
}


def read(path: Path, **settings: Any) -> Dataset:
    return AmazonReviews(AmazonReviewsConfig(path=str(path), **settings)).read(ReaderContext())


def write_lines(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_metadata_of_every_year(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "meta.json", repr(META_2014), json.dumps(META_2018), json.dumps(META_2023)
    )
    table = read_metadata(path)
    assert table.schema == SCHEMA
    assert table.to_pylist() == [
        {
            "id": "11",
            "title": "Lipstick & Mirror",
            "text": "It isn't cheap.",
            "categories": ["Beauty", "Makeup", "Lips"],
            "brand": "Acme",
            "price": 12.5,
            "image_url": "http://x/11.jpg",
        },
        {
            "id": "12",
            "title": "Lowe's Card",
            "text": "First. Second.",
            "categories": ["Gift Cards"],
            "brand": None,
            "price": 1234.5,
            "image_url": "http://x/large.jpg",
        },
        {
            "id": "13",
            "title": "Card",
            "text": None,
            "categories": ["Gift Cards"],
            "brand": "Shop",
            "price": None,
            "image_url": "http://x/l.jpg",
        },
    ]


def test_metadata_of_others_are_skipped_and_the_first_of_repeated_ones_is_kept(
    tmp_path: Path,
) -> None:
    again = {**META_2018, "title": "again"}
    broken_other = '{"asin": "99", "title": broken }'
    path = write_lines(
        tmp_path / "meta.json", json.dumps(META_2018), json.dumps(again), broken_other
    )
    table = read_metadata(path, only={"12"})
    assert table["title"].to_pylist() == ["Lowe's Card"]


def test_titles_that_are_scripts_are_left_out(tmp_path: Path) -> None:
    record = {"asin": "1", "title": "var aPageStart = (new Date()).getTime();", "price": "$5 - $9"}
    row = read_metadata(write_lines(tmp_path / "m.json", json.dumps(record))).to_pylist()[0]
    assert (row["title"], row["price"]) == (None, None)


def test_bad_metadata_are_reported_with_lines(tmp_path: Path) -> None:
    amazon_2018(tmp_path)
    write_lines(
        tmp_path / "meta.json",
        json.dumps({**META_2018, "asin": "11"}),
        "{'asin': __import__('os').getcwd()}",
        '{"asin": "12", "title": "cut',
        "[1]",
        '{"title": "no id"}',
    )
    with pytest.raises(DataError) as caught:
        read(tmp_path / "Gift_Cards_5.json", metadata=str(tmp_path / "meta.json"))
    problems = caught.value.problems
    assert [problem.line for problem in problems] == [2, 3, 4, 5]
    assert "is not JSON" in problems[0].message, "literals are data, never run"
    assert problems[1].message.endswith("the line seems to be cut off")
    assert problems[2].message == "is a list, not an object"
    assert problems[3].message == (
        "has no product id in 'parent_asin' or 'asin'; its fields are: title"
    )


def test_a_folder_is_one_file_of_reviews_and_its_metadata(tmp_path: Path) -> None:
    amazon_2018(tmp_path)
    write_lines(tmp_path / "meta_Gift_Cards.json", json.dumps(META_2018))
    write_lines(tmp_path / "meta_Beauty.json", json.dumps(META_2018 | {"title": "wrong"}))
    dataset = read(tmp_path)
    assert dataset.name == "Gift_Cards_5"
    assert dataset.n_items == 4, "products without metadata are products too"
    titles = dict(
        zip(dataset.items["id"].to_pylist(), dataset.items["title"].to_pylist(), strict=True)
    )
    assert titles == {"12": "Lowe's Card", "11": None, "13": None, "14": None}
    (tmp_path / "Beauty_5.json").write_text("{}")
    with pytest.raises(DataError, match=r"several files of reviews in it: Beauty_5.json, Gift"):
        read(tmp_path)


def test_unseen_products_are_kept_on_request(tmp_path: Path) -> None:
    sample = amazon_2018(tmp_path)
    meta = write_lines(
        tmp_path / "meta.json", json.dumps(META_2018), json.dumps({"asin": "99", "title": "New"})
    )
    assert read(sample.main, metadata=str(meta)).n_items == 4
    dataset = read(sample.main, metadata=str(meta), keep_unseen_items=True)
    assert dataset.n_items == 5
    assert dataset.items["title"].to_pylist()[:2] == ["Lowe's Card", "New"]


def test_missing_metadata_name_their_setting(tmp_path: Path) -> None:
    sample = amazon_2018(tmp_path)
    with pytest.raises(DataError) as caught:
        read(sample.main, metadata=str(tmp_path / "meta.json"))
    assert "meta.json: does not exist" in str(caught.value)
    assert "data.config.metadata" in caught.value.hint


def test_2014_reviews_as_literals_of_python(tmp_path: Path) -> None:
    rows = [
        {
            "reviewerID": f"u{user}",
            "asin": f"{item}",
            "reviewText": 'It\'s "fine"',
            "overall": float(rating),
            "unixReviewTime": time,
        }
        for user, item, rating, time in events()
    ]
    path = tmp_path / "reviews_Beauty.json.gz"
    path.write_bytes(gzip.compress("".join(f"{row!r}\n" for row in rows).encode()))
    dataset = read(path)
    assert dataset.name == "reviews_Beauty"
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (3, 4, 12)
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps[0] == START


def test_2023_times_are_milliseconds_and_order_within_a_second(tmp_path: Path) -> None:
    sample = amazon_2023(tmp_path)
    sample.rewrite([("a", "2", 5, START * 1000 + 900), ("a", "1", 4, START * 1000 + 100)])
    dataset = read(sample.main)
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps.tolist() == [START, START]
    assert [dataset.items["id"][int(i)].as_py() for i in dataset.interactions.items] == ["1", "2"]


def test_2023_without_parent_asin_uses_asin(tmp_path: Path) -> None:
    row = {"user_id": "u", "asin": "v", "rating": 5.0, "timestamp": START * 1000}
    assert read(write_lines(tmp_path / "r.jsonl", json.dumps(row))).items["id"].to_pylist() == ["v"]


def test_other_json_lines_are_no_reviews(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "meta_only.json", json.dumps(META_2018))
    with pytest.raises(DataError) as caught:
        read(path)
    assert "these are no Amazon reviews" in str(caught.value)
    assert "data.config.metadata" in caught.value.hint


def test_a_json_array_is_not_json_lines(tmp_path: Path) -> None:
    sample = amazon_2018(tmp_path)
    rows = [json.loads(line) for line in sample.main.read_text().splitlines()]
    sample.main.write_text(json.dumps(rows, indent=1))
    with pytest.raises(DataError, match="is one JSON array; one object a line is needed") as caught:
        read(sample.main)
    assert "jq" in caught.value.hint


def test_gift_cards_real(real_data: Path) -> None:
    dataset = read(real_data / "amazon-giftcards")
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (458, 148, 2972)
    assert dataset.interactions.ratings is not None
    assert set(dataset.interactions.ratings.tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    present = {
        name: dataset.items.num_rows - dataset.items[name].null_count
        for name in dataset.items.column_names
    }
    assert present == {
        "id": 148,
        "title": 148,
        "text": 145,
        "categories": 148,
        "brand": 119,
        "price": 107,
        "image_url": 116,
    }
    assert not any("&#" in title for title in dataset.items["title"].to_pylist())
    assert pa.types.is_list(dataset.items["categories"].type)


def test_texts_of_reviews_are_read_on_request_and_names_never(tmp_path: Path) -> None:
    rows = [
        {
            "reviewerID": "u1",
            "reviewerName": "Ann Secret",
            "asin": "i1",
            "overall": 5.0,
            "unixReviewTime": START,
            "reviewText": " Works &amp; <b>fits</b>.<br />It&#39;s fine. ",
        },
        {
            "reviewerID": "u1",
            "reviewerName": "Ann Secret",
            "asin": "i2",
            "overall": 1.0,
            "unixReviewTime": START + 1,
        },
    ]
    path = write_lines(tmp_path / "Cards.json", *map(json.dumps, rows))
    assert read(path).interactions.reviews is None
    dataset = read(path, reviews=True)
    assert dataset.interactions.reviews is not None
    first, second = dataset.interactions.reviews.to_pylist()
    assert " ".join(first.split()) == "Works & fits . It's fine."
    assert second is None
    tables = str(dataset.users.to_pydict()) + str(dataset.items.to_pydict())
    assert "Secret" not in tables + first


def test_texts_of_literals_and_of_2023(tmp_path: Path) -> None:
    old = {
        "reviewerID": "u1",
        "reviewerName": "Bob",
        "asin": "i1",
        "overall": 5.0,
        "unixReviewTime": START,
        "reviewText": "It's good",
    }
    found = read(write_lines(tmp_path / "old.json", old), reviews=True).interactions
    assert found.reviews is not None
    assert found.reviews.to_pylist() == ["It's good"]
    new = {
        "user_id": "u1",
        "parent_asin": "i1",
        "rating": 5.0,
        "timestamp": START * 1000,
        "title": "Stars",
        "text": "Nice<br />card",
    }
    found = read(write_lines(tmp_path / "new.jsonl", json.dumps(new)), reviews=True).interactions
    assert found.reviews is not None
    assert found.reviews.to_pylist() == ["Nice card"]


def test_a_dump_without_texts_says_so(tmp_path: Path) -> None:
    sample = amazon_2023(tmp_path / "x")
    with pytest.raises(DataError, match="have no text in 'reviewText' or 'text'") as caught:
        read(sample.main, reviews=True)
    assert "data.config.reviews" in caught.value.hint


def test_gift_cards_reviews_real(real_data: Path) -> None:
    rows = read(real_data / "amazon-giftcards", reviews=True).interactions
    assert rows.reviews is not None
    assert len(rows.reviews) == 2972
    assert rows.reviews.null_count < 10


@pytest.mark.parametrize("settings", [{}, {"path": "a", "record": "b"}])
def test_the_place_is_named_once(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="name either path, a file or folder of yours, or"):
        AmazonReviewsConfig(**settings)
    with pytest.raises(ValidationError, match="a record brings its own"):
        AmazonReviewsConfig(record="b", metadata="c")


def test_a_record_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    amazon_2018(tmp_path / "cache")
    context = ReaderContext()
    monkeypatch.setattr(context, "fetch", lambda name: tmp_path / name, raising=False)
    reader = AmazonReviews(AmazonReviewsConfig(record="cache"))
    assert [path.name for path in reader.files(context)] == ["Gift_Cards_5.json"]
