"""Settings of images by the networks of timm."""

from __future__ import annotations

from dynmm_framework.artifacts.weights import WeightsConfig


class TimmImageConfig(WeightsConfig):
    """Settings of images by the networks of timm."""

    model: str = "efficientnet_lite1"
    """The weights: a model record, a safetensors file, a folder, or ``owner/name`` of one of timm's
    repositories on the hub (``timm/resnet50.a1_in1k``), which needs a ``revision``.
    """
    architecture: str | None = None
    """timm's name of the network, such as ``resnet50``; null takes it from the ``config.json``
    beside the weights. The record knows its own.
    """
    normalise: bool = False
    """Bring the vectors to length 1."""
