"""The door of the sentence encoder of texts."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_encoders() -> list[ComponentSpec]:
    """Registers ``sentence_text``."""
    return [
        ComponentSpec(
            name="sentence_text",
            target="dynmm_plugins.sentence_text.model:SentenceText",
            config="dynmm_plugins.sentence_text.config:SentenceTextConfig",
            modalities=("text",),
            summary="Text by any sentence encoder (Reimers & Gurevych, EMNLP 2019)",
            requires=("torch", "transformers", "sentence_transformers"),
            extra="text",
        )
    ]
