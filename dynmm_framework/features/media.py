"""Images and sounds from files that may be anything: decoded and bounded, or one reason why not.

Whatever lies at a path, loading it ends in a picture, a sound or a :class:`MediaError`; it never
ends the run, fills the memory or executes something.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dynmm_framework.errors import ArtifactError, DynmmError
from dynmm_framework.protocols import FloatArray

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGE_BYTES = 64 << 20
"""Largest image file that is read."""
MAX_SOUND_BYTES = 4 << 30
"""Largest sound file that is opened; what is decoded of it is bounded by time."""
MAX_PIXELS = 64_000_000
"""Most pixels that are decoded; a larger JPEG is decoded at a reduced scale if that suffices."""
WORKING_SIDE = 1024
"""Images whose sides are all at least twice this are reduced by a whole factor, to save memory."""
MIN_SIDE = 8
"""A picture with a shorter side shows nothing; shops deliver 1 × 1 where there is no picture."""
MAX_ASPECT = 50
"""A longer strip would become huge when an encoder brings its short side to a fixed size."""
MAX_SECONDS = 180.0
"""How much of a sound is read; the rest is not even decoded."""
MAX_SAMPLES = 1 << 26
"""Most samples read of a sound, all channels together."""
SILENCE = 1e-4
"""A sound that never gets louder than this (-80 dB) is silent."""
RATES = (1_000, 1_000_000)
"""Plausible samples a second."""

_FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "AVIF", "JPEG2000",
)  # fmt: skip
_ORIENTATION = 0x0112  # the EXIF tag
_LFS = b"version https://git-lfs"


class MediaError(DynmmError):
    """A file cannot be used as an input; the item counts as missing.

    Args:
        reason: Why, in words that are the same for all files of the kind, so that they can be
            counted.
        path: The file.
    """

    def __init__(self, reason: str, path: str | os.PathLike[str] = "") -> None:
        self.reason = reason
        super().__init__(f"{os.fspath(path)}: {reason}" if path else reason)


@dataclass(frozen=True, eq=False)
class Sound:
    """A decoded sound.

    Attributes:
        samples: ``(channels, n)`` float32, mostly within -1 and 1.
        rate: Samples of a channel in a second.
    """

    samples: FloatArray
    rate: int

    @property
    def seconds(self) -> float:
        return float(self.samples.shape[1] / self.rate)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written: its size and its time of change."""

    size: int
    mtime_ns: int


def check_file(path: Path | str, *, modality: str) -> Stamp:
    """Looks at a file without reading it.

    Returns:
        Its stamp.

    Raises:
        MediaError: If it is missing, empty, too large or no file.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError("no such file", path) from None
    except (OSError, ValueError):  # a null character in the path is a ValueError
        raise MediaError("unreadable file", path) from None
    if not stat.S_ISREG(found.st_mode):
        raise MediaError("not a file", path)
    if not found.st_size:
        raise MediaError("empty file", path)
    if found.st_size > (MAX_IMAGE_BYTES if modality == "image" else MAX_SOUND_BYTES):
        raise MediaError("too large a file", path)
    return Stamp(found.st_size, found.st_mtime_ns)


def load_image(path: Path | str) -> Image.Image:
    """Decodes an image: the first frame, upright, on white where it is transparent.

    Args:
        path: A file of any of the common formats. A vast JPEG is decoded at a reduced scale.

    Returns:
        A picture of mode RGB, detached from the file.

    Raises:
        MediaError: If it is no usable image.
        ArtifactError: If the imaging library is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise _not_installed("images", "pillow", "vision") from error

    check_file(path, modality="image")
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except OSError:
        raise MediaError("unreadable file", path) from None
    if data.startswith(_LFS):
        raise MediaError("a Git LFS pointer", path)
    with _explaining(path):
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=_known_formats())
        except UnidentifiedImageError:
            raise MediaError("not an image", path) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise MediaError("too many pixels", path) from None
        with image:
            if image.format in ("JPEG", "MPO"):
                image.draft(None, (WORKING_SIDE, WORKING_SIDE))
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise MediaError("too many pixels", path)
            if min(width, height) < MIN_SIDE:
                raise MediaError("too small an image", path)
            if max(width, height) > MAX_ASPECT * min(width, height):
                raise MediaError("too long a strip", path)
            image.load()
            factor = min(width, height) // WORKING_SIDE
            plain = _rgb(image)
            if factor > 1:
                plain = plain.reduce(factor)
            return _upright(plain, image)


def load_sound(path: Path | str) -> Sound:
    """Decodes a sound, at most its first :data:`MAX_SECONDS`.

    Args:
        path: A WAV, FLAC, Ogg, MP3 or other file that libsndfile reads.

    Returns:
        The sound with its own rate and channels.

    Raises:
        MediaError: If it is no usable sound; a silent one says nothing and is none.
        ArtifactError: If the audio library is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile itself
        raise _not_installed("sounds", "soundfile", "audio") from error

    check_file(path, modality="audio")
    try:
        with Path(path).open("rb") as file:
            start = file.read(len(_LFS))
    except OSError:
        raise MediaError("unreadable file", path) from None
    if start == _LFS:
        raise MediaError("a Git LFS pointer", path)
    with _explaining(path):
        try:
            opened = soundfile.SoundFile(os.fspath(path))
        except soundfile.LibsndfileError:
            raise MediaError("not a sound", path) from None
        with opened as sound:
            rate, channels = int(sound.samplerate), int(sound.channels)
            if not RATES[0] <= rate <= RATES[1]:
                raise MediaError("an implausible sample rate", path)
            frames = min(int(MAX_SECONDS * rate), MAX_SAMPLES // channels)
            samples = _read_frames(sound, frames)
    if not samples.size:
        raise MediaError("zero length", path)
    if not np.isfinite(samples).all():
        raise MediaError("undecodable", path)
    if np.abs(samples).max() < SILENCE:
        raise MediaError("silent", path)
    return Sound(np.ascontiguousarray(samples.T), rate)


def _read_frames(sound: object, frames: int) -> FloatArray:
    """Reads up to ``frames`` frames, ``(frames, channels)``; what precedes damage is kept.

    Block by block: headers of damaged files promise any number of frames.
    """
    import soundfile

    assert isinstance(sound, soundfile.SoundFile)
    block = 1 << 16
    parts: list[FloatArray] = []
    while frames > 0:
        try:
            part = sound.read(min(block, frames), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            if not parts:
                raise
            break
        if not len(part):
            break
        parts.append(part)
        frames -= len(part)
    return np.concatenate(parts) if parts else np.empty((0, sound.channels), np.float32)


def _rgb(image: Image.Image) -> Image.Image:
    """Brings any mode to RGB: 16 bits are scaled, not cut, and transparency becomes white."""
    from PIL import Image

    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        grey = np.asarray(image).astype(np.float64)
        top = grey.max()
        if not np.isfinite(grey).all():
            raise ValueError("pixels are not finite")
        if image.mode == "F" or top > 65535 or grey.min() < 0:
            low = grey.min()
            grey = (grey - low) * (255 / max(top - low, 1e-12))
        elif image.mode != "I" or top > 255:
            grey /= 257
        return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _upright(plain: Image.Image, source: Image.Image) -> Image.Image:
    """Turns a picture as its camera noted; a damaged note is no reason to lose the picture."""
    from PIL import Image

    turns = Image.Transpose
    try:
        orientation = source.getexif().get(_ORIENTATION, 1)
    except Exception:
        return plain
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)
    return plain if turn is None else plain.transpose(turn)


def _known_formats() -> tuple[str, ...]:
    """Formats that this build of the library reads; never those that call other programs."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def _explaining(path: Path | str) -> Iterator[None]:
    """Turns whatever a decoder raises on damaged bytes into a reason."""
    try:
        yield
    except DynmmError:
        raise
    except MemoryError:
        raise MediaError("too large to decode", path) from None
    except Exception as error:
        text = str(error).lower()
        cut = "truncated" in text or isinstance(error, EOFError)
        raise MediaError("truncated" if cut else "undecodable", path) from error


def _not_installed(what: str, package: str, extra: str) -> ArtifactError:
    return ArtifactError(
        f"{what} cannot be decoded: {package} is not installed",
        hint=f"Install it: pip install 'dynmm-framework[{extra}]'",
    )
