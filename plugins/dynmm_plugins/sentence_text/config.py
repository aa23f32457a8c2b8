"""Settings of the sentence encoder of texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynmm_framework.artifacts.weights import WeightsConfig


class SentenceTextConfig(WeightsConfig):
    """Settings of the sentence encoder of texts."""

    model: str = "all_minilm_l6_v2"
    """The encoder: a model record, a folder (``./encoder``) or ``owner/name`` on the hub, which
    needs a ``revision``. A folder of sentence-transformers says how its token vectors are pooled
    and normalised; of any other Hugging Face encoder they are averaged.
    """
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Tokens after which a text is cut; null is the model's own limit (256 for the default)."""
    prompt: str = ""
    """Put before each text, for models that want one, such as ``passage: ``."""
    bf16: bool = False
    """Compute in bfloat16: about twice as fast on processors that have it, and vectors differ in
    the third digit.
    """
