"""Downloads survive cut connections, and nothing unexpected is ever accepted."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
from web_server import Site, serve

from dynmm_framework.artifacts.digests import FileDigest
from dynmm_framework.artifacts.download import SourceFailure, download

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Download:
    """Downloads ``/a`` and notes the bar and the waits."""

    def __init__(self, folder: Path, content: bytes = CONTENT) -> None:
        self.part = folder / "a.part"
        self.expected = FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        self.bar, self.notes, self.waits = 0, list[str](), list[float]()

    def advance(self, n: int = 1, note: str = "") -> None:
        self.bar += n
        self.notes += [note] if note else []

    def __call__(self, url: str, **options: float) -> bytes:
        download(
            url,
            self.part,
            self.expected,
            advance=self.advance,
            sleep=self.waits.append,
            **options,
        )
        return self.part.read_bytes()


def test_file_arrives_and_the_bar_is_full(tmp_path: Path) -> None:
    get = Download(tmp_path)
    with serve(Site(a=CONTENT)) as site:
        assert get(f"{site.url}/a") == CONTENT
    assert (get.bar, get.waits) == (len(CONTENT), [])


def test_empty_file(tmp_path: Path) -> None:
    with serve(Site(a=b"")) as site:
        assert Download(tmp_path, b"")(f"{site.url}/a") == b""


def test_cut_connection_is_continued(tmp_path: Path) -> None:
    get, site = Download(tmp_path), Site(a=CONTENT)
    site.cut_after, site.cuts = 300_000, 3
    with serve(site):
        assert get(f"{site.url}/a") == CONTENT
    assert site.seen == [
        ("/a", None),
        ("/a", "bytes=300000-"),
        ("/a", "bytes=600000-"),
        ("/a", "bytes=900000-"),
    ]
    assert get.bar == len(CONTENT)
    assert get.waits == [1.0, 1.0, 1.0]


def test_cut_connection_starts_again_where_ranges_are_unknown(tmp_path: Path) -> None:
    get, site = Download(tmp_path), Site(a=CONTENT)
    site.cut_after, site.cuts, site.ranges = 300_000, 1, False
    with serve(site):
        assert get(f"{site.url}/a") == CONTENT
    assert len(site.seen) == 2
    assert get.bar == len(CONTENT)
    assert get.notes == ["starting again"]


def test_part_of_a_killed_process_is_continued(tmp_path: Path) -> None:
    get = Download(tmp_path)
    get.part.write_bytes(CONTENT[:1000])
    with serve(Site(a=CONTENT)) as site:
        assert get(f"{site.url}/a") == CONTENT
        assert site.seen == [("/a", "bytes=1000-")]


def test_whole_part_needs_no_request(tmp_path: Path) -> None:
    get = Download(tmp_path)
    get.part.write_bytes(CONTENT)
    assert get("http://127.0.0.1:9/a") == CONTENT


@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 5])
def test_part_of_another_version_is_fetched_anew(tmp_path: Path, size: int) -> None:
    get = Download(tmp_path)
    get.part.write_bytes(b"x" * size)
    with serve(Site(a=CONTENT)) as site:
        assert get(f"{site.url}/a") == CONTENT
    assert get.bar == len(CONTENT)


def test_passing_trouble_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    get, site = Download(tmp_path), Site(a=CONTENT)
    site.errors = [503, 429, 500]
    with serve(site):
        assert get(f"{site.url}/a") == CONTENT
    assert get.waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("code", "requests", "reason"),
    [
        (404, 1, "the server answers 404 Not Found"),
        (403, 1, "the server answers 403 Forbidden"),
        (503, 4, r"the server answers 503 Service Unavailable \(4 attempts\)"),
    ],
)
def test_lasting_trouble_gives_up(tmp_path: Path, code: int, requests: int, reason: str) -> None:
    site = Site(a=CONTENT)
    site.errors = [code] * 9
    with serve(site), pytest.raises(SourceFailure, match=reason):
        Download(tmp_path)(f"{site.url}/a")
    assert len(site.seen) == requests


def test_no_server_gives_up(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        with pytest.raises(SourceFailure, match=r"no connection: .* \(4 attempts\)"):
            Download(tmp_path)(url)


def test_silent_server_times_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(SourceFailure, match=r"timed out .*\(2 attempts\)"):
            Download(tmp_path)(url, timeout=0.05, attempts=2)


def test_unknown_host_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    get = Download(tmp_path)
    with pytest.raises(SourceFailure, match=r"the address of data\.example cannot be found"):
        get("http://data.example/a")
    assert get.waits == []


def test_other_content_is_refused_and_removed(tmp_path: Path) -> None:
    get = Download(tmp_path)
    wrong = bytes(len(CONTENT))
    with serve(Site(a=wrong)) as site, pytest.raises(SourceFailure) as caught:
        get(f"{site.url}/a")
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert get.expected.sha256 in str(caught.value)
    assert not get.part.exists()


def test_other_size_is_refused_before_the_download(tmp_path: Path) -> None:
    with serve(Site(a=CONTENT + b"x")) as site:
        reason = "it has 1,024,001 bytes, and the record says 1,024,000"
        with pytest.raises(SourceFailure, match=reason):
            Download(tmp_path)(f"{site.url}/a")


def test_endless_answer_is_cut_at_the_size_of_the_record(tmp_path: Path) -> None:
    site = Site(a=CONTENT * 2)
    site.headers = {"Content-Length": ""}  # without a length the answer ends with the connection
    get = Download(tmp_path)
    with serve(site), pytest.raises(SourceFailure, match="more than the 1,024,000 bytes"):
        get(f"{site.url}/a")
    assert get.part.stat().st_size <= len(CONTENT)


def test_redirects_are_followed_on_the_web(tmp_path: Path) -> None:
    site = Site(a=CONTENT)
    site.redirects = {"/old": "/a"}
    with serve(site):
        assert Download(tmp_path)(f"{site.url}/old") == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/a"])
def test_redirects_leave_the_web_never(tmp_path: Path, target: str) -> None:
    site = Site()
    site.redirects = {"/old": target}
    with serve(site), pytest.raises(SourceFailure, match=r"not safe to follow|not allowed"):
        Download(tmp_path)(f"{site.url}/old")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x"])
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceFailure, match="only http and https"):
        Download(tmp_path)(url)
