"""CLIP's two towers, through open_clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.artifacts.weights import (
    check_fit,
    check_weights,
    locate,
    tensor_shapes,
    weights_file,
)
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.protocols import Context, FloatArray
from dynmm_framework.specs import did_you_mean
from dynmm_framework.training.seeding import seeded
from dynmm_plugins.clip.config import ClipConfig

SETTINGS = "open_clip_config.json"
"""Stands beside the weights in open_clip's repositories: model and preprocessing."""
INSTEAD = (
    "Without a hub: weights of your own (model: ./folder with open_clip_model.safetensors), or the "
    "encoder timm_image, whose default weights come from the Python package index."
)
_TRY_AGAIN = "Check the network and try again."

_CONVERT_MINE = (
    "dynmm artifact convert FILE -o clip.safetensors, and name it: model: ./clip.safetensors, "
    "with its architecture."
)


class Clip:
    """Contrastive language-image pre-training (Radford et al., ICML 2021, arXiv:2103.00020).

    Pictures are resized, cropped and normalised as the checkpoint's own configuration says
    (224 × 224 bicubic with CLIP's mean and deviation for OpenAI's). Vectors are L2-normalised, so
    inner products of pictures and texts are CLIP's cosines.

    Shapes: ``(batch, 3, height, width)`` to ``(batch, dim)``; 512 for ViT-B/32.
    """

    modality = "image"

    def __init__(self, config: ClipConfig) -> None:
        self.config = config
        self.dim = 0
        self._model: Any = None
        self._transform: Any = None
        self._tokenize: Any = None
        self._device = "cpu"

    def load(self, ctx: Context) -> None:
        settings, file, tokenizer = self._find(ctx)
        preprocessing = _preprocessing(settings)
        with seeded(ctx, "weights"):
            model = _build(settings["model_cfg"], file, settings["name"])
        preprocessing["size"] = model.visual.image_size
        self._transform = image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)
        self._tokenize = tokenizer
        self._device = ctx.device
        self._model = model.eval().requires_grad_(False).to(ctx.device)
        size = model.visual.image_size
        height, width = size if isinstance(size, Sequence) else (size, size)
        self.dim = self.encode([np.zeros((3, height, width), np.float32)]).shape[1]

    def prepare(self, value: Image) -> NDArray[np.float32]:
        """Resizes, crops and normalises a picture, ``(3, height, width)``."""
        if self._transform is None:
            raise StageError("clip is not loaded", hint="Call load first.")
        pixels: NDArray[np.float32] = self._transform(value).numpy()
        return pixels

    @torch.inference_mode()
    def encode(self, batch: Sequence[NDArray[np.float32]]) -> FloatArray:
        model = self._loaded()
        if not batch:
            return np.empty((0, self.dim), np.float32)
        pixels = torch.from_numpy(np.stack(batch)).to(self._device)  # (batch, 3, height, width)
        vectors: Tensor = model.encode_image(pixels, normalize=True)
        return vectors.float().cpu().numpy()

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Encodes texts into the space of the pictures, ``(len(texts), dim)``, L2-normalised.

        Args:
            texts: Labels or short sentences; what exceeds the context (77 tokens for OpenAI's) is
                cut.
        """
        model = self._loaded()
        if not texts:
            return np.empty((0, self.dim), np.float32)
        tokens = self._tokenize()(list(texts)).to(self._device)  # (batch, context)
        vectors: Tensor = model.encode_text(tokens, normalize=True)
        return vectors.float().cpu().numpy()

    def _loaded(self) -> Any:
        if self._model is None:
            raise StageError("clip is not loaded", hint="Call load first.")
        return self._model

    def _find(self, ctx: Context) -> tuple[Mapping[str, Any], Path, Any]:
        """Returns the settings, the safetensors file, and what makes the tokenizer."""
        config = self.config
        name, tag = config.checkpoint
        if config.model is None:
            known = open_clip.pretrained.get_pretrained_cfg(name, tag)
            settings = {"name": name, "model_cfg": _architecture(name), "preprocess_cfg": known}
            if not known:
                tags = open_clip.list_pretrained_tags_by_model(name)
                raise ArtifactError(
                    f"open_clip has no weights {tag!r} for {name}{did_you_mean(tag, tags)}",
                    hint=f"It has: {', '.join(tags) or 'none'}.",
                )
            return settings, _download(name, tag, known, ctx), lambda: open_clip.get_tokenizer(name)
        file = weights_file(
            locate(config.model, config.revision, ctx, instead=INSTEAD),
            preferred=("open_clip_model.safetensors", "model.safetensors"),
        )
        beside = file.parent / SETTINGS
        if config.architecture is None and beside.is_file():
            settings = read_json(beside)
            if not isinstance(settings.get("model_cfg"), dict):
                raise ArtifactError(
                    f"{beside} has no model_cfg", hint="Restore it, or set architecture."
                )
            source = f"local-dir:{file.parent}"
            settings["name"] = f"{beside} describes"
            return settings, file, lambda: open_clip.get_tokenizer(source)
        settings = {"name": name, "model_cfg": _architecture(name)}
        return settings, file, lambda: open_clip.get_tokenizer(name)


def _architecture(name: str) -> dict[str, Any]:
    found = open_clip.get_model_config(name)
    if found is None:
        names = open_clip.list_models()
        raise ArtifactError(
            f"open_clip has no architecture {name!r}{did_you_mean(name, names)}",
            hint="open_clip.list_models() lists them.",
        )
    return dict(found)


def _download(name: str, tag: str, known: Mapping[str, Any], ctx: Context) -> Path:
    """Fetches open_clip's own weights from the hub, as safetensors and nothing else."""
    title = f"CLIP's weights {name}/{tag}"
    repository, _, file = str(known.get("hf_hub") or "").rpartition("/")
    if not repository:
        raise ArtifactError(
            f"{title} exist as a pickled checkpoint only ({known.get('url')}), which could run "
            "code when it is loaded",
            hint=f"Download it, then: {_CONVERT_MINE}",
        )
    if not ctx.offline:
        ctx.log(f"{title}: looking them up on the hub, in {repository}")
    safe = [f"{Path(file).stem}.safetensors"] if file else []
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                repository,
                allow_patterns=[*safe, "open_clip_model.safetensors"],
                local_files_only=ctx.offline,
            )
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason, first = f"cannot be had from the hub ({repository}): {reason}", _TRY_AGAIN
        if ctx.offline:  # the library's own advice is to change its arguments
            reason = f"are not in the hub's cache ({repository}), and fetching is not allowed"
            reason, first = f"{reason} (offline)", "Run once without --offline."
        raise ArtifactError(f"{title} {reason}", hint=f"{first} {INSTEAD}") from error
    for candidate in (*safe, "open_clip_model.safetensors"):
        if (folder / candidate).is_file():
            ctx.log(f"{title}: {repository}, commit {folder.name}")
            check_weights(folder)
            return folder / candidate
    raise ArtifactError(
        f"{title}: {repository} has no safetensors file, and pickles are never loaded from the hub",
        hint=f"Download {file or 'its checkpoint'}, then: {_CONVERT_MINE}",
    )


def _preprocessing(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(PreprocessCfg)}
    given = settings.get("preprocess_cfg") or {}
    return {name: value for name, value in given.items() if name in names and value is not None}


def _build(model_cfg: Mapping[str, Any], file: Path, name: str) -> nn.Module:
    """Builds the model and loads its weights, all of them and no others.

    Raises:
        ArtifactError: If the configuration is not one of open_clip's, or the weights do not fit.
    """
    settings = deepcopy(dict(model_cfg))
    custom = settings.pop("custom_text", False) or "hf_model_name" in settings.get("text_cfg", {})
    kind = open_clip.CLIP
    if custom:
        kind = open_clip.CoCa if "multimodal_cfg" in settings else open_clip.CustomTextCLIP
    if "timm_model_name" in settings.get("vision_cfg", {}):
        settings["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in settings.get("text_cfg", {}):
        settings["text_cfg"]["hf_model_pretrained"] = False
    try:
        model: nn.Module = kind(**settings)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise ArtifactError(
            f"what {name} is not a configuration that open_clip {open_clip.__version__} can build: "
            f"{error}",
            hint="Restore it, or set architecture.",
        ) from error
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = tensor_shapes(file)
    # Old checkpoints carry the positions of tokens, which are only a count.
    extra = [key for key in found if key.endswith("position_ids") and key not in wanted]
    fitting = {key: shape for key, shape in found.items() if key not in extra}
    check_fit(wanted, fitting, file=file, architecture=name)
    weights = load_file(file)
    model.load_state_dict({key: weights[key] for key in fitting})
    return model
