"""Explanations of a recommender that learns from a stream: what they know, and when."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynmm_framework import load_pipeline
from dynmm_framework.engine.live import live_recommender
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ArtifactError, DataError
from dynmm_framework.testing import generate_dataset

WINDOW = 60
ITEM, LATER = "i7", 2_000_000_000


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    generate_dataset(n_users=80, n_items=48).save(folder / "data")
    return folder


def finished(saved: Path, **changed: Any) -> Run:
    settings = {"window": WINDOW, "steps": 1, "hidden": 8, "replay": 40, "horizon_days": 40_000}
    mapping = {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "streaming"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 3, "dim": 8}},
        "online": {
            "name": "gated_mlp",
            "config": settings,
            "controls": False,
            "baselines": False,
        },
        "evidence": ["cf_neighbours", {"name": "trend", "refresh": {"windows": 2}}],
        "evaluate": {"at": [10]},
        "compute": {"device": "cpu", "threads": 1},
        **changed,
    }
    return run(load_pipeline(mapping), runs_dir=saved / "runs")


@pytest.fixture(scope="module")
def done(saved: Path) -> Run:
    return finished(saved)


def window(number: int) -> list[dict[str, Any]]:
    """Events of as many people with one item as a window has."""
    start = LATER + 1000 * number
    return [{"user": f"n{number}-{n}", "item": ITEM, "time": start + n} for n in range(WINDOW)]


def people(found: list[dict[str, Any]]) -> float:
    """Returns how many people evidence says chose an item lately."""
    trends = [entry for entry in found[0]["evidence"] if entry["extractor"] == "trend"]
    return max((float(entry["values"]["count"]) for entry in trends), default=0)


def test_evidence_is_as_new_as_the_rule_says(done: Run) -> None:
    live = done.online()
    live.update([{"user": "asker", "item": "i1", "time": LATER - 1}])
    assert people(live.explain("asker", [ITEM])) == 0
    counts = []
    for number in range(6):
        live.update(window(number))  # the last of them opens the next window
        counts.append(people(live.explain("asker", [ITEM])))
    begun = [before != after for before, after in pairwise(counts)]
    assert begun in ([True, False] * 2 + [True], [False, True] * 2 + [False])  # every second window
    whole = [count for count in counts if count]
    assert set(np.diff(whole)) == {0, 2 * WINDOW}
    assert whole[-1] >= 5 * WINDOW - 1  # all but the asker and who is in the open window


def test_what_is_explained_is_what_is_recommended(done: Run) -> None:
    live = done.online()
    live.update([{"user": "new", "item": "i3", "time": LATER}])
    recommended = live.recommend("new", k=3)
    found = live.explain("new", k=3)
    assert [(e["item"], e["rank"]) for e in found] == [(r["item"], r["rank"]) for r in recommended]
    assert [e["score"] for e in found] == pytest.approx([r["score"] for r in recommended])
    assert all(entry["user"] == "new" and entry["sentence"] for entry in found)
    chosen = [recommended[2]["item"], recommended[0]["item"]]
    again = live.explain("new", chosen)
    assert [(e["item"], e["rank"]) for e in again] == [(chosen[0], 3), (chosen[1], 1)]


def test_evidence_goes_on_from_a_checkpoint_as_if_nothing_had_happened(
    done: Run, tmp_path: Path
) -> None:
    live = done.online()
    live.update([{"user": "asker", "item": "i1", "time": LATER - 1}])
    live.update([*window(0), *window(1)[:20]])
    live.save(tmp_path / "state.safetensors", identity=done.id)
    rest = [*window(1)[20:], *window(2)]
    resumed = live_recommender(done, checkpoint=tmp_path / "state.safetensors")
    assert resumed.explain("asker", k=5) == live.explain("asker", k=5)
    for each in (live, resumed):
        each.update(rest)
    assert resumed.digest() == live.digest()
    assert resumed.explain("asker", k=5) == live.explain("asker", k=5)
    assert people(resumed.explain("asker", [ITEM])) >= WINDOW - 1


@pytest.mark.parametrize(
    ("user", "items", "k", "message"),
    [
        ("nobody", None, 3, "user 'nobody' has no history"),
        ("new", ["i3"], 3, "user 'new' has chosen item 'i3' already"),
        ("new", ["no"], 3, "there is no item 'no'"),
        ("new", "i4", 3, "a list of items"),
        ("new", [], 3, "a list of items"),
        ("new", None, 0, "k >= 1"),
    ],
)
def test_what_cannot_be_explained_is_said(
    done: Run, user: str, items: Any, k: int, message: str
) -> None:
    live = done.online()
    live.update([{"user": "new", "item": "i3", "time": LATER}])
    with pytest.raises(DataError, match=message):
        live.explain(user, items, k=k)


def test_without_evidence_nothing_is_explained(saved: Path) -> None:
    live = finished(saved, evidence=[]).online()
    with pytest.raises(ArtifactError, match="this recommender has no evidence") as caught:
        live.explain("u1")
    assert "evidence:" in str(caught.value.hint)
