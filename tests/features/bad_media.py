"""Media that real catalogues hold: right ones of every kind, and wrong ones of every kind."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

RED = (200, 30, 20)


def encoded(image: Image.Image, form: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def picture(width: int = 40, height: int = 30) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it has bytes: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(b"\0" * 100)),
            chunk(b"IEND", b""),
        ]
    )


def damaged_png() -> bytes:
    data = bytearray(encoded(picture(), "PNG"))
    data[60:80] = b"\xff" * 20
    return bytes(data)


BAD_IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (lambda: b"", "empty file"),
    "page.jpg": (lambda: b"<!doctype html><p>404</p>" * 20, "not an image"),
    "text.png": (lambda: b"hello", "not an image"),
    "noise.png": (lambda: bytes(range(256)) * 4, "not an image"),
    "pointer.jpg": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "cut.jpg": (lambda: encoded(picture(200, 200), "JPEG")[:2000], "truncated"),
    "cut.png": (lambda: encoded(picture(200, 200), "PNG")[:2000], "truncated"),
    "header.jpg": (lambda: encoded(picture(), "JPEG")[:3], "not an image"),
    "damaged.png": (damaged_png, "undecodable"),
    "bomb.png": (lambda: png_header(60_000, 60_000), "too many pixels"),
    "large.png": (lambda: png_header(9_000, 9_000), "too many pixels"),
    "dot.gif": (lambda: encoded(Image.new("L", (1, 1)), "GIF"), "too small an image"),
    "strip.png": (lambda: encoded(Image.new("L", (10, 2000)), "PNG"), "too long a strip"),
    "script.eps": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n",
        "not an image",
    ),
}


def wav(
    samples: np.ndarray, rate: int = 16_000, *, channels: int = 1, claimed: int | None = None
) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.astype("<i2").tobytes())
    data = bytearray(file.getvalue())
    if claimed is not None:
        data[40:44] = struct.pack("<I", claimed)
    return bytes(data)


def tone(seconds: float = 0.25, rate: int = 16_000) -> np.ndarray:
    return np.rint(9_000 * np.sin(np.arange(int(seconds * rate)) * 0.2))


def float_wav(value: float) -> bytes:
    import soundfile

    file = io.BytesIO()
    samples = np.zeros(1000, np.float32)
    samples[500] = value
    soundfile.write(file, samples, 8000, format="WAV", subtype="FLOAT")
    return file.getvalue()


BAD_SOUNDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.wav": (lambda: b"", "empty file"),
    "page.mp3": (lambda: b"<!doctype html><p>404</p>" * 20, "not a sound"),
    "header.wav": (lambda: wav(tone())[:20], "not a sound"),
    "pointer.wav": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "nothing.wav": (lambda: wav(np.empty(0)), "zero length"),
    "silent.wav": (lambda: wav(np.zeros(4000)), "silent"),
    "hiss.wav": (lambda: wav(np.resize([0, 1, -1], 4000)), "silent"),
    "nan.wav": (lambda: float_wav(np.nan), "undecodable"),
    "slow.wav": (lambda: wav(tone(), rate=3), "an implausible sample rate"),
}


def write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path
