"""A web server on this machine that misbehaves on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What the server delivers, and how; requests are noted.

    Attributes:
        files: Content by path.
        ranges: Whether ``Range`` is honoured.
        cut_after: Bytes after which each of the next ``cuts`` answers is cut.
        errors: Status codes of the next answers.
        redirects: Location by path.
        seen: ``(path, Range header)`` of every request.
    """

    def __init__(self, **files: bytes) -> None:
        self.files = {f"/{name}": content for name, content in files.items()}
        self.ranges = True
        self.cut_after, self.cuts = 0, 0
        self.errors: list[int] = []
        self.redirects: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.url = ""


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Runs a site on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.seen.append((self.path, wanted))
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.end_headers()
                return
            if site.errors or self.path not in site.files:
                self.send_error(site.errors.pop(0) if site.errors else 404)
                return
            content, start = site.files[self.path], 0
            if wanted and site.ranges:
                start = int(re.findall(r"\d+", wanted)[0])
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            body = content[start:]
            headers = {"Content-Length": str(len(body))} | site.headers
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if site.cuts:
                site.cuts -= 1
                body = body[: site.cut_after]
                self.close_connection = True
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
