"""Image vectors, against timm's own models and transforms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import timm
import torch
from encoder_checkpoints import DAMAGE, context, save_timm_image, spoil
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.testing import EncoderConformance
from dynmm_plugins.timm_image import model as module
from dynmm_plugins.timm_image.config import TimmImageConfig
from dynmm_plugins.timm_image.model import TimmImage

NAME = "test_resnet"  # timm's own network for tests


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with random weights, as one of timm's repositories on the hub."""
    return save_timm_image(tmp_path_factory.mktemp("timm"))


class TestTimmImageConformance(EncoderConformance):
    component: ClassVar[str] = "timm_image"
    config: ClassVar[dict[str, Any]] = {}
    alike: ClassVar[tuple[float, float]] = (0.8, 1.0)  # colours survive random convolutions

    @pytest.fixture
    def settings(self, checkpoint: Path) -> Mapping[str, Any]:
        return {"model": str(checkpoint)}


def loaded(**settings: Any) -> TimmImage:
    encoder = TimmImage(TimmImageConfig(**settings))
    encoder.load(context())
    return encoder


def picture(width: int = 90, height: int = 70) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def oracle(checkpoint: Path, **overlay: Any) -> tuple[torch.nn.Module, Any]:
    network = timm.create_model(
        NAME, num_classes=7, checkpoint_path=str(checkpoint / "model.safetensors"),
        pretrained_cfg_overlay=overlay,
    )  # fmt: skip
    network.reset_classifier(0)
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    return network.eval(), transform


def test_vectors_are_what_the_classifier_would_see(checkpoint: Path) -> None:
    network, transform = oracle(checkpoint, input_size=(3, 64, 64), mean=(0.1, 0.2, 0.3))
    pictures = [picture(), picture(40, 200)]
    with torch.no_grad():
        expected = network(torch.stack([transform(p) for p in pictures])).numpy()
    encoder = loaded(model=str(checkpoint))
    prepared = [encoder.prepare(p) for p in pictures]
    assert [p.shape for p in prepared] == [(3, 64, 64)] * 2
    assert encoder.dim == expected.shape[1]
    np.testing.assert_allclose(encoder.encode(prepared), expected, rtol=1e-4, atol=1e-5)


def test_a_file_alone_needs_the_name_of_its_network(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="does not say which network it is for\n  Set archit"):
        loaded(model=str(file))
    with pytest.raises(ArtifactError, match="timm has no network 'test_resnett'; did you mean"):
        loaded(model=str(file), architecture="test_resnett")
    network, transform = oracle(checkpoint)  # timm's own preprocessing of it
    encoder = loaded(model=str(file), architecture=NAME)
    prepared = encoder.prepare(picture())
    np.testing.assert_array_equal(prepared, transform(picture()).numpy())
    vectors = encoder.encode([prepared])
    with torch.no_grad():
        expected = network(torch.from_numpy(prepared)[None]).numpy()
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    unit = loaded(model=str(file), architecture=NAME, normalise=True).encode([prepared])
    np.testing.assert_allclose(unit, vectors / np.linalg.norm(vectors), atol=1e-6)


def test_a_record_s_tensors_are_renamed_by_their_places(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = timm.create_model(NAME)
    other = {f"layer.{i}": v for i, v in enumerate(network.state_dict().values())}
    (tmp_path / "record").mkdir()
    torch.save(other, tmp_path / "record" / "net.pth")
    monkeypatch.setenv("DYNMM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "RECORDS", {"tiny_net": NAME})
    encoder = TimmImage(TimmImageConfig(model="tiny_net"))
    encoder.load(context(fetch=lambda record: tmp_path / "record"))
    prepared = encoder.prepare(picture())
    network.reset_classifier(0)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(prepared)[None]).numpy()
    np.testing.assert_allclose(encoder.encode([prepared]), expected, rtol=1e-4, atol=1e-5)
    swapped = dict(zip(other, reversed(other.values()), strict=True))
    torch.save(swapped, tmp_path / "record" / "net.pth")
    with pytest.raises(ArtifactError, match="another architecture than test_resnet"):
        encoder.load(context(fetch=lambda record: tmp_path / "record"))


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights_are_one_clear_error(checkpoint: Path, tmp_path: Path, how: str) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path / "model.safetensors", how)
    with pytest.raises(ArtifactError, match=DAMAGE[how]) as caught:
        loaded(model=str(tmp_path))
    assert str(tmp_path / "model.safetensors") in caught.value.message


def test_weights_of_another_network_and_pickles_are_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    file = str(checkpoint / "model.safetensors")
    with pytest.raises(ArtifactError, match="another architecture than test_vit"):
        loaded(model=file, architecture="test_vit")
    torch.save({"w": torch.ones(1)}, tmp_path / "net.pth")
    with pytest.raises(ArtifactError, match=r"is a pickled checkpoint.*\n.*dynmm artifact convert"):
        loaded(model=str(tmp_path / "net.pth"), architecture=NAME)


def test_work_before_loading_says_what_to_do() -> None:
    encoder = TimmImage(TimmImageConfig())
    for work in (lambda: encoder.prepare(picture()), lambda: encoder.encode([])):
        with pytest.raises(StageError, match="timm_image is not loaded\n  Call load first"):
            work()
