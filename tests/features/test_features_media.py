"""Every file ends in a picture, a sound or a reason."""

from __future__ import annotations

import io
import os
import resource
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from bad_media import BAD_IMAGES, BAD_SOUNDS, RED, encoded, picture, tone, wav, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dynmm_framework.features import media
from dynmm_framework.features.media import MediaError, load_image, load_sound

soundfile = pytest.importorskip("soundfile")


@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_image_has_one_reason(tmp_path: Path, name: str):
    make, reason = BAD_IMAGES[name]
    path = write(tmp_path, name, make())
    with pytest.raises(MediaError) as raised:
        load_image(path)
    assert raised.value.reason == reason
    assert str(raised.value) == f"{path}: {reason}"


@pytest.mark.parametrize("name", BAD_SOUNDS)
def test_a_bad_sound_has_one_reason(tmp_path: Path, name: str):
    make, reason = BAD_SOUNDS[name]
    with pytest.raises(MediaError) as raised:
        load_sound(write(tmp_path, name, make()))
    assert raised.value.reason == reason


@pytest.mark.parametrize("load", [load_image, load_sound])
def test_what_is_no_file_has_a_reason_too(tmp_path: Path, load, monkeypatch):
    assert _reason(load, tmp_path / "absent") == "no such file"
    assert _reason(load, tmp_path) == "not a file"
    assert _reason(load, "a\0b") == "unreadable file"
    assert _reason(load, write(tmp_path, "x", b"x") / "y") == "no such file"
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    assert _reason(load, tmp_path / "pipe") == "not a file"
    monkeypatch.setattr(media, "MAX_IMAGE_BYTES", 0)
    monkeypatch.setattr(media, "MAX_SOUND_BYTES", 0)
    assert _reason(load, tmp_path / "x") == "too large a file"


def _reason(load, path) -> str:
    with pytest.raises(MediaError) as raised:
        load(path)
    return raised.value.reason


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"),
        ("PNG", "LA"), ("PNG", "P"), ("PNG", "1"), ("GIF", "P"), ("BMP", "RGB"), ("WEBP", "RGB"),
        ("TIFF", "CMYK"), ("TIFF", "LAB"), ("PPM", "RGB"),
    ],
)  # fmt: skip
def test_every_form_and_mode_becomes_rgb(tmp_path: Path, form: str, mode: str):
    image = Image.new("RGB", (40, 30), RED)
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    loaded = load_image(write(tmp_path, "image", encoded(image, form)))
    assert (loaded.mode, loaded.size) == ("RGB", (40, 30))
    if mode in ("RGB", "RGBA", "CMYK", "P"):
        assert np.abs(np.asarray(loaded, int) - RED).max() <= 8


def test_sixteen_bits_are_scaled_rather_than_cut(tmp_path: Path):
    grey = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    for form in ("PNG", "TIFF"):
        loaded = load_image(write(tmp_path, form, encoded(Image.fromarray(grey), form)))
        assert np.abs(np.asarray(loaded, int)[..., 0] - grey / 257).max() <= 1


def test_floats_are_stretched_and_must_be_finite(tmp_path: Path):
    values = np.linspace(-2, 3, 400, dtype=np.float32).reshape(20, 20)
    loaded = np.asarray(load_image(write(tmp_path, "f", encoded(Image.fromarray(values), "TIFF"))))
    assert (loaded.min(), loaded.max()) == (0, 255)
    values[3, 3] = np.nan
    path = write(tmp_path, "nan", encoded(Image.fromarray(values), "TIFF"))
    assert _reason(load_image, path) == "undecodable"


def test_transparent_becomes_white(tmp_path: Path):
    image = Image.new("RGBA", (20, 20), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 20))
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, *RED])
    palette.paste(0, (0, 0, 10, 20))
    for name, data in {
        "rgba": encoded(image, "PNG"),
        "palette": encoded(palette, "PNG", transparency=0),
        "gif": encoded(palette, "GIF", transparency=0),
    }.items():
        loaded = load_image(write(tmp_path, name, data))
        assert loaded.getpixel((2, 2)) == (255, 255, 255), name
        assert loaded.getpixel((15, 2)) == RED, name


def test_the_first_frame_of_an_animation_counts(tmp_path: Path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, (0, 0, 0), (0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_image(write(tmp_path, "a.gif", data)).getpixel((5, 5)) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(tmp_path: Path, orientation: int):
    from PIL import ImageOps

    image = picture(40, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path, "turned.png", encoded(image, "PNG", exif=exif))
    with Image.open(path) as source:
        expected = np.asarray(ImageOps.exif_transpose(source))
    assert np.array_equal(np.asarray(load_image(path)), expected)


def test_a_vast_jpeg_is_decoded_small(tmp_path: Path):
    data = encoded(Image.new("RGB", (9_000, 9_000), RED), "JPEG")
    path = write(tmp_path, "vast.jpg", data)
    assert media.MAX_PIXELS < 9_000 * 9_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = load_image(path)
    assert loaded.size == (1125, 1125)
    assert loaded.getpixel((500, 500)) == pytest.approx(RED, abs=4)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 << 10  # not 243 MB


def test_a_large_picture_of_another_form_is_reduced(tmp_path: Path):
    path = write(tmp_path, "large.png", encoded(Image.new("RGB", (2_100, 3_000), RED), "PNG"))
    assert load_image(path).size == (1_050, 1_500)


def test_a_small_picture_keeps_every_pixel(tmp_path: Path):
    image = picture(224, 300)
    loaded = load_image(write(tmp_path, "poster.png", encoded(image, "PNG")))
    assert np.array_equal(np.asarray(loaded), np.asarray(image))
    write(tmp_path, "poster.png", b"")
    assert np.array_equal(np.asarray(loaded), np.asarray(image))  # detached from the file


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_never_raises_anything_else(tmp_path: Path, data):
    form = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "WAV", "FLAC"]))
    whole = bytearray(_sound(form) if form in ("WAV", "FLAC") else encoded(picture(), form))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6)):
        whole[place] = data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(1, len(whole)))]
    path = write(tmp_path, "file", bytes(whole))
    for load in (load_image, load_sound):
        with suppress(MediaError):
            load(path)


def _sound(form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone() / 2**15, 16_000, format=form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_every_form_of_sound_is_decoded(tmp_path: Path, form: str):
    samples = np.stack([tone(0.5, 22_050), -tone(0.5, 22_050)], axis=1) / 2**15
    path = tmp_path / "sound"
    soundfile.write(path, samples, 22_050, format=form)
    sound = load_sound(path)
    assert (sound.rate, sound.samples.shape[0], sound.samples.dtype) == (22_050, 2, np.float32)
    assert sound.seconds == pytest.approx(0.5, abs=0.06)  # lossy forms pad
    if form in ("WAV", "FLAC", "AIFF"):
        assert np.allclose(sound.samples, samples.T, atol=1e-4)


def test_many_channels_and_any_rate(tmp_path: Path):
    samples = np.repeat(tone(0.1, 96_000)[:, None], 6, axis=1)
    sound = load_sound(write(tmp_path, "six.wav", wav(samples, 96_000, channels=6)))
    assert sound.samples.shape == (6, 9_600)


def test_a_long_sound_is_read_in_part(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(media, "MAX_SECONDS", 2.0)
    sound = load_sound(write(tmp_path, "long.wav", wav(tone(5.0))))
    assert sound.seconds == 2.0
    monkeypatch.setattr(media, "MAX_SAMPLES", 1000)
    assert load_sound(tmp_path / "long.wav").samples.shape == (1, 1000)


def test_a_header_that_promises_too_much_is_not_believed(tmp_path: Path):
    sound = load_sound(write(tmp_path, "promise.wav", wav(tone(), claimed=2**31 - 1)))
    assert sound.samples.shape == (1, 4_000)


def test_what_precedes_damage_is_kept(tmp_path: Path):
    soundfile.write(tmp_path / "a.flac", np.tile(tone(1.0) / 2**15, 20), 16_000)
    data = (tmp_path / "a.flac").read_bytes()
    sound = load_sound(write(tmp_path, "cut.flac", data[: len(data) // 2]))
    assert 5 < sound.seconds < 15
