"""The door of texts by TF-IDF and truncated SVD."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_encoders() -> list[ComponentSpec]:
    """Registers ``tfidf_text``."""
    return [
        ComponentSpec(
            name="tfidf_text",
            target="dynmm_plugins.tfidf_text.model:TfidfText",
            config="dynmm_plugins.tfidf_text.config:TfidfTextConfig",
            modalities=("text",),
            summary="Text by TF-IDF and truncated SVD, without a network (Deerwester et al., 1990)",
            requires=("sklearn",),
            extra="text",
        )
    ]
