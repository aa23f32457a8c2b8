"""The door of TALLRec."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``tallrec``."""
    return [
        ComponentSpec(
            name="tallrec",
            target="dynmm_plugins.tallrec.model:TALLRec",
            config="dynmm_plugins.tallrec.config:TALLRecConfig",
            summary="A language model adapted to say Yes or No (TALLRec: Bao et al., RecSys 2023)",
            requires=("torch", "transformers", "peft"),
            extra="llm",
        )
    ]
