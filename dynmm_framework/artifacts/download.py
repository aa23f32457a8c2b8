"""Downloads over HTTP that survive cut connections."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from dynmm_framework.artifacts.digests import FileDigest, digest_file
from dynmm_framework.artifacts.redirects import SCHEMES, SafeRedirects

Advance = Callable[..., None]
"""Moves a progress bar: ``advance(n=1, note="")``."""

_CHUNK = 1 << 18
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class SourceFailure(Exception):  # noqa: N818  # not an error yet: the next source is tried
    """One source could not deliver; the text is the reason."""


class _Interrupted(Exception):  # noqa: N818
    """The connection failed in a way that another attempt may mend."""


def download(
    url: str,
    part: Path,
    expected: FileDigest,
    *,
    advance: Advance,
    attempts: int = 4,
    timeout: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Downloads one file of known size and digest.

    What ``part`` already holds, from a connection that was cut or a process that was killed, is
    continued if the server can do so.

    Args:
        url: An ``http`` or ``https`` address.
        part: Where to write; whole and checked when this returns.
        expected: Size and digest; nothing larger is ever written.
        advance: Told the bytes that arrive.
        attempts: Failures in a row, without a byte in between, after which to give up.
        timeout: Seconds without an answer that count as a failure.
        sleep: Waits between attempts: 1 s, 2 s, 4 s … at most 30 s.

    Raises:
        SourceFailure: If the file cannot be had from here.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise SourceFailure("only http and https are supported")
    while True:
        continued = _size(part) > 0
        _complete(url, part, expected.bytes, advance, attempts, timeout, sleep)
        found = digest_file(part).sha256
        if found == expected.sha256:
            return
        part.unlink()
        if not continued:
            raise SourceFailure(f"the content is another: SHA-256 {found}, not {expected.sha256}")
        # The first part may be of another version, or of a crashed disk: once again, from nothing.
        advance(-expected.bytes, note="starting again")


def _complete(
    url: str,
    part: Path,
    size: int,
    advance: Advance,
    attempts: int,
    timeout: float,
    sleep: Callable[[float], None],
) -> None:
    if _size(part) > size:
        part.unlink()
    advance(_size(part))
    failures = 0
    while (have := _size(part)) < size or not part.exists():
        try:
            _continue(url, part, have, size, advance, timeout)
        except _Interrupted as interruption:
            failures = 1 if _size(part) > have else failures + 1
            if failures >= attempts:
                raise SourceFailure(f"{interruption} ({attempts} attempts)") from interruption
            sleep(min(2.0 ** (failures - 1), 30.0))


def _continue(url: str, part: Path, have: int, size: int, advance: Advance, timeout: float) -> None:
    headers = {"User-Agent": "dynmm-framework", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # scheme checked
    with _open(request, part, timeout) as response:
        start = _start(response, have, size)
        if start < have:  # the server cannot continue
            advance(start - have, note="starting again")
        with part.open("ab") as file:
            file.truncate(start)
            received = start
            while chunk := _read(response):
                received += len(chunk)
                if received > size:
                    raise SourceFailure(f"it sends more than the {size:,} bytes of the record")
                file.write(chunk)
                advance(len(chunk))
    if received < size:
        raise _Interrupted(f"the connection was cut after {received:,} of {size:,} bytes")


def _open(request: urllib.request.Request, part: Path, timeout: float) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        SafeRedirects(_refused),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # what is here is not a part of what is there
                part.unlink(missing_ok=True)
                raise _Interrupted("the server cannot continue the download") from error
            reason = f"the server answers {error.code} {error.reason}"
            failure = _Interrupted if error.code in _TRANSIENT else SourceFailure
            raise failure(reason) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.gaierror):
            host = urlsplit(request.full_url).hostname
            raise SourceFailure(f"the address of {host} cannot be found") from error
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise SourceFailure(f"its certificate is not valid: {error.reason}") from error
        raise _Interrupted(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"no connection: {error or type(error).__name__}") from error
    return response


def _start(response: http.client.HTTPResponse, have: int, size: int) -> int:
    """Returns the position in the file of the first byte that the server sends."""
    start, total = 0, response.headers.get("Content-Length", "")
    if response.status == 206:
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if place is None:
            raise SourceFailure("the server continues a download without saying where")
        start, total = int(place[1]), place[2]
        if start > have:
            raise SourceFailure(f"the server leaves out bytes {have} to {start - 1}")
    if total.isdigit() and int(total) != size:
        raise SourceFailure(f"it has {int(total):,} bytes, and the record says {size:,}")
    return start


def _read(response: IO[bytes]) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection was cut: {error or type(error).__name__}") from error


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _refused(address: str) -> SourceFailure:
    return SourceFailure(f"it redirects to {address}, which is not safe to follow")
