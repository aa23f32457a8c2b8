"""The door of the item-kNN baseline."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_baselines() -> list[ComponentSpec]:
    """Registers ``item_knn``."""
    return [
        ComponentSpec(
            name="item_knn",
            target="dynmm_plugins.item_knn.model:ItemKNN",
            config="dynmm_plugins.item_knn.config:ItemKNNConfig",
            summary="Cosine similarity to the history's items (Sarwar et al., WWW 2001)",
            requires=("scipy",),
            extra="torch",
        )
    ]
