"""Fetches the files of datasets and models into the cache, from the first source that has them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote, urlsplit

from dynmm_framework.artifacts.atomic import atomic_folder, read_json, storage_errors, write_json
from dynmm_framework.artifacts.digests import FileDigest, mismatch
from dynmm_framework.artifacts.download import Advance, SourceFailure, download
from dynmm_framework.artifacts.hub import download_from_hub
from dynmm_framework.artifacts.local import locate
from dynmm_framework.artifacts.locks import waiting_lock
from dynmm_framework.artifacts.record_types import (
    Files,
    FilesRecord,
    PypiSource,
    Source,
    UrlSource,
    layout_id,
)
from dynmm_framework.artifacts.redirects import SCHEMES
from dynmm_framework.artifacts.unpack import unpack
from dynmm_framework.artifacts.wheels import download_wheel
from dynmm_framework.errors import ArtifactError

Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Opens a progress bar: ``progress(description, total)``; the unit is bytes."""

_logger = logging.getLogger("dynmm")


class FetchHook(Protocol):
    """The hook ``dynmm_fetch_artifact``: ``partial(catalogue.first, "dynmm_fetch_artifact")``."""

    def __call__(self, *, uri: str, dest: Path, sha256: str) -> Path | None:
        """Fetches one file, or returns ``None`` if the address is not of a known kind."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What :meth:`Fetcher.verify` says about one file, or about a record without files.

    Attributes:
        record: ``dataset/movielens_100k``.
        file: The file in the cache; ``None`` if nothing is there.
        status: ``ok``; ``absent`` (not fetched yet); ``damaged``; ``manual`` (no source).
        message: The reason if it is not ``ok``.
    """

    record: str
    file: Path | None
    status: Literal["ok", "absent", "damaged", "manual"]
    message: str = ""


def default_cache() -> Path:
    """Returns the cache folder: ``DYNMM_CACHE``, or the platform's folder for user caches."""
    chosen = os.environ.get("DYNMM_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("dynmm", appauthor=False))


class Fetcher:
    """Delivers the files of datasets and models.

    They lie in ``<cache>/<kind>s/<name>/<digest of the list of files>/``, complete and checked or
    not at all.

    Args:
        cache: Root of the cache; see :func:`default_cache`.
        offline: Never touch the network.
        progress: Opens progress bars; none are shown without it.
        fetch_hook: Fetches addresses of schemes that are not built in.
        log: Receives a line for each source that is tried.
        pip_arguments: Further arguments of ``pip download``.
        folder: Where the user has files already; searched, with its subfolders, before the
            network is asked.
    """

    def __init__(
        self,
        cache: Path | str,
        *,
        offline: bool = False,
        progress: Progress | None = None,
        fetch_hook: FetchHook | None = None,
        log: Callable[[str], None] | None = None,
        pip_arguments: Sequence[str] = (),
        folder: Path | str | None = None,
    ) -> None:
        self.cache = Path(cache).absolute()
        self.offline = offline
        self._own = None if folder is None else Path(folder).expanduser()
        self._progress = progress
        self._hook = fetch_hook
        self._log = log or _logger.info
        self._pip_arguments = tuple(pip_arguments)

    def fetch(self, record: FilesRecord) -> Path:
        """Returns the folder that holds exactly the record's files, fetched if need be.

        Files that are already there are compared by size and time of change; those changed since
        they were last checked, or put there by hand, are read and compared by digest.

        Raises:
            ArtifactError: If no source delivers them, with every source's reason; if they are
                not there and ``offline`` is set, or the record has no source, with what to put
                where by hand; if a file of the user's folder has the right name and another
                content; if the disk is full or not writable.
        """
        ready, reason = self._find(record)
        if ready is not None:
            return ready
        if self._own is None:
            self._require_network(record, reason)
        lock = self.cache / ".locks" / f"{record.kind}-{record.name}.lock"
        with waiting_lock(lock, f"fetches {_title(record)}"), storage_errors(self.cache):
            ready, _ = self._find(record)
            if ready is not None:
                return ready
            if self._own is not None:
                try:
                    return self._from_folder(record, self._own)
                except SourceFailure as failure:
                    reason = f"is not in {self._own}: {failure}"
                self._require_network(record, reason)
                self._log(f"{_title(record)} {reason}")
            failures = []
            for number, source in enumerate(record.sources, start=1):
                self._log(f"fetching {_title(record)} from {source.label}")
                try:
                    return self._fetch_from(record, source)
                except SourceFailure as failure:
                    failures.append(f"  {number}. {source.label}: {failure}")
        raise ArtifactError(
            f"{_title(record)} could not be fetched; sources tried:\n" + "\n".join(failures),
            hint=f"Check the network and try again, or {self._by_hand(record)}",
        )

    def folder(self, record: FilesRecord) -> Path | None:
        """Returns the folder of a record's files if they are in the cache, by their sizes."""
        for files in record.layouts:
            folder = self._folder(record, files)
            if not any(mismatch(folder / name, files[name], content=False) for name in files):
                return folder
        return None

    def verify(self, record: FilesRecord) -> list[Finding]:
        """Reads a record's files in the cache and compares their digests; fetches nothing."""
        name = f"{record.kind}/{record.name}"
        if not record.layouts:
            return [Finding(name, None, "manual", "no source; get it by hand")]
        findings: list[Finding] = []
        for files in record.layouts:
            folder = self._folder(record, files)
            if not folder.is_dir():
                continue
            for file, expected in files.items():
                problem = mismatch(folder / file, expected)
                status: Literal["ok", "damaged"] = "damaged" if problem else "ok"
                findings.append(Finding(name, folder / file, status, problem))
        return findings or [Finding(name, None, "absent", "not fetched yet")]

    def _folder(self, record: FilesRecord, files: Files) -> Path:
        return self.cache / f"{record.kind}s" / record.name / layout_id(files)

    def _find(self, record: FilesRecord) -> tuple[Path | None, str]:
        """Returns the folder if it is complete, and otherwise why it is not."""
        reason = "is not in the cache"
        for files in record.layouts:
            folder = self._folder(record, files)
            if not folder.is_dir():
                continue
            problem = self._problem(record, folder, files)
            if not problem:
                return folder, ""
            reason = f"is damaged in the cache ({folder}/{problem})"
            _logger.warning("%s %s", _title(record), reason)
        return None, reason

    def _problem(self, record: FilesRecord, folder: Path, files: Files) -> str:
        note = self._note(record, files)
        try:
            checked = read_json(note)
        except ArtifactError:
            checked = None
        state: dict[str, list[int]] = {}
        for name, expected in files.items():
            problem = mismatch(folder / name, expected, content=False)
            if problem:
                return f"{name} {problem}"
            status = (folder / name).stat()
            state[name] = [status.st_size, status.st_mtime_ns]
        if checked == state:
            return ""
        for name, expected in files.items():
            problem = mismatch(folder / name, expected)
            if problem:
                return f"{name} {problem}"
        with suppress(ArtifactError):  # a cache that cannot be written is checked every time
            write_json(note, state)
        return ""

    def _note(self, record: FilesRecord, files: Files) -> Path:
        return self.cache / ".checked" / f"{record.kind}-{record.name}-{layout_id(files)}.json"

    def _require_network(self, record: FilesRecord, reason: str) -> None:
        """Raises an error that says what to do if nothing can or may be fetched."""
        if not record.sources:
            aim = "has to be fetched by hand"
            message = aim if self._own is None else f"{aim} and {reason}"
            hint = record.manual.strip()
            if record.layouts:
                hint = f"Do so, and {self._by_hand(record)}"
            elif record.homepage:
                hint = f"Home page: {record.homepage}\n  {hint}"
            raise ArtifactError(f"{_title(record)} {message}", hint=hint)
        if self.offline and self._own is None:
            raise ArtifactError(
                f"{_title(record)} {reason}, and fetching it is not allowed (offline)",
                hint=f"Run once without --offline, or {self._by_hand(record)}",
            )
        if self.offline:
            raise ArtifactError(
                f"{_title(record)} {reason}",
                hint=f"Name another folder, fetch it without one, or {self._by_hand(record)}",
            )

    def _from_folder(self, record: FilesRecord, own: Path) -> Path:
        """Copies a record's files from the user's folder into the cache."""
        files, places = locate(own, record.layouts, title=_title(record))
        self._log(f"taking {_title(record)} from {own}")
        folder = self._folder(record, files)
        total = sum(expected.bytes for expected in files.values())
        with (
            atomic_folder(folder) as temporary,
            self._bar(record, total) as advance,
        ):
            for name, expected in files.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(places[name], temporary / name)
                advance(expected.bytes)
                if problem := mismatch(temporary / name, expected):
                    raise SourceFailure(f"{places[name]} changed while it was copied: {problem}")
        self._problem(record, folder, files)
        return folder

    def _fetch_from(self, record: FilesRecord, source: Source) -> Path:
        files = record.files_of(source)
        folder = self._folder(record, files)
        partial = self.cache / ".partial" / f"{record.kind}-{record.name}-{layout_id(files)}"
        with atomic_folder(folder) as temporary:
            if isinstance(source, UrlSource):
                self._from_url(record, source, files, partial, temporary)
            elif isinstance(source, PypiSource):
                self._from_wheel(record, source, files, partial, temporary)
            else:
                download_from_hub(source.hub, files, partial / "hub", temporary)
            for name, expected in files.items():
                problem = mismatch(temporary / name, expected)
                if problem:
                    raise SourceFailure(f"{name} {problem}")
        shutil.rmtree(partial, ignore_errors=True)
        self._problem(record, folder, files)
        return folder

    def _from_url(
        self, record: FilesRecord, source: UrlSource, files: Files, partial: Path, folder: Path
    ) -> None:
        if source.archive is not None:
            archive = source.archive
            expected = FileDigest(sha256=archive.sha256, bytes=archive.bytes)
            part = partial / f"{archive.sha256[:16]}.part"
            with self._bar(record, archive.bytes) as advance:
                self._get(source.url, part, expected, advance)
            unpack(part, archive.format, archive.folder, files, folder)
            return
        with self._bar(record, sum(expected.bytes for expected in files.values())) as advance:
            parts = {}
            for name, expected in files.items():
                url = source.url + quote(name) if source.url.endswith("/") else source.url
                parts[name] = partial / f"{expected.sha256[:16]}.part"
                self._get(url, parts[name], expected, advance)
        for name, part in parts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, folder / name)  # two names may have one content

    def _get(self, url: str, part: Path, expected: FileDigest, advance: Advance) -> None:
        part.parent.mkdir(parents=True, exist_ok=True)
        scheme = urlsplit(url).scheme
        if scheme in SCHEMES:
            download(url, part, expected, advance=advance)
            return
        try:
            answer = self._hook(uri=url, dest=part, sha256=expected.sha256) if self._hook else None
        except Exception as error:
            raise SourceFailure(f"the plugin for {scheme}:// failed: {error!r}") from error
        if answer is None:
            raise SourceFailure(f"no plugin fetches {scheme}:// addresses")
        problem = mismatch(part, expected)
        if problem:
            part.unlink(missing_ok=True)
            raise SourceFailure(f"the file of the plugin for {scheme}:// {problem}")
        advance(expected.bytes)

    def _from_wheel(
        self, record: FilesRecord, source: PypiSource, files: Files, partial: Path, folder: Path
    ) -> None:
        scratch = partial / "pip"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            with self._bar(record, source.pypi.bytes) as advance:
                wheel = download_wheel(
                    source.pypi, scratch, advance=advance, arguments=self._pip_arguments
                )
            unpack(wheel, "zip", source.pypi.folder, files, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _bar(self, record: FilesRecord, total: int | None) -> AbstractContextManager[Advance]:
        if self._progress is None:
            return nullcontext(_no_bar)
        return self._progress(f"fetching {record.name}", total)

    def _by_hand(self, record: FilesRecord) -> str:
        files = record.layouts[0]
        lines = [f"    {name} ({digest.bytes:,} bytes)" for name, digest in files.items()]
        text = f"put these files into {self._folder(record, files)}:\n" + "\n".join(lines)
        text += f"\n  If a folder of yours has them: dynmm data fetch {record.name} --from FOLDER"
        if record.homepage:
            text += f"\n  Home page: {record.homepage}"
        return text + (f"\n  {record.manual.strip()}" if record.manual else "")


def _title(record: FilesRecord) -> str:
    return f"{record.kind} {record.name}"


def _no_bar(n: int = 1, note: str = "") -> None:
    """Shows nothing."""
