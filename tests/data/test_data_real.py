"""The data layer on real data: published counts, and no pathological cost."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dynmm_framework.config.pipeline import Filters, GivenFiles, LeaveOneOut, TemporalUser
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.candidates import draw_candidates
from dynmm_framework.data.filters import apply_filters
from dynmm_framework.data.splits import make_split
from dynmm_framework.data.stats import dataset_stats


@pytest.fixture(scope="module")
def ml1m(real_data: Path) -> object:
    table = pq.read_table(real_data / "ml-1m" / "ml1m_sequences.parquet")
    return table.sort_by([("user_id", "ascending"), ("position", "ascending")])


def test_movielens_1m_is_split_in_a_moment(ml1m: object) -> None:
    start = time.process_time()
    dataset = assemble(ml1m, name="ml-1m", columns={"user": "user_id", "item": "movie_id"})
    dataset = apply_filters(dataset, Filters(k_core=5))
    split = make_split(dataset, TemporalUser(strategy="temporal_user"), seed=7)
    assert time.process_time() - start < 3  # 0.5 s on an idle machine
    assert dataset.log[0] == ("read", 6040, 3416, 999_611)
    assert dataset_stats(dataset)["sparsity"] == pytest.approx(0.9516, abs=1e-4)
    counts = np.bincount(dataset.interactions.users)
    assert len(split.test) == len(split.valid) == (counts // 10).sum()
    assert len(split.evaluation("test")) == 6040


def test_amazon_beauty_as_given_files(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "amazon-beauty"
    (source,) = (path for path in folder.glob("*.txt") if path.stat().st_size > 1 << 20)
    lines = [line.split() for line in source.read_text().splitlines()]
    items = sorted({item for line in lines for item in line[1:]}, key=int)
    dataset = assemble({"user": ["1"], "item": ["1"]}, name="beauty", items={"id": items})
    (tmp_path / "train.txt").write_text("\n".join(" ".join(line[:-1]) for line in lines))
    (tmp_path / "test.txt").write_text("\n".join(f"{line[0]} {line[-1]}" for line in lines))
    block = GivenFiles(
        strategy="given",
        train=str(tmp_path / "train.txt"),
        test=str(tmp_path / "test.txt"),
        valid_share=0,
    )
    given = make_split(dataset, block, seed=0)
    assert (given.n_users, given.n_items, len(given.rows)) == (22_363, 12_101, 198_502)
    pairs = [(line[0], item) for line in lines for item in line[1:]]
    users, sequence = zip(*pairs, strict=True)
    plain = assemble({"user": users, "item": sequence}, name="beauty")
    split = make_split(plain, LeaveOneOut(strategy="leave_one_out"), seed=0)
    assert (len(split.train), len(split.valid), len(split.test)) == (153_776, 22_363, 22_363)
    assert given.items is not None
    names, plain_names = (np.array(t["id"].to_pylist()) for t in (given.items, plain.items))
    assert (names[given.test.items] == plain_names[split.test.items]).all()
    candidates = draw_candidates(split.evaluation("test"), 99, seed=0)
    assert candidates.items.shape == (22_363, 100)
    assert np.ptp(np.bincount(candidates.items[:, 1:].ravel(), minlength=12_101)) < 150
