"""The door of Chat-REC."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``chat_rec``."""
    return [
        ComponentSpec(
            name="chat_rec",
            target="dynmm_plugins.chat_rec.model:ChatRec",
            config="dynmm_plugins.chat_rec.config:ChatRecConfig",
            summary="A chat model re-ranks the best of a recommender (Chat-REC: Gao et al., 2023)",
            requires=("torch", "transformers"),
            extra="llm",
        )
    ]
