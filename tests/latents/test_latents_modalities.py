from __future__ import annotations

import numpy as np
import pytest

from dynmm_framework.data.features import Features
from dynmm_framework.errors import StageError
from dynmm_framework.latents.modalities import content_rows, require_features


def features(n: int, width: int = 4, *, share: float = 1.0, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    present = rng.random(n) < share
    rows = 3 + 50 * rng.normal(size=(n, width)).astype(np.float32)
    return Features(np.where(present[:, None], rows, 0).astype(np.float32), present)


def test_features_come_in_alphabetical_order() -> None:
    given = {"vision": features(3), "audio": features(3)}
    assert list(require_features(given, owner="vbpr", n_items=3)) == ["audio", "vision"]


def test_no_features_are_one_clear_error() -> None:
    with pytest.raises(StageError) as caught:
        require_features({}, owner="vbpr", n_items=3)
    assert str(caught.value).splitlines() == [
        "vbpr learns from items' content, and there are no features",
        "  Add encoders to the pipeline, such as encoders: {text: tfidf_text}.",
    ]


def test_modalities_that_nobody_has_or_of_others_are_named_at_once() -> None:
    given = {"text": features(3, share=0.0), "audio": features(4), "vision": features(3)}
    with pytest.raises(StageError) as caught:
        require_features(given, owner="mmgcn", n_items=3)
    assert str(caught.value).splitlines() == [
        "mmgcn cannot learn from content: audio has 4 rows for 3 items; no item has the modality "
        "'text'",
        "  Encode the items of the same split. Remove encoders.text, or check the column and the "
        "media it reads.",
    ]


def test_rows_are_centred_over_those_present_and_of_unit_length_on_average() -> None:
    given = features(500, 16, share=0.7)
    rows = content_rows(given)
    here = rows[given.present]
    np.testing.assert_allclose(here.mean(axis=0), 0, atol=1e-5)
    assert (here**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
    assert not rows[~given.present].any()
    assert rows.dtype == np.float32


def test_constant_features_say_nothing() -> None:
    constant = Features(np.full((5, 3), 7, np.float32), np.ones(5, np.bool_))
    assert not content_rows(constant).any()
