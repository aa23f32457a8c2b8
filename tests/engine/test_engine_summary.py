"""Numbers that exist for some seeds only, and how they are written."""

from __future__ import annotations

import numpy as np

from dynmm_framework.engine.metrics import interval
from dynmm_framework.engine.summary import _mean, _over_seeds


def test_a_mean_leaves_out_what_is_undefined():
    assert _mean([0.2, None, 0.4, float("nan")]) == np.mean([0.2, 0.4])
    assert _mean([None, float("nan")]) is None


def test_an_interval_is_whole_or_absent():
    assert interval((0.1, 0.2)) == (0.1, 0.2)
    assert interval((float("nan"), 0.2)) is None


def test_users_are_averaged_over_seeds():
    seeds = [{"hit@5": np.array([0.0, 1.0])}, {"hit@5": np.array([1.0, 1.0])}]
    np.testing.assert_array_equal(_over_seeds(seeds, "hit@5"), [0.5, 1.0])
