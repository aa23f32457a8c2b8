"""Vectors of sounds, against transformers' and torchaudio's own forward pass on one clip."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torchaudio
from encoder_checkpoints import DAMAGE, context, save_wav2vec2, spoil
from pydantic import ValidationError
from transformers import BertConfig, BertModel, Wav2Vec2Model
from transformers import Wav2Vec2FeatureExtractor as Extractor

from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.features.media import Sound
from dynmm_framework.testing import EncoderConformance
from dynmm_plugins.wav2vec2 import config as settings_module
from dynmm_plugins.wav2vec2.model import Wav2Vec2
from dynmm_plugins.wav2vec2.network import from_torchaudio

RATE = 16_000


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normalises over time in its first layer, as Wav2Vec2-Base does."""
    return save_wav2vec2(tmp_path_factory.mktemp("base"), "group")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normalises each frame, as the large models do, which mask padding."""
    return save_wav2vec2(tmp_path_factory.mktemp("large"), "layer")


class TestWav2Vec2BaseConformance(EncoderConformance):
    component: ClassVar[str] = "wav2vec2"
    config: ClassVar[dict[str, Any]] = {}
    alike: ClassVar[tuple[float, float]] = (0.5, 1.0)  # pitches survive random layers

    @pytest.fixture
    def settings(self, base: Path) -> Mapping[str, Any]:
        return {"model": str(base)}


class TestWav2Vec2LargeConformance(EncoderConformance):
    component: ClassVar[str] = "wav2vec2"

    @pytest.fixture
    def settings(self, large: Path) -> Mapping[str, Any]:
        return {"model": str(large), "window_seconds": 0.15}


def loaded(folder: Path, **settings: Any) -> Wav2Vec2:
    encoder = Wav2Vec2(settings_module.Wav2Vec2Config(model=str(folder), **settings))
    encoder.load(context())
    return encoder


def noise(n: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (channels, n)).astype(np.float32)


def vectors(encoder: Wav2Vec2, *sounds: Sound) -> np.ndarray:
    return encoder.encode([encoder.prepare(sound) for sound in sounds])


def mean_of_frames(folder: Path, samples: np.ndarray) -> np.ndarray:
    """The oracle: one clip, whole, as transformers prepares and encodes it."""
    inputs = Extractor(do_normalize=True)(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        model = Wav2Vec2Model.from_pretrained(folder).eval()
        return model(inputs["input_values"]).last_hidden_state.mean(dim=1)[0].numpy()


@pytest.mark.parametrize("kind", ["base", "large"])
def test_a_vector_is_the_mean_of_a_clip_s_frames(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    clips = [noise(n, seed=n) for n in (9_000, 4_000, 9_000, 400, 12_345)]
    expected = np.stack([mean_of_frames(folder, clip[0]) for clip in clips])
    encoder = loaded(folder)
    assert encoder.dim == 16
    found = vectors(encoder, *(Sound(clip, RATE) for clip in clips))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3  # clips do differ


@pytest.mark.parametrize("kind", ["base", "large"])
def test_a_long_clip_is_the_mean_over_its_windows_by_frames(
    kind: str, request: pytest.FixtureRequest
) -> None:
    encoder = loaded(request.getfixturevalue(kind), window_seconds=0.5)
    whole = encoder.prepare(Sound(noise(3 * 8_000 + 5_000 + 1), RATE))
    found = encoder.encode([whole])[0]
    windows = [whole[start : start + 8_000] for start in range(0, len(whole), 8_000)]
    frames = [(len(window) - 400) // 320 + 1 for window in windows]
    assert frames == [24, 24, 24, 15]
    expected = np.average(encoder.encode(windows), axis=0, weights=frames)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # What is left is too short for a frame: it counts for nothing.
    np.testing.assert_allclose(encoder.encode([whole[:8_399]]), encoder.encode([whole[:8_000]]))


def test_many_windows_pass_in_several_batches(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = loaded(base, window_seconds=0.2)
    whole = encoder.prepare(Sound(noise(40_000), RATE))
    at_once = encoder.encode([whole, whole[:9_000]])
    monkeypatch.setattr("dynmm_plugins.wav2vec2.model.FORWARD_SAMPLES", 7_000)
    np.testing.assert_allclose(encoder.encode([whole, whole[:9_000]]), at_once, atol=1e-5)


def test_channels_are_averaged(base: Path) -> None:
    encoder = loaded(base)
    stereo = noise(8_000, channels=2)
    mono = stereo.mean(axis=0, keepdims=True)
    np.testing.assert_array_equal(
        vectors(encoder, Sound(stereo, RATE)), vectors(encoder, Sound(mono, RATE))
    )


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 44_101, 191_999])
def test_any_rate_becomes_16_khz(base: Path, rate: int) -> None:
    def tone(rate: int) -> Sound:
        seconds = np.arange(rate) / rate
        return Sound(np.sin(2 * np.pi * 440 * seconds)[None].astype(np.float32), rate)

    encoder = loaded(base)
    wanted, found = encoder.prepare(tone(RATE)), encoder.prepare(tone(rate))
    assert len(found) == pytest.approx(RATE, rel=1e-3)
    middle = slice(2_000, 14_000)  # a filter rings at the ends
    np.testing.assert_allclose(found[middle], wanted[middle], atol=0.06)


def test_loudness_and_offset_do_not_count(base: Path) -> None:
    encoder = loaded(base)
    clip = noise(6_000)
    prepared = encoder.prepare(Sound(clip, RATE))
    assert prepared.mean() == pytest.approx(0, abs=1e-5)
    assert prepared.std() == pytest.approx(1, abs=1e-4)
    louder = encoder.prepare(Sound(7 * clip + 0.3, RATE))
    np.testing.assert_allclose(louder, prepared, atol=1e-4)


def test_torchaudio_s_models_give_the_means_of_their_frames() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchaudio.models.wav2vec2_model(
            extractor_mode="group_norm",
            extractor_conv_layer_config=[(8, 10, 5), (8, 3, 2), (8, 2, 2)],
            extractor_conv_bias=False,
            encoder_embed_dim=12,
            encoder_projection_dropout=0.1,
            encoder_pos_conv_kernel=8,
            encoder_pos_conv_groups=2,
            encoder_num_layers=2,
            encoder_num_heads=2,
            encoder_attention_dropout=0.1,
            encoder_ff_interm_features=16,
            encoder_ff_interm_dropout=0.1,
            encoder_dropout=0.1,
            encoder_layer_norm_first=False,
            encoder_layer_drop=0.1,
            aux_num_out=None,
        ).eval()
    network = from_torchaudio(model)
    assert (network.dim, network.least, network.masks_padding) == (12, 30, False)
    waveform = torch.from_numpy(noise(700))
    hidden, (n,) = network(waveform, torch.tensor([700]))
    assert hidden.shape == (1, n, 12)
    assert network.frames(network.least) == 1
    assert network.frames(network.least - 1) < 1
    with torch.no_grad():
        assert torch.equal(hidden, model.extract_features(waveform)[0][-1])


def test_bundles_are_loaded_without_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fail(self: Any, *, dl_kwargs: Any = None) -> Any:
        asked.append(dl_kwargs)
        raise OSError("no route to host")

    monkeypatch.setattr(torchaudio.pipelines.Wav2Vec2Bundle, "get_model", fail)
    encoder = Wav2Vec2(settings_module.Wav2Vec2Config())
    with pytest.raises(ArtifactError) as caught:
        encoder.load(context())
    assert asked[0]["weights_only"] is True
    assert "weights WAV2VEC2_BASE cannot be had or loaded: OSError: no route" in str(caught.value)
    assert "a folder of your own (model: ./wav2vec2" in caught.value.hint
    with pytest.raises(ArtifactError, match=r"are not in .*fetching is not allowed \(offline\)"):
        encoder.load(context(offline=True))
    wrong = Wav2Vec2(settings_module.Wav2Vec2Config(bundle="WAV2VEC_BASE"))
    with pytest.raises(ArtifactError, match="no speech model 'WAV2VEC_BASE'; did you mean WAV2"):
        wrong.load(context())


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights_are_one_clear_error(base: Path, tmp_path: Path, how: str) -> None:
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    spoil(tmp_path / "model.safetensors", how)
    with pytest.raises(ArtifactError, match=DAMAGE[how]) as caught:
        loaded(tmp_path)
    assert str(tmp_path / "model.safetensors") in caught.value.message


def test_models_of_something_else_are_refused(base: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="holds a BertModel, which is no speech model"):
        loaded(tmp_path)
    with pytest.raises(ArtifactError, match="is a file; a speech model is a folder"):
        loaded(base / "model.safetensors")


def test_two_checkpoints_and_work_before_loading_are_refused() -> None:
    with pytest.raises(ValidationError, match="both name weights; leave one out"):
        settings_module.Wav2Vec2Config(model="./weights", bundle="HUBERT_BASE")
    with pytest.raises(StageError, match="wav2vec2 is not loaded\n  Call load first"):
        Wav2Vec2(settings_module.Wav2Vec2Config()).encode([np.zeros(400, np.float32)])
