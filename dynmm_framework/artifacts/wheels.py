"""Wheels as carriers of data: downloaded by pip, opened as archives, never installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dynmm_framework.artifacts.digests import FileDigest, digest_file
from dynmm_framework.artifacts.download import Advance, SourceFailure
from dynmm_framework.artifacts.record_types import Wheel

_POLL = 0.1  # seconds
_LINES = 4  # of pip's output, shown when it fails


def download_wheel(
    wheel: Wheel, folder: Path, *, advance: Advance, arguments: Sequence[str] = ()
) -> Path:
    """Downloads one wheel with pip, which knows the user's index, proxy and certificates.

    Args:
        wheel: Which one.
        folder: An empty folder that is private to this call.
        advance: Told the bytes that arrive.
        arguments: Further arguments of ``pip download``.

    Returns:
        The wheel, inside ``folder``.

    Raises:
        SourceFailure: If pip is missing or fails, or the wheel is not the record's.
    """
    scratch, destination, log = folder / "tmp", folder / "wheel", folder / "pip.log"
    scratch.mkdir()
    destination.mkdir()
    command = _command(wheel, destination, arguments)
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(  # noqa: S603  # arguments checked by the record's model
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # pip downloads into its temporary folder: here its bytes can be counted, and
                # nothing is left behind when it is killed.
                env=os.environ | {"TMPDIR": str(scratch)},
            )
        except OSError as error:
            raise SourceFailure(f"Python cannot be started: {error}") from error
        try:
            _watch(process, (scratch, destination), advance)
        finally:
            _end(process)
    if process.returncode != 0:
        raise SourceFailure(_reason(log.read_text(encoding="utf-8", errors="replace")))
    wheels = list(destination.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceFailure(f"pip delivered {len(wheels)} wheels instead of one")
    if wheel.sha256 is not None:
        found: FileDigest = digest_file(wheels[0])
        if found.sha256 != wheel.sha256:
            raise SourceFailure(
                f"{wheels[0].name} is another file: SHA-256 {found.sha256}, not {wheel.sha256}"
            )
    return wheels[0]


def _command(wheel: Wheel, destination: Path, arguments: Sequence[str]) -> list[str]:
    # -P: a folder named pip in the working directory must not be taken for pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--no-color", "--progress-bar=off"]
    command += ["--ignore-requires-python", f"--dest={destination}"]
    if wheel.platform is not None:
        command.append(f"--platform={wheel.platform}")
    return [*command, *arguments, wheel.wheel]


def _watch(process: subprocess.Popen[bytes], folders: Sequence[Path], advance: Advance) -> None:
    seen = 0
    while True:
        running = process.poll() is None
        largest = max((_size(path) for folder in folders for path in _wheels(folder)), default=0)
        if largest > seen:
            advance(largest - seen)
            seen = largest
        if not running:
            return
        time.sleep(_POLL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wheels(folder: Path) -> Iterator[Path]:
    # Not rglob, which fails where pip removes a folder that is being read; os.walk passes over it.
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if name.endswith(".whl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # pip moved it
        return 0


def _reason(output: str) -> str:
    if re.search(r"No module named '?pip'?", output):
        return (
            f"pip is not installed beside {sys.executable}; "
            "install it with `python -m ensurepip` and try again"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    text = "; ".join((errors or lines)[-_LINES:]) or "no output"
    # An index's address may hold a password.
    return "pip: " + re.sub(r"://[^/@\s]+@", "://***@", text)
