"""Which redirects of the web are followed."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable
from typing import IO
from urllib.parse import urlsplit

SCHEMES = ("http", "https")


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only, and never from an encrypted page to an open one.

    Args:
        refused: Makes the error to raise from the address that is not followed.
    """

    def __init__(self, refused: Callable[[str], Exception]) -> None:
        self._refused = refused

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in SCHEMES or (before == "https" and after == "http"):
            raise self._refused(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
