"""Speech models of torchaudio and of Hugging Face under one face."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchaudio
from torch import Tensor, nn

from dynmm_framework.artifacts.pretrained import load_strictly
from dynmm_framework.artifacts.sources import default_cache
from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import Context
from dynmm_framework.specs import did_you_mean

RATE = 16_000
"""Samples in a second that the models were trained on."""


@dataclass(frozen=True)
class SpeechModel:
    """A frozen speech model.

    Attributes:
        module: The network.
        dim: Width of a frame.
        least: Samples that give one frame.
        masks_padding: Whether frames of a padded waveform are those of the waveform alone.
        forward: Returns frames ``(batch, time, dim)`` of waveforms ``(batch, samples)`` and of
            their true lengths, which are equal unless padding is masked.
        frames: Number of frames of so many samples.
    """

    module: nn.Module
    dim: int
    least: int
    masks_padding: bool
    forward: Callable[[Tensor, Tensor], Tensor]
    frames: Callable[[int], int]

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, list[int]]:
        """Returns the frames, and how many of each row are true."""
        hidden = self.forward(waveforms, lengths)
        return hidden.float(), [min(self.frames(int(n)), hidden.shape[1]) for n in lengths]


def from_folder(folder: Path) -> SpeechModel:
    """Loads a speech model of Hugging Face.

    Raises:
        ArtifactError: If it cannot be loaded, or is no speech model that reads waveforms.
    """
    from transformers import AutoModel

    if folder.is_file():
        raise ArtifactError(
            f"{folder} is a file; a speech model is a folder with config.json and "
            "model.safetensors",
            hint=f"Name its folder: {folder.parent}",
        )
    # Masked frames exist in pre-training only.
    model = load_strictly(AutoModel, folder, unused=("masked_spec_embed",))
    config = model.config
    kernels, strides = getattr(config, "conv_kernel", None), getattr(config, "conv_stride", None)
    if not kernels or not hasattr(model, "_get_feat_extract_output_lengths"):
        raise ArtifactError(
            f"{folder} holds a {type(model).__name__}, which is no speech model on waveforms",
            hint="Name a model of the wav2vec 2.0, HuBERT, WavLM or Data2Vec-Audio family.",
        )
    masks = getattr(config, "feat_extract_norm", "") == "layer"

    def forward(waveforms: Tensor, lengths: Tensor) -> Tensor:
        mask = None
        if masks:
            places = torch.arange(waveforms.shape[1], device=waveforms.device)
            mask = (places < lengths[:, None]).long()
        hidden: Tensor = model(waveforms, attention_mask=mask).last_hidden_state
        return hidden

    def frames(samples: int) -> int:
        return int(model._get_feat_extract_output_lengths(samples))

    least = _least(kernels, strides)
    return SpeechModel(model, config.hidden_size, least, masks, forward, frames)


def from_bundle(name: str, ctx: Context) -> SpeechModel:
    """Loads a speech model of torchaudio, downloaded if need be.

    Raises:
        ArtifactError: If there is no such bundle, or its weights cannot be had.
    """
    bundles = {
        key: value
        for key, value in vars(torchaudio.pipelines).items()
        if isinstance(value, torchaudio.pipelines.Wav2Vec2Bundle)
    }
    if name not in bundles:
        raise ArtifactError(
            f"torchaudio has no speech model {name!r}{did_you_mean(name, bundles)}",
            hint=f"It has: {', '.join(sorted(bundles))}.",
        )
    folder = default_cache() / "torchaudio"
    options: dict[str, Any] = {"model_dir": str(folder), "progress": False, "weights_only": True}
    instead = "Without a network: a folder of your own (model: ./wav2vec2 with model.safetensors)."
    file = folder / Path(getattr(bundles[name], "_path", "")).name
    if ctx.offline and not file.is_file():
        raise ArtifactError(
            f"torchaudio's weights {name} are not in {folder}, and fetching is not allowed "
            "(offline)",
            hint=f"Run once without --offline. {instead}",
        )
    ctx.log(f"torchaudio's weights {name} (cached in {folder})")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it announces downloads there
            module = bundles[name].get_model(dl_kwargs=options)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtifactError(
            f"torchaudio's weights {name} cannot be had or loaded: {type(error).__name__}: "
            f"{reason}",
            hint=f"Check the network, or remove what is in {folder} and try again. {instead}",
        ) from error
    return from_torchaudio(module)


def from_torchaudio(module: nn.Module) -> SpeechModel:
    """Wraps a ``torchaudio.models.Wav2Vec2Model``, as bundles build it."""
    inner: Any = module
    while not hasattr(inner, "feature_extractor"):  # a wrapper that normalises waveforms
        inner = inner.model
    layers = inner.feature_extractor.conv_layers
    kernels = [layer.kernel_size for layer in layers]
    strides = [layer.stride for layer in layers]

    def forward(waveforms: Tensor, lengths: Tensor) -> Tensor:
        hidden: Tensor = module(waveforms)[0]
        return hidden

    def frames(samples: int) -> int:
        for kernel, stride in zip(kernels, strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    dim = inner.encoder.feature_projection.projection.out_features
    return SpeechModel(module, dim, _least(kernels, strides), False, forward, frames)


def _least(kernels: Any, strides: Any) -> int:
    """Returns how many samples give one frame: 400 for the usual layers."""
    samples = 1
    for kernel, stride in zip(reversed(list(kernels)), reversed(list(strides)), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples
