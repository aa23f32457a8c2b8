"""Settings of sounds by wav2vec 2.0."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from dynmm_framework.artifacts.weights import WeightsConfig

if TYPE_CHECKING:
    from dynmm_framework.artifacts.records import Registry


class Wav2Vec2Config(WeightsConfig):
    """Settings of sounds by wav2vec 2.0."""

    bundle: str | None = None
    """torchaudio's name of downloadable weights (``HUBERT_BASE``, ``WAVLM_BASE`` …); null is
    ``WAV2VEC2_BASE``, unless ``model`` names other weights.
    """
    model: str | None = None
    """Other weights: a model record, a folder of Hugging Face (``./wav2vec2``), or ``owner/name``
    on the hub, which needs a ``revision``; any speech model that reads waveforms.
    """
    window_seconds: Annotated[float, Field(gt=0.1, le=60)] = 10.0
    """Longer sounds are cut into windows of so many seconds: attention costs the square of it."""

    @model_validator(mode="after")
    def _names_one_checkpoint(self) -> Wav2Vec2Config:
        if self.model is not None and self.bundle is not None:
            raise ValueError(
                f"bundle ({self.bundle}) and model ({self.model}) both name weights; leave one out"
            )
        return self

    @property
    def bundle_name(self) -> str:
        """Name of torchaudio's weights, if ``model`` names no others."""
        return self.bundle or "WAV2VEC2_BASE"

    def fingerprint(self, registry: Registry) -> str:
        if self.model is not None:
            return super().fingerprint(registry)
        return hashlib.sha256(f"torchaudio:{self.bundle_name}".encode()).hexdigest()
