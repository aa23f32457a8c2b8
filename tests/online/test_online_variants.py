"""Strategies side by side are what each is alone; scores are what the documents say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stream_cases import N_ITEMS, SMALL, base_of, context, random_events, trending_events

from dynmm_framework.data.windows import Events
from dynmm_framework.engine.streaming import StreamParts, make_session
from dynmm_framework.online.learner import Learner
from dynmm_framework.online.memory import Memory
from dynmm_framework.online.ranks import ranks_at, ranks_of
from dynmm_framework.online.session import Session
from dynmm_framework.online.strategies import Fusion
from dynmm_framework.online.weights import Weights
from dynmm_plugins.gated_mlp.config import PRESETS, GatedMLPConfig
from dynmm_plugins.gated_mlp.model import GatedMLP

OFFLINE = random_events(200, seed=9, items=30)


def begun(config: GatedMLPConfig, names: list[str]) -> Session:
    """A session of the engine's making, on a base that was not trained."""

    base = base_of(OFFLINE)

    class Train:
        n_items = N_ITEMS

        def item_counts(self) -> np.ndarray:
            return base.trained

    class Split:
        train, n_items = Train(), N_ITEMS

    parts = StreamParts(
        model=base.model,
        split=Split(),  # type: ignore[arg-type]
        config=config,
        adapter=lambda own: GatedMLP(own),  # type: ignore[arg-type]
        context=context(),
    )
    session = make_session(parts, names)
    session.begin(OFFLINE.take(slice(0, 120)), OFFLINE.take(slice(120, None)))
    return session


def played(session: Session) -> Session:
    list(session.push(trending_events(120, start=1000)))
    return session


def test_every_variant_is_the_session_that_has_its_settings():
    config = GatedMLPConfig(**{**SMALL, "warm_up": 2, "learning_rate": 0.02})
    names = [*config.variants()]
    together = played(begun(config, ["adapter", *names]))
    assert names[-1] == "paper"
    for name in names:
        own = config.varied(config.variants()[name])
        alone = played(begun(own, ["adapter"]))
        for metric, value in alone.means["adapter"].items():
            assert together.means[name][metric] == pytest.approx(value, abs=1e-9), name
    values = {name: together.means[name]["ndcg@20"] for name in ["adapter", *names]}
    assert len(set(values.values())) >= 4  # they do differ


def test_a_variant_of_a_preset_is_as_printed():
    config = GatedMLPConfig(hidden=8, span=24, guard=True)
    paper = config.varied(config.variants()["paper"])
    assert {name: getattr(paper, name) for name in PRESETS["paper"]} == PRESETS["paper"]
    assert "without_consolidation" in GatedMLPConfig(preset="paper").variants()


@pytest.mark.parametrize("guarded", [False, True])
def test_scores_are_base_priors_and_as_much_of_the_correction_as_the_guard_allows(guarded: bool):
    config = GatedMLPConfig(hidden=8, window=20, learning_rate=0.05)
    base = base_of(OFFLINE)
    learner = Learner(GatedMLP(config), base, config, context())
    weights = Weights(static=0.3, popularity=0.7, transitions=2.0)
    fusion = Fusion(weights, learner, guarded=guarded)
    session = Session(base, config, {"adapter": fusion}, [learner])
    session.begin(OFFLINE.take(slice(0, 120)), OFFLINE.take(slice(120, None)))
    scene = session.memory.scene_of(random_events(15, seed=4, start=1000))
    if guarded:
        fusion.guard._sums[:] = [0, 0, 1, 0]
    strength = 0.6 if guarded else 1.0

    plain = scene.people.vectors @ base.items.T
    users = learner.adapter.correct_users(scene.people)
    table = learner.adapter.correct_items(scene.summaries[24])
    following = np.log1p(session.memory.transitions.counts(scene.people.known))
    expected = plain + strength * (users @ table.T - plain)
    expected = expected + 0.3 * base.prior + 0.7 * session.memory.popularity.log() + 2 * following
    assert np.abs(users @ table.T - plain).max() > 1e-3
    np.testing.assert_allclose(fusion.score(scene).numpy(), expected, atol=1e-5)


def test_ranks_at_several_strengths_are_those_of_each():
    rng = np.random.default_rng(0)
    plain = torch.from_numpy(rng.integers(0, 5, (30, N_ITEMS)).astype(np.float32))
    shift = torch.from_numpy(rng.integers(-3, 3, (30, N_ITEMS)).astype(np.float32))
    memory = Memory(base_of(OFFLINE), GatedMLPConfig())
    memory.histories.extend(OFFLINE)
    events = random_events(30, seed=8, start=900)
    known, strengths = memory.histories.before(events), (0.0, 0.5, 1.0, 2.0)
    found = ranks_at(plain.clone(), shift.clone(), strengths, known, events.items)
    for row, strength in zip(found, strengths, strict=True):
        expected = ranks_of(plain + strength * shift, known, events.items)
        assert row.tolist() == expected.tolist()


def test_events_of_one_moment_are_scored_by_one_history():
    memory = Memory(base_of(OFFLINE), GatedMLPConfig())
    memory.histories.extend(OFFLINE)
    events = Events.of([1, 1, 2, 1], [5, 6, 7, 8], [900, 900, 900, 901])
    asked: list[int] = []
    model = memory.base.model

    class Counting:
        def user_vectors(self, histories: Any) -> Any:
            asked.append(len(histories))
            return model.user_vectors(histories)

    memory.base.model = Counting()  # type: ignore[assignment]
    scene = memory.scene_of(events)
    assert asked == [3]
    expected = model.user_vectors(memory.histories.before(events))
    np.testing.assert_allclose(scene.people.vectors, expected, atol=1e-6)
    assert scene.people.known[3].tolist()[-2:] == [5, 6]
