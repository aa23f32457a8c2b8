"""The door of sounds by wav2vec 2.0."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_encoders() -> list[ComponentSpec]:
    """Registers ``wav2vec2``."""
    return [
        ComponentSpec(
            name="wav2vec2",
            target="dynmm_plugins.wav2vec2.model:Wav2Vec2",
            config="dynmm_plugins.wav2vec2.config:Wav2Vec2Config",
            modalities=("audio",),
            summary="Sounds by wav2vec 2.0 (Baevski et al., NeurIPS 2020)",
            requires=("torch", "torchaudio"),
            extra="audio",
        )
    ]
