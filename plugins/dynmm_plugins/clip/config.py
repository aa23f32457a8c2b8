"""Settings of images by CLIP."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pydantic import model_validator

from dynmm_framework.artifacts.weights import WeightsConfig

if TYPE_CHECKING:
    from dynmm_framework.artifacts.records import Registry


class ClipConfig(WeightsConfig):
    """Settings of images by CLIP."""

    architecture: str | None = None
    """open_clip's name of the model; null is ``ViT-B-32-quickgelu``, or what the
    ``open_clip_config.json`` beside the weights says. OpenAI's weights need a ``-quickgelu`` one.
    """
    pretrained: str | None = None
    """open_clip's name of downloadable weights of the architecture; null is ``openai``, unless
    ``model`` names other weights.
    """
    model: str | None = None
    """Other weights: a model record, a safetensors file, a folder, or ``owner/name`` of one of
    open_clip's repositories on the hub, which needs a ``revision``.
    """

    @model_validator(mode="after")
    def _names_one_checkpoint(self) -> ClipConfig:
        if self.model is not None and self.pretrained is not None:
            raise ValueError(
                f"pretrained ({self.pretrained}) and model ({self.model}) both name weights; "
                "leave one out"
            )
        return self

    @property
    def checkpoint(self) -> tuple[str, str]:
        """Architecture and name of open_clip's own weights."""
        return self.architecture or "ViT-B-32-quickgelu", self.pretrained or "openai"

    def fingerprint(self, registry: Registry) -> str:
        if self.model is not None:
            return super().fingerprint(registry)
        return hashlib.sha256("open_clip:{}/{}".format(*self.checkpoint).encode()).hexdigest()
