"""CLIP's two towers, against open_clip's own loading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import open_clip
import pytest
import torch
from encoder_checkpoints import DAMAGE, context, save_weights, spoil
from PIL import Image
from pydantic import ValidationError

from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.testing import EncoderConformance
from dynmm_plugins.clip import model as module
from dynmm_plugins.clip.config import ClipConfig
from dynmm_plugins.clip.model import Clip

MODEL = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESSING = {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7], "interpolation": "bicubic"}
LABELS = ["a photograph of stars", "the sea", "", "a very long label " * 30]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, as one of open_clip's repositories on the hub."""
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(open_clip.CLIP(**MODEL), folder / "open_clip_model.safetensors")
    settings = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return folder


class TestClipConformance(EncoderConformance):
    component: ClassVar[str] = "clip"
    config: ClassVar[dict[str, Any]] = {}
    alike: ClassVar[tuple[float, float]] = (0.8, 1.0)  # colours survive random layers

    @pytest.fixture
    def settings(self, checkpoint: Path) -> Mapping[str, Any]:
        return {"model": str(checkpoint)}


def loaded(ctx: Any = None, **settings: Any) -> Clip:
    encoder = Clip(ClipConfig(**settings))
    encoder.load(ctx or context())
    return encoder


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(50, 80, 3), (32, 32, 3), (200, 90, 3)]
    return [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in sizes]


def test_both_towers_are_those_of_open_clip(checkpoint: Path) -> None:
    name = f"local-dir:{checkpoint}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    tokenize = open_clip.get_tokenizer(name)
    with torch.no_grad():
        images = model.eval().encode_image(torch.stack([transform(p) for p in pictures()]))
        texts = model.encode_text(tokenize(LABELS))
    encoder = loaded(model=str(checkpoint))
    assert encoder.dim == 24
    found = encoder.encode([encoder.prepare(p) for p in pictures()])
    expected = torch.nn.functional.normalize(images, dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    expected = torch.nn.functional.normalize(texts, dim=1).numpy()
    np.testing.assert_allclose(encoder.encode_texts(LABELS), expected, atol=1e-5)
    assert encoder.encode_texts([]).shape == (0, 24)


def test_a_checkpoint_brings_its_own_preprocessing(checkpoint: Path) -> None:
    prepared = loaded(model=str(checkpoint)).prepare(Image.new("RGB", (40, 60), (255, 0, 0)))
    assert prepared.shape == (3, 32, 32)
    expected = [(1 - 0.2) / 0.5, -0.3 / 0.6, -0.4 / 0.7]
    np.testing.assert_allclose(prepared[:, 7, 7], expected, atol=1e-5)


def test_a_file_alone_is_of_the_named_architecture(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes((checkpoint / "open_clip_model.safetensors").read_bytes())
    known = {"tiny-clip": MODEL}
    monkeypatch.setattr(module.open_clip, "get_model_config", lambda name: known.get(name))
    monkeypatch.setattr(module.open_clip, "list_models", lambda: list(known))
    encoder = loaded(model=str(file), architecture="tiny-clip")
    prepared = encoder.prepare(Image.new("RGB", (32, 32)))
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    np.testing.assert_allclose(prepared[:, 0, 0], -np.array(mean) / std, atol=1e-5)
    with pytest.raises(ArtifactError, match="no architecture 'tiny-klip'; did you mean tiny-clip"):
        loaded(model=str(file), architecture="tiny-klip")


def test_weights_are_compared_with_the_architecture_that_is_named(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], "width": 48}}
    monkeypatch.setattr(module, "_architecture", lambda name: wider)
    with pytest.raises(ArtifactError, match="of another architecture than wide-clip: ") as caught:
        loaded(model=str(checkpoint), architecture="wide-clip")
    assert "visual.class_embedding is 32, not 48" in caught.value.message


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights_are_one_clear_error(checkpoint: Path, tmp_path: Path, how: str) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path / "open_clip_model.safetensors", how)
    with pytest.raises(ArtifactError, match=DAMAGE[how]) as caught:
        loaded(model=str(tmp_path))
    assert str(tmp_path / "open_clip_model.safetensors") in caught.value.message


def test_settings_that_open_clip_cannot_build_are_named(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    described = tmp_path / "open_clip_config.json"
    described.write_text('{"model_cfg": {"embed_dim": 4, "eyes": 2}}')
    with pytest.raises(
        ArtifactError, match=r"config\.json describes is not a configuration .* can build"
    ):
        loaded(model=str(tmp_path))
    described.write_text("{}")
    with pytest.raises(ArtifactError, match=r"open_clip_config\.json has no model_cfg"):
        loaded(model=str(tmp_path))


def test_open_clip_s_own_weights_are_downloaded_as_safetensors(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def download(repository: str, **options: Any) -> str:
        asked.append((repository, options))
        return str(checkpoint)

    monkeypatch.setattr(module.huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(module, "_architecture", lambda name: MODEL)
    ctx = context()
    encoder = loaded(ctx)
    ((repository, options),) = asked
    assert repository == "timm/vit_base_patch32_clip_224.openai"
    assert options == {
        "allow_patterns": ["open_clip_model.safetensors"], "local_files_only": False
    }  # fmt: skip
    assert ctx.lines[-1].endswith(f"{repository}, commit {checkpoint.name}")
    vectors = encoder.encode([encoder.prepare(p) for p in pictures()])
    assert vectors.shape == (3, 24)
    mean = np.array(open_clip.OPENAI_DATASET_MEAN) / open_clip.OPENAI_DATASET_STD
    black = encoder.prepare(Image.new("RGB", (32, 32)))
    np.testing.assert_allclose(black[:, 0, 0], -mean, atol=1e-5)
    loaded(context(offline=True))
    assert asked[1][1]["local_files_only"] is True


def test_weights_out_of_reach_name_the_other_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(repository: str, **options: Any) -> str:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(module.huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ArtifactError) as caught:
        loaded()
    assert "CLIP's weights ViT-B-32-quickgelu/openai cannot be had" in caught.value.message
    assert caught.value.message.endswith("no route to host")
    for way in ("model: ./folder with open_clip_model.safetensors", "timm_image"):
        assert way in caught.value.hint
    with pytest.raises(ArtifactError, match=r"are not in the hub's cache .*\(offline\)") as caught:
        loaded(context(offline=True))
    assert caught.value.hint.startswith("Run once without --offline. Without a hub: ")


def test_weights_that_are_pickles_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module.huggingface_hub, "snapshot_download", lambda repository, **options: str(tmp_path)
    )
    with pytest.raises(ArtifactError, match=r"has no safetensors file.*\n.*dynmm artifact convert"):
        loaded()
    known = {"url": "https://example.org/ViT.pt"}
    monkeypatch.setattr(module.open_clip.pretrained, "get_pretrained_cfg", lambda *name: known)
    with pytest.raises(ArtifactError, match=r"only \(https://example\.org/ViT\.pt\).*\n.*convert"):
        loaded()


def test_unknown_names_and_two_checkpoints_are_refused() -> None:
    with pytest.raises(ArtifactError, match=r"has no weights 'openay' .*did you mean openai"):
        loaded(pretrained="openay")
    with pytest.raises(ValidationError, match="both name weights; leave one out"):
        ClipConfig(model="./weights", pretrained="openai")
    with pytest.raises(StageError, match="clip is not loaded\n  Call load first"):
        Clip(ClipConfig()).encode_texts(["a"])


def test_the_fingerprint_follows_the_weights(checkpoint: Path) -> None:
    registry: Any = None
    configs = [
        ClipConfig(),
        ClipConfig(pretrained="laion2b_s34b_b79k"),
        ClipConfig(architecture="ViT-B-16"),
        ClipConfig(model=str(checkpoint)),
    ]
    assert len({config.fingerprint(registry) for config in configs}) == 4
    named = ClipConfig(architecture="ViT-B-32-quickgelu", pretrained="openai")
    assert named.fingerprint(registry) == configs[0].fingerprint(registry)
