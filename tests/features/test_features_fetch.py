"""Media from a web server that does everything wrong; nothing leaves this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from bad_media import encoded, picture, tone, wav
from click.testing import CliRunner

from dynmm_framework.cli.app import build_cli
from dynmm_framework.errors import DataError
from dynmm_framework.features.fetch import Limits, fetch_media, find_urls
from dynmm_framework.features.locate import locate_files
from dynmm_framework.features.web import Patience, kind_of

JPEG = encoded(picture(), "JPEG")
QUICK = Patience(timeout=0.5, deadline=2.0, attempts=2, pause=0.01)


class Shop:
    """A shop's picture server; keeps who asked, and how many at a time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.failing = 0
        self.url = ""


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def do_GET(self) -> None:
            with shop.lock:
                shop.asked.append(self.path)
                shop.now += 1
                shop.most = max(shop.most, shop.now)
            try:
                self.answer(self.path.rpartition("/")[2].partition(".")[0].split("-")[0])
            except OSError:
                pass
            finally:
                with shop.lock:
                    shop.now -= 1

        def answer(self, name: str) -> None:
            if name == "gone":
                self.send_error(404)
            elif name == "page":
                self.send(b"<html>no picture</html>", "text/html")
            elif name == "lie":
                self.send(b"<html>no picture</html>", "image/jpeg")
            elif name == "big":
                self.send(JPEG + bytes(200_000), "image/jpeg")
            elif name == "endless":
                self.send_response(200)
                self.end_headers()
                for _ in range(400):
                    self.wfile.write(JPEG)
            elif name == "drip":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(50):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
            elif name == "mute":
                time.sleep(1.5)
            elif name == "cut":
                self.send(JPEG, "image/jpeg", promised=len(JPEG) + 10)
            elif name == "flaky" and shop.failing:
                shop.failing -= 1
                self.send_error(503)
            elif name == "moved":
                self.send_response(302)
                self.send_header("Location", f"{shop.url}/good.jpg")
                self.end_headers()
            elif name == "trap":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
            elif name == "tone":
                self.send(wav(tone()), "audio/wav")
            elif name == "empty":
                self.send(b"", "image/jpeg")
            else:
                time.sleep(0.02)
                self.send(JPEG, "application/octet-stream")

        def send(self, body: bytes, kind: str, *, promised: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(promised or len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    shop.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield shop
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(shop: Shop, folder: Path, *names: str, **settings):
    urls = {name: f"{shop.url}/{name}.jpg" for name in names}
    return fetch_media(
        urls, folder, **{"modality": "image", "patience": QUICK, **settings}
    )  # fmt: skip


def test_every_answer_has_its_status(shop: Shop, tmp_path: Path):
    names = [
        "good", "moved", "gone", "page", "lie", "big", "endless", "drip", "mute", "cut", "trap",
        "empty", "tone",
    ]  # fmt: skip
    limits = Limits(file_bytes=100_000)
    told: list[int] = []
    state = fetch(
        shop, tmp_path, *names, limits=limits, advance=lambda n=1, note="": told.append(n)
    )
    found = {name: (entry.status, entry.reason) for name, entry in state.entries.items()}
    assert found == {
        "good": ("done", ""),
        "moved": ("done", ""),
        "gone": ("failed", "status 404"),
        "page": ("failed", "the server sends text/html"),
        "lie": ("failed", "not an image"),
        "big": ("failed", "too large"),
        "endless": ("failed", "too large"),
        "drip": ("later", "too slow"),
        "mute": ("later", "no connection"),
        "cut": ("later", "cut off"),
        "trap": ("failed", "status 302"),
        "empty": ("failed", "empty"),
        "tone": ("failed", "not an image"),
    }
    assert (tmp_path / "good.jpg").read_bytes() == JPEG
    assert {path.name for path in tmp_path.glob("[!.]*")} == {
        "good.jpg", "moved.jpg", "media.jsonl",
    }  # fmt: skip
    assert (state.fresh, state.left, sum(told)) == (2, 0, len(names))
    assert state.counts()["done"] == 2
    assert shop.asked.count("/gone.jpg") == 1
    assert shop.asked.count("/cut.jpg") == QUICK.attempts


def test_a_second_call_asks_only_for_what_may_have_changed(shop: Shop, tmp_path: Path):
    shop.failing = 2
    names = ("good", "gone", "flaky", "good-2")
    assert fetch(shop, tmp_path, *names).entries["flaky"].reason == "status 503"
    (tmp_path / "good-2.jpg").write_bytes(b"cut short by a crash")
    shop.asked.clear()
    state = fetch(shop, tmp_path, *names)
    assert sorted(shop.asked) == ["/flaky.jpg", "/good-2.jpg"]
    assert state.counts() == {"done": 3, "status 404": 1}
    shop.asked.clear()
    fetch(shop, tmp_path, *names, retry_failed=True)
    assert shop.asked == ["/gone.jpg"]
    urls = {"good": f"{shop.url}/moved.jpg"}
    assert fetch_media(urls, tmp_path, modality="image", patience=QUICK).fresh == 1


def test_what_recovers_is_tried_again_at_once(shop: Shop, tmp_path: Path):
    shop.failing = 1
    assert fetch(shop, tmp_path, "flaky").entries["flaky"].status == "done"


def test_limits_hold_and_the_rest_is_for_a_later_call(shop: Shop, tmp_path: Path):
    names = [f"good-{n}" for n in range(12)]
    limits = Limits(total_bytes=int(4.5 * len(JPEG)), workers=4)
    state = fetch(shop, tmp_path, *names, limits=limits)
    files = list(tmp_path.glob("*.jpg"))
    assert sum(path.stat().st_size for path in files) <= limits.total_bytes
    assert len(files) == state.fresh == 4
    assert state.left == 8
    state = fetch(shop, tmp_path, *names, limits=limits)
    assert (state.fresh, state.left) == (0, 8)
    state = fetch(shop, tmp_path, *names, limits=Limits(files=3))
    assert (state.fresh, state.left) == (3, 5)


def test_a_host_is_asked_for_few_files_at_a_time(shop: Shop, tmp_path: Path):
    names = [f"good-{n}" for n in range(16)]
    fetch(shop, tmp_path, *names, limits=Limits(workers=8, per_host=2))
    assert shop.most <= 2
    assert len(shop.asked) == 16


def test_a_host_that_does_not_answer_is_left_alone(tmp_path: Path):
    urls = {str(n): f"http://127.0.0.1:9/{n}.jpg" for n in range(60)}
    state = fetch_media(urls, tmp_path, modality="image", patience=QUICK, limits=Limits(workers=2))
    assert state.counts()["host does not answer"] >= 48
    assert {entry.status for entry in state.entries.values()} == {"later"}


def test_a_journal_torn_by_a_kill_goes_on(shop: Shop, tmp_path: Path):
    fetch(shop, tmp_path, "good", "gone")
    journal = tmp_path / "media.jsonl"
    journal.write_text(journal.read_text() + '{"item": "good", "url": "htt')
    shop.asked.clear()
    state = fetch(shop, tmp_path, "good", "gone", "good-3")
    assert shop.asked == ["/good-3.jpg"]
    assert state.fresh == 1
    assert len([json.loads(line) for line in journal.read_text().splitlines()]) == 3


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://[half", "not an address"),
        ("http://", "not an address"),
        ("http://no.such.host.invalid/a.jpg", "unknown host"),
        ("http://127.0.0.1:99999/a.jpg", "not an address"),
    ],
)
def test_what_is_no_address_has_a_reason(tmp_path: Path, url: str, reason: str):
    state = fetch_media({"a": url}, tmp_path, modality="image", patience=QUICK)
    assert state.entries["a"].reason in (reason, "no connection")


def test_sounds_and_strange_ids_are_found_by_the_pattern(shop: Shop, tmp_path: Path):
    ids = ["a/b", "..", "plain", "x.y"]
    urls = dict.fromkeys(ids, f"{shop.url}/tone.wav")
    fetch_media(urls, tmp_path / "sounds", modality="audio", patience=QUICK)
    assert not list(tmp_path.glob("*.wav"))
    paths = locate_files([*ids, "absent"], "sounds/{id}.*", folder=tmp_path)
    assert [path is not None for path in paths] == [True] * 4 + [False]
    assert len(set(paths)) == 5


def test_addresses_come_from_the_columns_of_the_modality():
    items = pa.table(
        {
            "id": ["a", "b", "c"],
            "image": ["posters/a.jpg", None, "http://x/c.jpg"],
            "image_url": ["https://x/a b.jpg", None, "http://x/other.jpg"],
        }
    )
    assert find_urls(items, "image") == {"a": "https://x/a b.jpg", "c": "http://x/c.jpg"}
    with pytest.raises(DataError, match="no http or https URL in column 'audio' or 'audio_url'"):
        find_urls(items, "audio")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_kinds_are_told_by_content(form: str):
    assert kind_of(encoded(picture(), form), "image") is not None
    assert kind_of(encoded(picture(), form), "audio") is None


def test_the_command_downloads_resumes_and_names_the_pattern(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "shop"
    data.mkdir()
    reviews = [
        {"reviewerID": f"u{n % 3}", "asin": f"p{n % 4}", "overall": 5, "unixReviewTime": n}
        for n in range(12)
    ]
    products = [
        {"asin": f"p{n}", "title": f"P{n}", "imageURL": [f"{shop.url}/{name}.jpg"]}
        for n, name in enumerate(["good", "gone", "good-2"])
    ]
    for name, rows in (("Things_5.json", reviews), ("meta_Things.json", products)):
        (data / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def call(*words: str):
        return CliRunner().invoke(
            build_cli(), ["data", "media", "amazon_reviews", "--path", str(data), *words]
        )

    result = call("--to", "posters", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "folder": "posters",
        "pattern": "posters/{id}.*",
        "addresses": 3,
        "done": 2,
        "new": 2,
        "left_by_limits": 0,
        "missing": {"status 404": 1},
    }
    assert locate_files(["p0", "p1"], "posters/{id}.*") == ["posters/p0.jpg", None]
    shop.asked.clear()
    result = call("--to", "posters")
    assert "media pattern: posters/{id}.*" in result.stdout
    assert shop.asked == []
    result = call("--modality", "audio")
    assert result.exit_code == 2
    assert "the items have no addresses of audios" in result.stderr
