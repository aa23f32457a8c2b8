"""Media from the web into a folder: bounded, polite, and continued by a second call.

This is a step of its own; training never touches the network. Files are named after items, so
that a pattern such as ``FOLDER/{id}.*`` finds them; a journal beside them says what became of
every address.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from dynmm_framework.artifacts.atomic import storage_errors, write_bytes, write_text
from dynmm_framework.artifacts.locks import waiting_lock
from dynmm_framework.errors import DataError
from dynmm_framework.features.locate import file_stem
from dynmm_framework.features.web import UNHEARD, Patience, get, kind_of

JOURNAL = "media.jsonl"
COLUMNS = {"image": ("image", "image_url"), "audio": ("audio", "audio_url")}
"""Columns of the item table in which addresses are looked for, the first that has one counts."""

_ADDRESS = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)

SILENT = 8
"""After so many addresses in a row without an answer of their host, its others wait for a later
call."""

Status = Literal["done", "failed", "later"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one address.

    Attributes:
        item: Raw identifier of the item.
        url: The address.
        status: ``done``; ``failed`` for good, such as not found; or ``later``, such as no answer,
            which the next call tries again.
        file: Name in the folder; empty unless done.
        bytes: Size of the file.
        reason: Why it is not done.
    """

    item: str
    url: str
    status: Status
    file: str = ""
    bytes: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Limits:
    """Bounds of a download.

    Attributes:
        total_bytes: Most bytes in the folder, those of earlier calls included.
        file_bytes: Most bytes of one file.
        files: Most files that are asked for in this call; ``None`` for all.
        workers: Files that are fetched at the same time.
        per_host: Of these, from one host.
    """

    total_bytes: int = 2 << 30
    file_bytes: int = 32 << 20
    files: int | None = None
    workers: int = 8
    per_host: int = 4


@dataclass(eq=False)
class Fetched:
    """The state of a folder after a call.

    Attributes:
        entries: The last word on every address, by item.
        left: Addresses that a limit kept from being asked.
        fresh: Files that this call fetched.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    left: int = 0
    fresh: int = 0

    def counts(self) -> dict[str, int]:
        """Returns the number of addresses by what became of them, the most frequent first."""
        words = (entry.reason or entry.status for entry in self.entries.values())
        return dict(Counter(words).most_common())


def find_urls(items: pa.Table, modality: str) -> dict[str, str]:
    """Returns the address of each item that has one, by raw identifier.

    Raises:
        DataError: If there is none.
    """
    columns = [name for name in COLUMNS[modality] if name in items.column_names]
    urls: dict[str, str] = {}
    ids = items.column("id").to_pylist()
    for item, *cells in zip(
        ids, *(items.column(name).to_pylist() for name in columns), strict=True
    ):
        for cell in cells:
            if isinstance(cell, str) and _ADDRESS.match(cell.strip()):
                urls[str(item)] = cell.strip()
                break
    if not urls:
        wanted = " or ".join(repr(name) for name in COLUMNS[modality])
        raise DataError(
            f"the items have no addresses of {modality}s: no http or https URL in column {wanted} "
            f"(the item table has {', '.join(items.column_names)})",
            hint="Choose a dataset whose metadata has URLs, such as Amazon's with `metadata`.",
        )
    return urls


def fetch_media(
    urls: Mapping[str, str],
    folder: Path,
    *,
    modality: str,
    limits: Limits | None = None,
    patience: Patience | None = None,
    retry_failed: bool = False,
    advance: Callable[..., None] = lambda n=1, note="": None,
) -> Fetched:
    """Downloads media into ``FOLDER/<item>.<suffix>``.

    What an earlier call fetched, or found to be gone for good, is not asked for again. A second
    process waits for the first.

    Args:
        urls: Address by raw identifier of the item.
        folder: Where to; made if need be.
        modality: ``image`` or ``audio``: other content is refused.
        limits: Bounds.
        patience: Timeouts and repetitions.
        retry_failed: Ask again also for what failed for good.
        advance: Told about every address that is settled.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    limits, patience = limits or Limits(), patience or Patience()
    with (
        waiting_lock(folder / ".lock", f"downloads into {folder}"),
        storage_errors(folder),
        _Journal.opened(folder) as journal,
    ):
        state = Fetched({item: journal.entries[item] for item in urls if item in journal.entries})
        todo = []
        for item, url in urls.items():
            entry = state.entries.get(item)
            if entry is not None and entry.url == url and _is_settled(entry, folder, retry_failed):
                advance()
            else:
                todo.append((item, url))
        present = sum(entry.bytes for entry in journal.entries.values() if entry.status == "done")
        work = _Work(folder, modality, limits, patience, budget=limits.total_bytes - present)
        chosen = todo if limits.files is None else todo[: limits.files]
        state.left = len(todo) - len(chosen)
        for entry in work.run(chosen):
            if entry is None:
                state.left += 1
                continue
            journal.add(entry)
            state.entries[entry.item] = entry
            state.fresh += entry.status == "done"
            advance(note=f"{state.fresh:,} files")
    return state


def _is_settled(entry: Entry, folder: Path, retry_failed: bool) -> bool:
    if entry.status == "done":
        try:
            return (folder / entry.file).stat().st_size == entry.bytes
        except OSError:
            return False
    return entry.status == "failed" and not retry_failed


class _Work:
    """Threads that fetch, few from each host, until the bytes are used up."""

    def __init__(
        self, folder: Path, modality: str, limits: Limits, patience: Patience, *, budget: int
    ) -> None:
        self.folder = folder
        self.modality = modality
        self.limits = limits
        self.patience = patience
        self._budget = budget
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, todo: Sequence[tuple[str, str]]) -> Iterator[Entry | None]:
        """Yields an entry for each address as it is settled, ``None`` where a limit forbade it."""
        queues: dict[str, deque[tuple[str, str]]] = {}
        for item, url in todo:
            queues.setdefault(_host(url), deque()).append((item, url))
        busy: Counter[str] = Counter()
        silent: Counter[str] = Counter()
        running: dict[Future[Entry | None], str] = {}
        pool = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="fetch")
        try:
            while queues or running:
                for host in list(queues):
                    if silent[host] >= SILENT:
                        for item, url in queues.pop(host):
                            yield Entry(item, url, "later", reason="host does not answer")
                        continue
                    while (
                        queues[host]
                        and len(running) < self.limits.workers
                        and busy[host] < self.limits.per_host
                    ):
                        running[pool.submit(self._fetch, *queues[host].popleft())] = host
                        busy[host] += 1
                    if not queues[host]:
                        del queues[host]
                if not running:
                    continue
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    host, entry = running.pop(future), future.result()
                    busy[host] -= 1
                    unheard = entry is not None and entry.reason in UNHEARD
                    silent[host] = silent[host] + 1 if unheard else 0
                    yield entry
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, item: str, url: str) -> Entry | None:
        left = self._budget
        if left <= 0:
            return None
        limit = min(self.limits.file_bytes, left)
        answer = get(url, limit=limit, patience=self.patience, stop=self._stop)
        if answer.reason == "too large" and limit < self.limits.file_bytes:
            return None  # it may fit where more bytes are allowed
        if answer.reason:
            status: Status = "later" if answer.may_recover else "failed"
            return Entry(item, url, status, reason=answer.reason)
        suffix = kind_of(answer.data, self.modality)
        if suffix is None:
            return Entry(item, url, "failed", reason=f"not {_a(self.modality)}")
        with self._lock:
            if len(answer.data) > self._budget:  # other threads were faster
                return None
            self._budget -= len(answer.data)
        name = f"{file_stem(item)}{suffix}"
        write_bytes(self.folder / name, answer.data)
        return Entry(item, url, "done", name, len(answer.data))


def _host(url: str) -> str:
    found = _ADDRESS.match(url)
    return found[1].lower() if found else ""


def _a(modality: str) -> str:
    return "an image" if modality == "image" else "a sound"


class _Journal:
    """Entries as JSON lines, each appended as it is settled; a line torn by a kill is ignored."""

    def __init__(self, path: Path) -> None:
        self.entries: dict[str, Entry] = {}
        lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
        for line in lines:
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):
                continue
            self.entries[entry.item] = entry
        # Written anew once: without torn lines and what later lines replaced.
        write_text(path, "".join(map(_line, self.entries.values())))
        self._file = path.open("a", encoding="utf-8")

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[_Journal]:
        folder.mkdir(parents=True, exist_ok=True)
        journal = cls(folder / JOURNAL)
        try:
            yield journal
        finally:
            journal._file.close()

    def add(self, entry: Entry) -> None:
        self.entries[entry.item] = entry
        self._file.write(_line(entry))
        self._file.flush()


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"
