"""A served model, against a server of our own that is slow, down, or talks nonsense."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.errors import StageError
from dynmm_framework.language.conversation import ChatModel, Message
from dynmm_plugins.openai_compatible.config import OpenAICompatibleConfig
from dynmm_plugins.openai_compatible.model import OpenAICompatible

KEY = "sk-not-a-real-key-0123456789"
Reply = tuple[int, dict[str, str], bytes]


def answer(text: str, **more: Any) -> Reply:
    choice = {"message": {"role": "assistant", "content": text}, **more}
    return 200, {}, json.dumps({"choices": [choice]}).encode()


class Server:
    """Replies as a test says, and keeps what it was sent."""

    def __init__(self) -> None:
        self.replies: list[Reply | Callable[[], Reply]] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most = self._now = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with outer._lock:
                    outer._now += 1
                    outer.most = max(outer.most, outer._now)
                    length = int(self.headers["Content-Length"])
                    outer.asked.append(json.loads(self.rfile.read(length)))
                    outer.keys.append(self.headers.get("Authorization"))
                    last = outer.asked[-1]["messages"][-1]["content"]
                    reply = outer.replies.pop(0) if outer.replies else answer(f"to {last}")
                try:
                    status, headers, body = reply() if callable(reply) else reply
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # the client has hung up
                finally:
                    with outer._lock:
                        outer._now -= 1

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("DYNMM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DYNMM_LLM_KEY", raising=False)
    running = Server()
    yield running
    running.close()


def model(server: Server, *, offline: bool = False, **changed: Any) -> OpenAICompatible:
    settings = {"url": server.url, "backoff": 0.0, "timeout": 5.0, "retries": 2, **changed}
    made = OpenAICompatible(OpenAICompatibleConfig.model_validate(settings))
    made.load(RunContext(Surroundings(load_catalogue(only=()), offline=offline), stage="test"))
    return made


def ask(chat: OpenAICompatible, *texts: str) -> list[str]:
    asked = [(Message("system", "Be brief."), Message("user", text)) for text in texts]
    return [found.text for found in chat.complete(asked, max_new_tokens=9)]


def test_it_asks_as_the_protocol_says(server: Server) -> None:
    chat = model(server, model="m", seed=3)
    assert isinstance(chat, ChatModel)
    assert ask(chat, "one", "two") == ["to one", "to two"]
    assert {json.dumps(sent, sort_keys=True) for sent in server.asked} == {
        json.dumps(
            {
                "model": "m", "max_tokens": 9, "temperature": 0.0, "seed": 3,
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": text},
                ],
            },
            sort_keys=True,
        )
        for text in ("one", "two")
    }  # fmt: skip
    assert server.keys == [None, None]


def test_log_probabilities_are_handed_on(server: Server) -> None:
    told = {"content": [{"token": "Yes", "logprob": -0.1}]}
    server.replies = [answer("Yes", logprobs=told), answer("No", logprobs={"content": None})]
    chat = model(server, concurrency=1)
    asked = [(Message("user", "a"),), (Message("user", "b"),)]
    first, second = chat.complete(asked, max_new_tokens=1)
    assert first.logprobs == (("Yes", -0.1),)
    assert second.logprobs is None


def test_an_answer_that_was_cut_off_says_so_also_from_disk(server: Server) -> None:
    server.replies = [answer("1\n2", finish_reason="length"), answer("1", finish_reason="stop")]
    asked = [(Message("user", "a"),), (Message("user", "b"),)]
    for chat in (model(server, concurrency=1), model(server, offline=True)):
        found = chat.complete(asked, max_new_tokens=1)
        assert [said.cut for said in found] == [True, False]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "reply",
    [
        (500, {}, b"oops"),
        (429, {"Retry-After": "0"}, b"{}"),
        (503, {}, b""),
        (200, {}, b"<html>a proxy's page</html>"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
        (200, {}, b"[" * 100_000),
    ],
    ids=["500", "429", "503", "html", "no choice", "no text", "deep"],
)
def test_what_may_pass_is_asked_again(server: Server, reply: Reply) -> None:
    server.replies = [reply, reply]
    assert ask(model(server), "x") == ["to x"]
    assert len(server.asked) == 3


def test_patience_ends_with_the_last_reason(server: Server) -> None:
    server.replies = [(500, {}, b"out of coffee")] * 9
    with pytest.raises(StageError, match=r"status 500: out of coffee \(asked 3 times\)") as raised:
        ask(model(server, model="m"), "x")
    assert server.url in str(raised.value)
    assert "'m'" in str(raised.value)
    assert "raise timeout or retries" in str(raised.value)


def test_a_refusal_is_not_repeated(server: Server) -> None:
    server.replies = [(404, {}, b'{"error": "no such model"}')] * 3
    with pytest.raises(StageError, match="no such model"):
        ask(model(server), "x")
    assert len(server.asked) == 1


def test_a_slow_endpoint_runs_out_of_time(server: Server) -> None:
    def late() -> Reply:
        time.sleep(0.6)
        return answer("late")

    server.replies = [late]
    assert ask(model(server, timeout=0.2), "x") == ["to x"]
    server.replies = [late] * 2
    with pytest.raises(StageError, match=r"no answer within 0.2 s \(asked 2 times\)"):
        ask(model(server, timeout=0.2, retries=1), "y")


def test_an_endpoint_that_is_down_is_named() -> None:
    settings = {"url": "http://127.0.0.1:9/v1", "backoff": 0.0, "retries": 1, "cache": False}
    chat = OpenAICompatible(OpenAICompatibleConfig.model_validate(settings))
    with pytest.raises(StageError, match=r"127.0.0.1:9/v1 does not answer: no connection"):
        ask(chat, "x")


def test_a_question_is_sent_once(server: Server) -> None:
    assert ask(model(server), "x", "x", "y") == ["to x", "to x", "to y"]
    assert len(server.asked) == 2
    server.replies = [answer("something else")]
    assert ask(model(server), "x") == ["to x"]
    assert ask(model(server, temperature=0.5), "x") == ["something else"]
    assert ask(model(server, cache=False), "x") == ["to x"]
    assert len(server.asked) == 4


def test_a_damaged_answer_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    ask(model(server), "x")
    (file,) = (tmp_path / "cache" / "completions").rglob("*.json")
    file.write_text("{")
    assert ask(model(server), "x") == ["to x"]
    assert len(server.asked) == 2
    assert json.loads(file.read_text())["text"] == "to x"


def test_offline_only_known_answers_are_given(server: Server) -> None:
    ask(model(server), "x")
    assert ask(model(server, offline=True), "x") == ["to x"]
    with pytest.raises(StageError, match="1 of 2 questions") as raised:
        ask(model(server, offline=True), "x", "new")
    assert "--offline" in str(raised.value)


def test_no_more_than_some_are_under_way_at_once(server: Server) -> None:
    def slowly() -> Reply:
        time.sleep(0.05)
        return answer("ok")

    server.replies = [slowly] * 6
    ask(model(server, concurrency=2), *"abcdef")
    assert server.most <= 2


def test_the_first_failure_ends_the_others(server: Server) -> None:
    server.replies = [(401, {}, b"no")] * 50
    with pytest.raises(StageError, match="status 401"):
        ask(model(server, concurrency=1), *map(str, range(50)))
    assert len(server.asked) < 50


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any
) -> None:
    monkeypatch.setenv("DYNMM_LLM_KEY", f" {KEY}\n")
    ask(model(server), "x")
    assert server.keys == [f"Bearer {KEY}"]
    server.replies = [(401, {}, f"the key {KEY} is unknown".encode())]
    with pytest.raises(StageError, match=r"the key \*\*\* is unknown") as raised:
        ask(model(server), "y")
    assert KEY not in str(raised.value)
    assert KEY not in caplog.text
    kept = list((tmp_path / "cache").rglob("*.json"))
    assert kept
    assert not any(KEY in file.read_text() for file in kept)
    assert KEY not in OpenAICompatibleConfig().model_dump_json()


def test_no_redirect_takes_the_key_elsewhere(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNMM_LLM_KEY", KEY)
    other = Server()
    try:
        server.replies = [(302, {"Location": f"{other.url}/chat/completions"}, b"")]
        with pytest.raises(StageError, match="status 302"):
            ask(model(server), "x")
        assert not other.asked
    finally:
        other.close()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": "file:///etc/passwd"}, "must begin with http"),
        ({"url": "http://me:secret@host/v1"}, "no user or password"),
        ({"key_variable": KEY}, "takes the name of an environment variable"),
        ({"api_key": KEY}, "Extra inputs"),
    ],
)
def test_settings_hold_no_key(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        OpenAICompatibleConfig.model_validate(settings)


def test_it_has_no_embeddings_and_says_what_to_use(server: Server) -> None:
    with pytest.raises(StageError, match="neither tokens nor embeddings") as raised:
        model(server).tokenizer  # noqa: B018
    assert "chat_rec" in str(raised.value)


def test_long_questions_do_not_fit(server: Server) -> None:
    chat = model(server, context_length=100)
    assert chat.fits([Message("user", "x" * 100)], max_new_tokens=9)
    assert not chat.fits([Message("user", "x" * 300)], max_new_tokens=9)
