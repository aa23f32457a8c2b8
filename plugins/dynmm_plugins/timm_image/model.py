"""Image networks of timm, cut before their classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.artifacts.convert import converted
from dynmm_framework.artifacts.weights import check_fit, locate, tensor_shapes, weights_file
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import Context, FloatArray
from dynmm_framework.specs import did_you_mean
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.timm_image.config import TimmImageConfig

RECORDS: Mapping[str, str] = {"efficientnet_lite1": "tf_efficientnet_lite1"}
"""Records of the registry whose tensors have other names than timm's but stand in its order."""


class Checkpoint(NamedTuple):
    """Weights that were found.

    Attributes:
        file: The safetensors file.
        architecture: timm's name of the network.
        settings: Arguments of the network and its ``pretrained_cfg``, from ``config.json``.
        order: Names of the tensors in the order of timm's own, where the names are others.
    """

    file: Path
    architecture: str
    settings: Mapping[str, Any]
    order: Sequence[str] = ()


class TimmImage:
    """A convolutional network or vision transformer of timm (Wightman, 2019), frozen.

    The default is EfficientNet-Lite1 (Tan & Le, ICML 2019; the Lite variant has no squeeze and
    excitation) trained on ImageNet: 1,280 pooled features of a 240 × 240 picture. Pictures are
    resized, cropped and normalised as the network's own configuration says; what is returned is
    what its classifier would see.

    A batch is one forward pass, ``(batch, 3, height, width)``.
    """

    modality = "image"

    def __init__(self, config: TimmImageConfig) -> None:
        self.config = config
        self.dim = 0
        self._model: nn.Module | None = None
        self._transform: Any = None
        self._device = "cpu"

    def load(self, ctx: Context) -> None:
        checkpoint = self._find(ctx)
        with seeded(ctx, "weights"):
            model = _build(checkpoint)
        data = resolve_model_data_config(model)
        self._transform = create_transform(**data, is_training=False)
        self._device = ctx.device
        model = model.to(ctx.device, memory_format=torch.channels_last)
        self._model = model.eval().requires_grad_(False)
        self.dim = self.encode([np.zeros(data["input_size"], np.float32)]).shape[1]

    def prepare(self, value: Image) -> NDArray[np.float32]:
        """Resizes, crops and normalises a picture, ``(3, height, width)``."""
        if self._transform is None:
            raise StageError("timm_image is not loaded", hint="Call load first.")
        pixels: NDArray[np.float32] = self._transform(value).numpy()
        return pixels

    @torch.inference_mode()
    def encode(self, batch: Sequence[NDArray[np.float32]]) -> FloatArray:
        if self._model is None:
            raise StageError("timm_image is not loaded", hint="Call load first.")
        if not batch:
            return np.empty((0, self.dim), np.float32)
        pixels = torch.from_numpy(np.stack(batch))  # (batch, 3, height, width)
        # Convolutions of this memory order are 1.6 times as fast on a CPU.
        pixels = pixels.to(self._device).contiguous(memory_format=torch.channels_last)
        vectors: Tensor = self._model(pixels).float()
        if self.config.normalise:
            vectors = nn.functional.normalize(vectors, dim=1)
        return vectors.cpu().numpy()

    def _find(self, ctx: Context) -> Checkpoint:
        config = self.config
        found = locate(
            config.model,
            config.revision,
            ctx,
            instead="Without a hub: the record efficientnet_lite1.",
        )
        if config.model in RECORDS:
            # A record's files are known by their digests, so they are converted without asking.
            (source,) = found.glob("*.pth")
            conversion = converted(source)
            architecture = config.architecture or RECORDS[config.model]
            return Checkpoint(conversion.path, architecture, {}, tuple(conversion.tensors))
        file = weights_file(found)
        described = file.parent / "config.json"
        settings = read_json(described) if described.is_file() else {}
        architecture = config.architecture or settings.get("architecture")
        if not architecture:
            raise ArtifactError(
                f"{file} does not say which network it is for",
                hint="Set architecture to timm's name of it, such as resnet50.",
            )
        return Checkpoint(file, architecture, settings)


def _build(checkpoint: Checkpoint) -> nn.Module:
    """Builds the network with a checkpoint's weights and without its classifier.

    Raises:
        ArtifactError: If timm has no such network, or the weights are of another.
    """
    name = checkpoint.architecture
    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        raise ArtifactError(
            f"timm has no network {name!r}{did_you_mean(bare, timm.list_models())}",
            hint="timm.list_models() lists them.",
        )
    settings = dict(checkpoint.settings.get("model_args", {}))
    if checkpoint.settings.get("global_pool"):
        settings["global_pool"] = checkpoint.settings["global_pool"]
    described = checkpoint.settings.get("pretrained_cfg")
    # The classifier is built with as many classes as the file has, so that every weight counts.
    found = tensor_shapes(checkpoint.file)
    model = timm.create_model(bare, pretrained=False, pretrained_cfg_overlay=described, **settings)
    classifier = _classifier(model)
    if checkpoint.order:
        found = {name: found[name] for name in checkpoint.order}
    names = _renamed(model, found) if checkpoint.order else {name: name for name in found}
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    renamed = {names[key]: shape for key, shape in found.items() if key in names}
    body = {k: shape for k, shape in wanted.items() if not k.startswith(classifier)}
    check_fit(
        body,
        {k: shape for k, shape in renamed.items() if not k.startswith(classifier)},
        file=checkpoint.file,
        architecture=name,
    )
    weights = load_file(checkpoint.file)
    model.reset_classifier(0)
    model.load_state_dict({names[k]: v for k, v in weights.items() if names[k] in body})
    return model


def _classifier(model: Any) -> tuple[str, ...]:
    """Returns how the names of the classifier's weights begin."""
    names = model.pretrained_cfg.get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _renamed(model: nn.Module, found: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Gives tensors the names that timm's have in the same places."""
    own = list(model.state_dict())
    if len(own) != len(found):
        return {name: name for name in found}  # the comparison that follows explains it
    return dict(zip(found, own, strict=True))
