"""Asks an endpoint over HTTP, again where that may help, and never tells anyone its key."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

from dynmm_framework.errors import StageError
from dynmm_framework.language.conversation import Completion
from dynmm_plugins.openai_compatible.config import OpenAICompatibleConfig

LARGEST = 8 << 20
"""Bytes of an answer that are read at most."""
LONGEST_WAIT = 60.0
"""Seconds before a further attempt, at most, whatever the endpoint says."""
_TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_SHOWN = 300


@dataclass(frozen=True)
class _Try:
    """What one attempt gave: a completion, or why there is none.

    Attributes:
        completion: The answer.
        reason: Why there is none.
        again: Whether another attempt may help.
        wait: Seconds after which the endpoint wants to be asked again.
    """

    completion: Completion | None = None
    reason: str = ""
    again: bool = False
    wait: float = 0.0


class Endpoint:
    """One endpoint. Safe to be used by several threads at once.

    Args:
        config: Address, model, patience.
    """

    def __init__(self, config: OpenAICompatibleConfig) -> None:
        self.config = config
        self.address = f"{config.url}/chat/completions"
        self.stopped = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirects())

    def ask(self, question: Mapping[str, Any]) -> Completion:
        """Sends a question until it is answered or patience ends.

        Raises:
            StageError: If it is refused, or not answered in as many attempts as are allowed; names
                address, model and the last reason.
        """
        config, found, attempts = self.config, _Try(reason="stopped"), 0
        for attempt in range(config.retries + 1):
            if attempt:
                pause = max(config.backoff * 2 ** (attempt - 1), found.wait)
                if self.stopped.wait(min(pause, LONGEST_WAIT)):
                    break
            attempts += 1
            found = self._try(question)
            if found.completion is not None:
                return found.completion
            if not found.again:
                break
        times = "" if attempts == 1 else f" (asked {attempts} times)"
        raise StageError(
            f"the model {config.model!r} at {config.url} does not answer: {found.reason}{times}",
            hint="Check that the server runs and knows the model (curl "
            f"{config.url}/models), that {config.key_variable} holds its key if it wants one, and "
            "raise timeout or retries if it is slow. What it has answered is kept.",
        )

    def _try(self, question: Mapping[str, Any]) -> _Try:
        key = os.environ.get(self.config.key_variable, "").strip()
        headers = {"Content-Type": "application/json", "User-Agent": "dynmm-framework"}
        if key:
            if not key.isascii() or not key.isprintable():
                return _Try(reason=f"{self.config.key_variable} holds no usable key")
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(  # noqa: S310 - the settings allow http and https alone
            self.address, json.dumps(question).encode(), headers
        )
        deadline = time.monotonic() + self.config.timeout
        try:
            with self._opener.open(request, timeout=self.config.timeout) as response:
                return _understood(_read(response, deadline))
        except urllib.error.HTTPError as error:
            with error:
                return _refused(error, key)
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                return _Try(reason=self._slow(), again=True)
            host = urlsplit(self.address).hostname
            known = not isinstance(error.reason, socket.gaierror)
            return _Try(reason="no connection" if known else f"unknown host {host}", again=True)
        except TimeoutError:
            return _Try(reason=self._slow(), again=True)
        except (OSError, http.client.HTTPException):
            return _Try(reason="the connection broke", again=True)

    def _slow(self) -> str:
        return f"no answer within {self.config.timeout:g} s"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key is meant for one address."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _read(response: IO[bytes], deadline: float) -> bytes:
    data = bytearray()
    while chunk := response.read1(1 << 16):  # type: ignore[attr-defined]  # of HTTPResponse
        data += chunk
        if len(data) > LARGEST:
            raise http.client.HTTPException("too large")
        # A server that sends a byte now and then would never run into the socket's own limit.
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(data)


def _understood(data: bytes) -> _Try:
    """Reads an answer; one that makes no sense may be a proxy's, and is asked for again."""
    try:
        choice = json.loads(data)["choices"][0]
        text = choice["message"]["content"]
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, RecursionError):
        start = data[:60].decode("utf-8", "replace")
        return _Try(reason=f"an answer that is no chat completion: {_plain(start)!r}", again=True)
    return _Try(Completion(text, _logprobs(choice), cut=choice.get("finish_reason") == "length"))


def _logprobs(choice: Mapping[str, Any]) -> tuple[tuple[str, float], ...] | None:
    try:
        return tuple(
            (str(token["token"]), float(token["logprob"]))
            for token in choice["logprobs"]["content"]
        )
    except (LookupError, TypeError, ValueError):
        return None


def _refused(error: urllib.error.HTTPError, key: str) -> _Try:
    wait = error.headers.get("Retry-After", "") if error.headers else ""
    try:
        said = error.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        said = ""
    # Some endpoints repeat the key that they refuse.
    said = _plain(said.replace(key, "***") if key else said)[:_SHOWN]
    return _Try(
        reason=f"status {error.code}" + (f": {said}" if said else ""),
        again=error.code in _TRANSIENT,
        wait=float(wait) if wait.isdigit() else 0.0,
    )


def _plain(text: str) -> str:
    """Returns foreign text as one line that a terminal can show."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
