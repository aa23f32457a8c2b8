"""The gated MLP: what it leaves alone, what it learns, and what each part does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dynmm_framework.data.tables import Histories
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import StageError
from dynmm_framework.online.lesson import Lesson, People, Summary
from dynmm_framework.online.summaries import NAMES
from dynmm_framework.testing import OnlineConformance
from dynmm_plugins.gated_mlp import network
from dynmm_plugins.gated_mlp.config import GatedMLPConfig
from dynmm_plugins.gated_mlp.model import GatedMLP

N, DIM = 30, 4


class TestGatedMLP(OnlineConformance):
    component = "gated_mlp"
    config = {"hidden": 8}


class TestPaperPreset(OnlineConformance):
    component = "gated_mlp"
    config = {"preset": "paper", "hidden": 8}


def vectors() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
    found[2, 1] = -0.0
    return found


def begun(**settings: object) -> GatedMLP:
    adapter = GatedMLP(GatedMLPConfig(**{"hidden": 8, **settings}))
    adapter.begin(vectors(), RunContext(Surroundings(None), seed=3))  # type: ignore[arg-type]
    return adapter


def lesson(seed: int = 0, n: int = 24, *, targets: list[int] | None = None) -> Lesson:
    rng = np.random.default_rng(seed)
    items = np.arange(10, 20, dtype=np.int32)
    features = rng.normal(size=(10, len(NAMES) + DIM)).astype(np.float32)
    chosen = np.asarray(targets or rng.integers(10, 13, n), np.int32)
    known = Histories.of([[1, 2, int(t)] for t in chosen], N)
    base = rng.normal(size=(len(chosen), DIM)).astype(np.float32)
    profiles = rng.normal(size=(len(chosen), 1 + DIM)).astype(np.float32)
    people = People(base, profiles, np.ones(len(chosen), np.bool_), known)
    return Lesson(Summary(items, features, np.ones(10, np.bool_)), people, chosen)


def loss_of(adapter: GatedMLP, taught: Lesson) -> float:
    scores = adapter.correct_users(taught.people) @ adapter.correct_items(taught.summary).T
    scores[:, [1, 2]] = -np.inf  # known; targets are known too, and not masked
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(taught)), taught.targets].mean())


def test_the_loss_is_cross_entropy_over_the_catalogue_with_known_items_masked():
    adapter, taught = begun(shift_weight=0), lesson()
    before = loss_of(adapter, taught)
    assert adapter.step(taught, ())["rank"] == pytest.approx(before, rel=1e-5)


def test_a_drawn_part_of_a_large_catalogue_bounds_the_loss():
    adapter, taught = begun(catalogue=8), lesson()
    whole = loss_of(adapter, taught)
    assert 0 < adapter.step(taught, ())["rank"] < whole + 1e-6


def test_of_a_large_catalogue_the_same_is_compared_as_by_hand():
    adapter, taught = begun(catalogue=8, shift_weight=0), lesson()
    chosen = adapter._compared(taught.targets)
    assert chosen is not None
    assert len(chosen) < N
    scores = adapter.correct_users(taught.people) @ adapter.correct_items(taught.summary).T
    scores[:, [1, 2]] = -np.inf
    part = scores[:, chosen.numpy()]
    right = scores[np.arange(len(taught)), taught.targets]
    expected = np.mean(np.log(np.exp(part).sum(axis=1)) - right)
    assert adapter.step(taught, ())["rank"] == pytest.approx(expected, rel=1e-5)


def test_it_learns_what_is_chosen_now():
    adapter, taught = begun(average=0, learning_rate=0.02), lesson()
    before = loss_of(adapter, taught)
    for _ in range(40):
        adapter.step(taught, ())
    assert loss_of(adapter, taught) < 0.6 * before


def test_only_what_has_a_recent_event_or_a_history_changes():
    adapter, taught = begun(learning_rate=0.05), lesson()
    for _ in range(5):
        adapter.step(taught, ())
    table = adapter.correct_items(taught.summary)
    changed = (table != vectors()).any(axis=1)
    assert np.flatnonzero(changed).tolist() == list(range(10, 20))
    unseen = People(
        taught.people.vectors,
        taught.people.profiles,
        np.zeros(len(taught), np.bool_),
        taught.people.known,
    )
    assert adapter.correct_users(unseen).tobytes() == unseen.vectors.tobytes()
    assert (adapter.correct_users(taught.people) != taught.people.vectors).any(axis=1).all()


@pytest.mark.parametrize(
    "settings", [{"users": False}, {"share": True}, {"gate": False}, {"reconstruction_weight": 1.0}]
)
def test_parts_can_be_switched(settings: dict[str, object]):
    adapter, taught = begun(**settings), lesson()
    losses = adapter.step(taught, [lesson(1)])
    assert ("reconstruction" in losses) == ("reconstruction_weight" in settings)
    users = adapter.correct_users(taught.people)
    assert (users.tobytes() == taught.people.vectors.tobytes()) == ("users" in settings)


def test_the_divergence_holds_corrections_back():
    def distance(weight: float) -> float:
        adapter, taught = begun(shift_weight=weight, average=0, learning_rate=0.02), lesson()
        for _ in range(30):
            adapter.step(taught, ())
        return float(np.square(adapter.correct_items(taught.summary) - vectors()).sum())

    assert distance(10.0) < 0.2 * distance(0.0)


def test_consolidation_holds_on_to_what_a_window_taught():
    def forgotten(weight: float) -> float:
        adapter = begun(
            consolidation_weight=weight, shift_weight=0, average=0, learning_rate=0.02, gamma=1.0
        )
        first, second = lesson(0, targets=[10] * 20), lesson(1, targets=[17] * 20)
        for _ in range(4):  # not to the end, where gradients vanish and nothing seems important
            adapter.step(first, ())
        adapter.finish(first)
        learned = loss_of(adapter, first)
        for _ in range(10):
            adapter.step(second, ())
        return loss_of(adapter, first) - learned

    assert forgotten(1e4) < 0.5 * forgotten(0.0)


def test_a_loss_that_is_not_finite_is_an_error():
    adapter, taught = begun(), lesson()
    taught.people.vectors[:] = np.nan
    with pytest.raises(StageError, match="online adapter's loss is nan in step 1"):
        adapter.step(taught, ())


def test_an_adapter_must_begin():
    with pytest.raises(StageError, match="stands on nothing yet"):
        GatedMLP(GatedMLPConfig()).correct_users(lesson().people)


def test_presets_are_defaults_that_fields_override():
    paper = GatedMLPConfig(preset="paper")
    assert (paper.hidden, paper.span, paper.recent_users, paper.guard) == (256, 1, True, False)
    assert GatedMLPConfig(preset="paper", hidden=9).hidden == 9
    assert GatedMLPConfig().span == 24
    with pytest.raises(ValidationError, match="must be a number of events"):
        GatedMLPConfig(window="soon")


@pytest.mark.parametrize("cells", [1, 37, 100_000])
def test_the_ranking_loss_is_cross_entropy_with_its_gradient(
    cells: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(network, "CELLS", cells)
    torch.manual_seed(0)
    users = torch.randn(9, 4, requires_grad=True)
    table = torch.randn(12, 4, requires_grad=True)
    targets = torch.randint(0, 12, (9,))
    masked = torch.tensor([r * 12 + i for r in range(9) for i in range(r % 3) if i != targets[r]])
    scores = (users @ table.T).view(-1).index_fill(0, masked, -torch.inf).view(9, 12)
    expected = torch.nn.functional.cross_entropy(scores, targets)
    wanted = torch.autograd.grad(3 * expected, [users, table])
    loss = network.RankingLoss.apply(users, table, targets, masked)
    found = torch.autograd.grad(3 * loss, [users, table])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, wanted)
