"""TF-IDF and truncated SVD, against the formulas and NumPy's own SVD."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from dynmm_framework.errors import StageError
from dynmm_framework.testing import EncoderConformance
from dynmm_plugins.tfidf_text.config import TfidfTextConfig
from dynmm_plugins.tfidf_text.model import TfidfText

TEXTS = ["red fox fox runs", "red sea", "blue sea runs", "blue fox", "grey sea sea sea", "red red"]


class TestTfidfTextConformance(EncoderConformance):
    component: ClassVar[str] = "tfidf_text"
    config: ClassVar[dict[str, Any]] = {"dim": 8}
    alike: ClassVar[tuple[float, float]] = (0.95, 1.0)


class Context(SimpleNamespace):
    """As much of a context as the encoder uses."""

    def __init__(self) -> None:
        super().__init__(lines=[], log=lambda line: self.lines.append(line))

    def rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng(3)


def fitted(texts: list[str], ctx: Any = None, **settings: Any) -> TfidfText:
    encoder = TfidfText(TfidfTextConfig(**settings))
    encoder.fit(texts, ctx or Context())
    return encoder


def test_vectors_are_the_largest_singular_directions_of_tf_idf() -> None:
    words = sorted({word for text in TEXTS for word in text.split()})
    counts = np.array([[text.split().count(word) for word in words] for text in TEXTS], float)
    idf = np.log((1 + len(TEXTS)) / (1 + (counts > 0).sum(axis=0))) + 1
    with np.errstate(divide="ignore"):
        weights = np.where(counts > 0, 1 + np.log(counts), 0) * idf
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(weights, full_matrices=False)
    expected = left[:, :3] * values[:3]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = fitted(TEXTS, dim=3, min_documents=1, max_share=1.0).encode(TEXTS)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-4)


def test_vectors_have_length_one_or_none() -> None:
    encoder = fitted(TEXTS, dim=3, min_documents=1, max_share=1.0)
    lengths = np.linalg.norm(encoder.encode([*TEXTS, "nothing known", ""]), axis=1)
    np.testing.assert_allclose(lengths, [1] * len(TEXTS) + [0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "width"),
    [
        (TEXTS[:2], 2),
        (["one word"], 1),
        (["fox", "fox", "fox"], 1),
        (["", " "], 1),
        (["a", "!"], 1),
    ],
)
def test_few_texts_or_terms_shrink_the_width_and_say_so(texts: list[str], width: int) -> None:
    ctx = Context()
    encoder = fitted(texts, ctx, dim=32)
    assert encoder.dim == width
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), width)
    assert np.isfinite(vectors).all()
    assert any(
        "allow a width of" in line and f"{width} instead of 32" in line for line in ctx.lines
    )


def test_texts_without_terms_are_zero_and_say_so() -> None:
    ctx = Context()
    assert not fitted(["", "?"], ctx).encode(["", "?"]).any()
    assert "tfidf_text: the texts have no terms, so their vectors are zero" in ctx.lines


def test_rare_and_common_terms_are_left_out() -> None:
    encoder = fitted(["the fox", "the fox", "the sea", "the sea", "the once"], dim=2)
    assert encoder.encode(["the", "once"]).any() == np.False_
    assert encoder.encode(["fox"]).any()


def test_encoding_before_fit_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"tfidf_text is not fitted\n  Call fit with all texts"):
        TfidfText(TfidfTextConfig()).encode(["a text"])


def test_more_width_than_terms_is_refused() -> None:
    with pytest.raises(ValidationError, match="dim \\(20\\) is more than max_terms \\(10\\)"):
        TfidfTextConfig(dim=20, max_terms=10)
