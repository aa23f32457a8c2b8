"""One small file from the web, whatever the server does; its kind is told by its first bytes."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO
from urllib.parse import quote, urlsplit

from dynmm_framework.artifacts.redirects import SCHEMES, SafeRedirects

UNHEARD = ("unknown host", "no connection")
"""Reasons that are the host's, not the file's."""

_CHUNK = 1 << 16
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout: Seconds without a byte that count as no answer.
        deadline: Seconds that one file may take altogether.
        attempts: Attempts at what may recover.
        pause: Seconds before the second attempt; twice as long before each further one. A server
            that says how long to wait is obeyed, up to a minute.
    """

    timeout: float = 20.0
    deadline: float = 120.0
    attempts: int = 3
    pause: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        data: The file; empty if there is a reason.
        reason: Why there is none, in words that can be counted.
        may_recover: Whether a later attempt may succeed.
        wait: Seconds that the server asks to wait.
    """

    data: bytes = b""
    reason: str = ""
    may_recover: bool = False
    wait: float = 0.0


def get(url: str, *, limit: int, patience: Patience, stop: threading.Event) -> Answer:
    """Fetches a file into memory.

    Args:
        url: An ``http`` or ``https`` address.
        limit: Most bytes.
        patience: How long to try.
        stop: Set to give up.
    """
    deadline = time.monotonic() + patience.deadline
    answer = Answer(reason="no attempt", may_recover=True)
    for attempt in range(patience.attempts):
        if attempt:
            pause = max(patience.pause * 2 ** (attempt - 1), answer.wait)
            if time.monotonic() + pause > deadline or stop.wait(pause):
                break
        answer = _try(url, limit, patience.timeout, deadline, stop)
        if not answer.may_recover:
            break
    return answer


def _try(url: str, limit: int, timeout: float, deadline: float, stop: threading.Event) -> Answer:
    headers = {"User-Agent": "dynmm-framework", "Accept-Encoding": "identity"}
    try:
        # Catalogues write addresses as people do, with blanks and accents.
        readable = quote(url, safe="%/:=&?~#+!$,;'@()*[]")
        request = urllib.request.Request(readable, headers=headers)  # noqa: S310  # checked below
        if urlsplit(url).scheme not in SCHEMES or not urlsplit(url).hostname:
            return Answer(reason="not an address")
        with _opener().open(request, timeout=timeout) as response:
            size = response.headers.get("Content-Length", "")
            if size.isdigit() and int(size) > limit:
                return Answer(reason="too large")
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind.startswith("text/") or kind in ("application/json", "application/xml"):
                return Answer(reason=f"the server sends {kind}")
            return _read(response, limit, int(size) if size.isdigit() else None, deadline, stop)
    except urllib.error.HTTPError as error:
        with error:
            wait = error.headers.get("Retry-After", "") if error.headers else ""
            seconds = min(float(wait), _LONGEST_WAIT) if wait.isdigit() else 0.0
            return Answer(reason=f"status {error.code}", may_recover=error.code in _TRANSIENT,
                          wait=seconds)  # fmt: skip
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.gaierror):
            return Answer(reason="unknown host", may_recover=True)
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            return Answer(reason="invalid certificate")
        if isinstance(error.reason, str) and error.reason.startswith("unsafe"):
            return Answer(reason=error.reason)
        return Answer(reason="no connection", may_recover=True)
    except (OSError, http.client.HTTPException):
        return Answer(reason="no connection", may_recover=True)
    except ValueError:  # of urllib, for what is no address
        return Answer(reason="not an address")


def _read(
    response: IO[bytes], limit: int, size: int | None, deadline: float, stop: threading.Event
) -> Answer:
    data = bytearray()
    try:
        while chunk := response.read1(_CHUNK):  # type: ignore[attr-defined]  # of HTTPResponse
            data += chunk
            if len(data) > limit:
                return Answer(reason="too large")
            if time.monotonic() > deadline:
                return Answer(reason="too slow", may_recover=True)
            if stop.is_set():
                return Answer(reason="stopped", may_recover=True)
    except (OSError, http.client.HTTPException):
        return Answer(reason="cut off", may_recover=True)
    if size is not None and len(data) < size:
        return Answer(reason="cut off", may_recover=True)
    return Answer(bytes(data)) if data else Answer(reason="empty")


def kind_of(data: bytes, modality: str) -> str | None:
    """Returns the suffix of a file of this modality by its first bytes; ``None`` for another."""
    if modality == "image":
        for start, suffix in _IMAGES.items():
            if data.startswith(start):
                return suffix
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return ".webp"
        return ".avif" if data[4:12] in (b"ftypavif", b"ftypavis") else None
    for start, suffix in _SOUNDS.items():
        if data.startswith(start):
            return suffix
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return ".wav"
    if data[:4] == b"FORM" and data[8:11] == b"AIF":
        return ".aiff"
    is_frame = len(data) > 2 and data[0] == 0xFF and data[1] & 0xE6 in (0xE2, 0xE4, 0xE6)
    return ".mp3" if is_frame else None


_IMAGES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"GIF87a": ".gif",
    b"GIF89a": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tiff",
    b"MM\0*": ".tiff",
}
_SOUNDS = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3"}


def _opener() -> urllib.request.OpenerDirector:
    """Returns an opener for the web alone: no files, no FTP, no data URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        SafeRedirects(lambda _: urllib.error.URLError("unsafe redirect")),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
