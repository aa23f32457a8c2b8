"""KuaiRec on generated files of its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reader_samples import START, ReaderContext, kuairec

from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError
from dynmm_plugins.kuairec.config import KuaiRecConfig
from dynmm_plugins.kuairec.reader import KuaiRec

CAPTION_HEADER = (
    "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,"
    "first_level_category_name,second_level_category_id,second_level_category_name,"
    "third_level_category_id,third_level_category_name\n"
)


def read(path: Path, ctx: ReaderContext | None = None, **settings: Any) -> Dataset:
    return KuaiRec(KuaiRecConfig(path=str(path), **settings)).read(ctx or ReaderContext())


def test_categories_are_the_ids_of_feat(tmp_path: Path) -> None:
    kuairec(tmp_path)
    dataset = read(tmp_path)
    assert dataset.name == "kuairec_big"
    assert dataset.items.to_pylist() == [
        {"id": "11", "categories": ["8"]},
        {"id": "12", "categories": ["27", "9"]},
        {"id": "13", "categories": None},
        {"id": "14", "categories": None},
    ]
    assert read(tmp_path, keep_unseen_items=True).n_items == 5


def test_watch_ratios_are_ratings_and_low_ones_are_dropped_with_their_count(
    tmp_path: Path,
) -> None:
    kuairec(tmp_path)
    ctx = ReaderContext()
    dataset = read(tmp_path, ctx, min_watch_ratio=3)
    assert dataset.interactions.ratings is not None
    assert dataset.interactions.ratings.min() == 3
    assert len(dataset.interactions) == 6
    assert ctx.lines == ["big_matrix.csv: 6 of 12 views with a watch ratio below 3 are dropped"]
    with pytest.raises(DataError, match="none of its 12 views is left"):
        read(tmp_path, min_watch_ratio=99)


def test_undated_views_are_dropped_with_their_count_or_refused(tmp_path: Path) -> None:
    sample = kuairec(tmp_path)
    rows = sample.good_rows()
    rows[2], rows[5] = (*rows[2][:3], ""), (*rows[5][:3], "nan")
    sample.rewrite(rows)
    ctx = ReaderContext()
    assert len(read(tmp_path, ctx).interactions) == 10
    assert ctx.lines == ["big_matrix.csv: 2 of 12 views without time are dropped"]
    with pytest.raises(DataError) as caught:
        read(tmp_path, undated="error")
    assert [problem.line for problem in caught.value.problems] == [4, 7]


def test_fractions_of_seconds_order_views(tmp_path: Path) -> None:
    sample = kuairec(tmp_path)
    sample.rewrite([(1, 12, 1, f"{START}.438"), (1, 11, 1, f"{START}.113")])
    dataset = read(tmp_path)
    assert [dataset.items["id"][int(i)].as_py() for i in dataset.interactions.items] == ["11", "12"]
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps.tolist() == [START, START]


def test_the_small_matrix_and_the_folder_above(tmp_path: Path) -> None:
    sample = kuairec(tmp_path / "KuaiRec 2.0" / "data")
    sample.main.rename(sample.main.with_name("small_matrix.csv"))
    assert read(tmp_path, matrix="small").name == "kuairec_small"
    with pytest.raises(DataError, match=r"there is no big_matrix.csv in it"):
        read(tmp_path)


def test_captions_survive_the_broken_lines_of_the_file(tmp_path: Path) -> None:
    kuairec(tmp_path)
    (tmp_path / "kuairec_caption_category.csv").write_bytes(
        (
            CAPTION_HEADER
            + "11,UNKNOWN,A cat\r sleeps,[cats],7,Pets,8,Cats,-124,UNKNOWN\n"
            + '12,Cover,"Tea, black",[tea,cup],1,Food,2,Drinks,3,Tea\n'
            + "13,Open,Caption with a\n"
            + "broken line,[x],1,Food,2,Drinks,3,Tea\n"
            + "11,again,again,[],1,Food,2,Drinks,3,Tea\n"
        ).encode()
        + b"14,\xff\xfe,UNKNOWN,[],-124,UNKNOWN,-124,UNKNOWN,-124,UNKNOWN\n"
    )
    ctx = ReaderContext()
    dataset = read(tmp_path, ctx)
    assert dataset.items.to_pydict() == {
        "id": ["11", "12", "13", "14"],
        "categories": [["8"], ["27", "9"], None, None],
        "title": ["A cat sleeps", "Cover", "Open", "\ufffd\ufffd"],
        "text": ["A cat sleeps", "Tea, black", "Caption with a", None],
        "category_names": [["Pets", "Cats"], ["Food", "Drinks", "Tea"], None, None],
    }
    assert ctx.lines == [
        "kuairec_caption_category.csv: 1 lines that begin with no video id are left out"
    ]


def test_captions_alone_make_up_the_items(tmp_path: Path) -> None:
    kuairec(tmp_path)
    (tmp_path / "item_categories.csv").unlink()
    (tmp_path / "kuairec_caption_category.csv").write_text(
        CAPTION_HEADER + "11,UNKNOWN,A cat,[],7,Pets,8,Cats,9,Persian\n"
    )
    assert read(tmp_path).items["title"].to_pylist() == ["A cat", None, None, None]


def test_bad_categories(tmp_path: Path) -> None:
    kuairec(tmp_path)
    (tmp_path / "item_categories.csv").write_text(
        'video_id,feat\n11,[8]\n12,"__import__(\'os\')"\n13,"[1, x]"\n'
    )
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert [(p.path, p.message) for p in caught.value.problems] == [
        ("video 12", "\"__import__('os')\" is not a list as in [27, 9]"),
        ("video 13", "'[1, x]' is not a list as in [27, 9]"),
    ]
    (tmp_path / "item_categories.csv").write_text("video_id,feat\n11,[8]\n11,[9]\n")
    with pytest.raises(DataError, match=r"csv:3: video_id: '11' appears again; it is on line 2"):
        read(tmp_path)
