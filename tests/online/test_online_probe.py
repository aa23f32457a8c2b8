"""What is forgotten is measured on events that nothing was ever learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_cases import N_ITEMS, FixedModel, base_of, context, make_session, random_events

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.online.checkpoint import load_session, save_session
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.learner import Learner
from dynmm_framework.online.probe import drawn
from dynmm_framework.online.ranks import metrics_of, ranks_of
from dynmm_framework.online.session import Session
from dynmm_framework.online.strategies import Fusion
from dynmm_framework.online.weights import Weights
from dynmm_plugins.gated_mlp.config import GatedMLPConfig
from dynmm_plugins.gated_mlp.model import GatedMLP

OFFLINE, HELD_OUT = random_events(200, seed=1), random_events(150, seed=2, start=500)


class Told(Fusion):
    """Notes what it is told of."""

    def __init__(self) -> None:
        super().__init__(Weights())
        self.prepared: list[Events] = []
        self.warmed: list[int] = []

    def prepare(self, events: Events, known: Histories) -> None:
        assert len(events) == len(known)
        self.prepared.append(events)

    def warm_up(self, window: Any, scene: Any, *, learned: bool) -> None:
        assert window.events.items.tolist() == scene.targets.tolist()
        self.warmed.append(len(scene))


class Noting(Learner):
    """Counts the events that it learns or keeps."""

    taught = 0

    def learn(self, scene: Any, *, rate: float = 1.0) -> Any:
        self.taught += len(scene)
        return super().learn(scene, rate=rate)

    def rehearse(self, scene: Any) -> None:
        self.taught += len(scene)
        super().rehearse(scene)


def begun(**changed: Any) -> tuple[Session, Told, Noting]:
    settings = {"window": 20, "hidden": 8, "steps": 1, "probe": 25, "probe_every": 2, **changed}
    config = GatedMLPConfig(**settings)
    base = base_of(OFFLINE)
    learner, told = Noting(GatedMLP(config), base, config, context()), Told()
    strategies = {"adapter": Fusion(Weights(), learner, guarded=True), "told": told}
    session = Session(base, config, strategies, [learner], seed=3)
    session.begin(OFFLINE, HELD_OUT)
    return session, told, learner


def sample() -> np.ndarray:
    return drawn(len(HELD_OUT), most=25, seed=3)


@pytest.mark.parametrize("warm_up", [None, 0, 2])
def test_nothing_learns_from_the_sample_but_histories_hold_it(warm_up: int | None):
    session, told, learner = begun(warm_up=warm_up)
    rest = len(HELD_OUT) - 25
    assert len(session.probe) == 25
    assert learner.taught == rest
    counted = np.bincount(OFFLINE.items, minlength=N_ITEMS)
    counted += np.bincount(HELD_OUT.items[~sample()], minlength=N_ITEMS)
    assert session.memory.summaries.all.tolist() == counted.tolist()
    decayed = session.memory.popularity
    assert decayed.counts.sum() < len(OFFLINE) + rest
    joined = Events.joined(told.prepared)
    assert np.bincount(joined.items, minlength=N_ITEMS).tolist() == counted.tolist()
    assert sum(told.warmed) <= rest
    everything = HistoryStore(N_ITEMS)
    everything.extend(Events.joined([OFFLINE, HELD_OUT]))
    users = np.arange(12)
    found, expected = session.memory.histories.of(users), everything.of(users)
    assert found.items.tolist() == expected.items.tolist()


def test_the_first_figure_is_that_of_ranking_by_hand():
    session, _, _ = begun()
    model, gains = FixedModel(), []
    for row in np.flatnonzero(sample()):
        user, time = HELD_OUT.users[row], HELD_OUT.times[row]
        before = [*OFFLINE.items[OFFLINE.users == user]]
        before += [*HELD_OUT.items[(HELD_OUT.users == user) & (HELD_OUT.times < time)]]
        target = HELD_OUT.items[row]
        vector = model.user_vectors(Histories.of([before], N_ITEMS))[0]
        scores = model.vectors @ vector
        others = [i for i in range(N_ITEMS) if i not in before and i != target]
        above, equal = (scores[others] > scores[target]), (scores[others] == scores[target])
        rank = 1 + above.sum() + equal.sum() / 2
        gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
    np.testing.assert_allclose(session.before["told"], gains, atol=1e-6)


def test_what_does_not_learn_forgets_nothing_and_what_does_is_seen():
    session, _, _ = begun(guard=False)
    list(session.push(random_events(100, seed=5, start=2000)))
    assert session.retained()[0]["told"] == pytest.approx(session.before["told"].mean())
    measured = {report.window: report.retained for report in session.reports if report.retained}
    assert list(measured) == [2, 4]
    assert set(measured[2]) == {"adapter", "told"}


def test_a_restored_stream_measures_on_the_same_sample(tmp_path: Path):
    whole = make_session(probe=5)
    list(whole.push(random_events(70, start=1000)))
    save_session(tmp_path / "s.safetensors", whole)
    again = make_session(probe=5, offline=random_events(100, seed=9, items=30))
    load_session(tmp_path / "s.safetensors", again)
    assert again.retained() == whole.retained()
    for name, values in whole.before.items():
        np.testing.assert_array_equal(again.before[name], values)
        np.testing.assert_array_equal(again.before_as_present[name], whole.before_as_present[name])


def test_the_sample_follows_its_seed_and_leaves_enough_to_learn():
    assert drawn(1000, most=50, seed=1).sum() == 50
    assert drawn(100, most=50, seed=1).sum() == 20
    assert not drawn(0, most=50, seed=1).any()
    assert (drawn(1000, most=50, seed=1) == drawn(1000, most=50, seed=1)).all()
    assert (drawn(1000, most=50, seed=1) != drawn(1000, most=50, seed=2)).any()


def test_without_a_sample_nothing_is_measured():
    session, _, _ = begun(probe=0)
    list(session.push(random_events(60, seed=5, start=2000)))
    assert session.before == session.before_as_present == {}
    assert session.retained() == ({}, {})
    assert not any(report.retained for report in session.reports)


def test_a_sample_that_takes_a_whole_window_leaves_it_empty():
    session, _, learner = begun(window=1, probe=1000)  # a fifth: windows of one event are in it
    assert len(session.probe) == 30
    assert learner.taught == len(HELD_OUT) - 30


def test_the_sample_is_met_as_absent_and_as_if_it_were_present():
    session = make_session(
        probe=20, half_life=10, lasting_half_life=1000, guard=False, learning_rate=0.05
    )
    list(session.push(random_events(200, seed=5, start=2000)))
    fusion = session.strategies["adapter"]
    away, present = session.probed()
    people, targets = session.probe._people["people"], session.probe._targets
    place = session.memory.histories.place
    for values, last in (
        (away, session.probe._last), (present, np.full(len(targets), place))
    ):  # fmt: skip
        scene = session.memory.renewed(people, None, targets, last)
        ranks = ranks_of(fusion.score(scene), people.known, targets)
        np.testing.assert_allclose(
            values["adapter"], metrics_of(ranks, [10])["ndcg@10"], atol=1e-12
        )
    assert (place - session.probe._last).min() > 10  # all have been away
    assert not np.array_equal(away["adapter"], present["adapter"])
    np.testing.assert_array_equal(away["static"], present["static"])


def test_without_long_term_priors_both_readings_are_one():
    session = make_session(probe=20, lasting_half_life=None)
    list(session.push(random_events(60, seed=5, start=2000)))
    away, present = session.retained()
    assert away == present
