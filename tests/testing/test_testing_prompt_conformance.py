"""Each check of the conformance class for prompts fails on what it is there for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dynmm_framework.data.tables import Histories
from dynmm_framework.testing import PromptConformance
from dynmm_framework.testing.conformance.align import FixedBackbone

HISTORIES = Histories.of([[0, 1], [2], []], 20)
CANDIDATES = np.stack([np.random.default_rng(row).permutation(20)[:8] for row in range(3)])


class Honest:
    """Ranks as what it stands on."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        found = self.base.user_vectors(histories) @ self.base.item_vectors().T
        return found if candidates is None else np.take_along_axis(found, candidates, axis=1)


class Narrow(Honest):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        return super().score(histories, candidates)[:, :3]


class Blank(Honest):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        found = super().score(histories, candidates).copy()
        found[histories.lengths == 0] = np.nan
        return found


class ByPlace(Honest):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        found = super().score(histories, candidates)
        return found + np.arange(found.shape[1])


class Random(Honest):
    def score(self, histories: Histories, candidates: Any = None) -> np.ndarray:
        found = super().score(histories, candidates)
        return found + np.random.default_rng().random(found.shape)


def trained(kind: type[Honest]) -> Callable[..., Honest]:
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    return lambda **_: kind(FixedBackbone(vectors))


CASES: dict[str, Any] = {
    "test_scores_are_finite_and_of_the_shape_asked_for": [Narrow, Blank],
    "test_the_order_of_candidates_changes_no_score": [ByPlace, Random],
    "test_the_same_seed_gives_the_same_scores": [Random],
    "test_it_learns_without_validation_users": [Blank],
}


@pytest.mark.parametrize(
    ("check", "kind"), [(check, kind) for check, kinds in CASES.items() for kind in kinds]
)
def test_a_planted_fault_is_found(check: str, kind: type[Honest]) -> None:
    suite = PromptConformance()
    with pytest.raises(pytest.fail.Exception):
        getattr(suite, check)(trained(kind), HISTORIES, CANDIDATES)


@pytest.mark.parametrize("check", CASES)
def test_an_honest_adapter_passes(check: str) -> None:
    getattr(PromptConformance(), check)(trained(Honest), HISTORIES, CANDIDATES)
