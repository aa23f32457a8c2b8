"""Files that the user has already are found, checked and copied, and never guessed at."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from dynmm_framework.artifacts import local
from dynmm_framework.artifacts.record_types import DatasetRecord
from dynmm_framework.artifacts.sources import Fetcher
from dynmm_framework.errors import ArtifactError

FILES = {"a.csv": b"user,item\n1,2\n", "deep/b.csv": b"item\n2\n"}


def digests(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }


def record(**fields: Any) -> DatasetRecord:
    """Returns a record whose only source is a port that nobody listens on."""
    base = {"version": 1, "kind": "dataset", "name": "tiny", "summary": "s"}
    sources = [{"url": "https://localhost:1/f/"}]
    return DatasetRecord.model_validate(
        {**base, "files": digests(FILES), "sources": sources, **fields}
    )


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of the user's that holds the files, each in a place of its own."""
    for place, name in (("x/y", "a.csv"), ("z", "b.csv")):
        path = tmp_path / "own" / place / name
        path.parent.mkdir(parents=True)
        path.write_bytes(FILES["a.csv" if name == "a.csv" else "deep/b.csv"])
    return tmp_path / "own"


def offline(tmp_path: Path, own: Path | str) -> Fetcher:
    return Fetcher(tmp_path / "cache", offline=True, folder=own)


def test_files_are_copied_from_wherever_they_are_below(tmp_path: Path, own: Path) -> None:
    lines: list[str] = []
    fetcher = Fetcher(tmp_path / "cache", offline=True, folder=own, log=lines.append)
    folder = fetcher.fetch(record())
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert lines == [f"taking dataset tiny from {own}"]
    assert {finding.status for finding in fetcher.verify(record())} == {"ok"}
    (own / "x/y/a.csv").unlink()  # from now on the cache has them
    assert fetcher.fetch(record()) == folder
    assert Fetcher(tmp_path / "cache", offline=True).fetch(record()) == folder


def test_of_several_files_of_the_name_the_right_one_is_taken(tmp_path: Path, own: Path) -> None:
    (own / "a.csv").write_bytes(b"nearer, and another content\n")
    folder = offline(tmp_path, own).fetch(record())
    assert (folder / "a.csv").read_bytes() == FILES["a.csv"]


def test_the_first_set_of_files_that_is_whole_is_taken(tmp_path: Path, own: Path) -> None:
    other = {"raw.dat": b"1::2\n"}
    sources = [
        {"url": "https://localhost:1/raw.dat", "files": digests(other)},
        {"url": "https://localhost:1/f/"},
    ]
    folder = offline(tmp_path, own).fetch(record(sources=sources))
    assert sorted(path.name for path in folder.iterdir()) == ["a.csv", "deep"]


def test_another_content_is_one_error_with_both_digests(tmp_path: Path, own: Path) -> None:
    wrong = b"user,item\n1,3\n"
    (own / "x/y/a.csv").write_bytes(wrong)
    for fetcher in (offline(tmp_path, own), Fetcher(tmp_path / "cache", folder=own)):
        with pytest.raises(ArtifactError) as caught:
            fetcher.fetch(record())
        expected = hashlib.sha256(FILES["a.csv"]).hexdigest()
        assert caught.value.message == (
            "a file has another content than dataset tiny asks for:\n"
            f"  {own}/x/y/a.csv is not a.csv:\n"
            f"    SHA-256 {hashlib.sha256(wrong).hexdigest()}, 14 bytes, instead of\n"
            f"    SHA-256 {expected}, 14 bytes"
        )
        assert "dynmm registry show" in caught.value.hint
    assert not list(tmp_path.glob("cache/datasets/tiny/*"))


def test_what_is_not_there_is_named_and_the_way_by_hand(tmp_path: Path, own: Path) -> None:
    (own / "z/b.csv").unlink()
    with pytest.raises(ArtifactError) as caught:
        offline(tmp_path, own).fetch(record())
    assert caught.value.message == f"dataset tiny is not in {own}: it has no deep/b.csv"
    assert caught.value.hint.startswith("Name another folder, fetch it without one, or put these")
    assert "dynmm data fetch tiny --from FOLDER" in caught.value.hint


def test_the_network_is_asked_for_what_the_folder_lacks(tmp_path: Path, own: Path) -> None:
    (own / "z/b.csv").unlink()
    lines: list[str] = []
    elsewhere = record(sources=[{"url": "s3://bucket/"}])
    with pytest.raises(ArtifactError, match=r"1\. s3://bucket/: no plugin fetches"):
        Fetcher(tmp_path / "cache", folder=own, log=lines.append).fetch(elsewhere)
    assert lines[0] == f"dataset tiny is not in {own}: it has no deep/b.csv"


def test_a_record_without_sources_is_served_by_hand(tmp_path: Path, own: Path) -> None:
    by_hand = record(sources=[], manual="Ask the authors.")
    with pytest.raises(ArtifactError) as caught:
        Fetcher(tmp_path / "cache").fetch(by_hand)
    assert caught.value.message == "dataset tiny has to be fetched by hand"
    for part in ("a.csv (14 bytes)", "--from FOLDER", "Ask the authors."):
        assert part in caught.value.hint
    assert Fetcher(tmp_path / "cache", folder=own).fetch(by_hand).is_dir()
    assert Fetcher(tmp_path / "cache").fetch(by_hand).is_dir()


def test_a_record_without_files_cannot_recognise_any(tmp_path: Path, own: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        offline(tmp_path, own).fetch(record(files={}, sources=[], manual="Unpack it."))
    assert caught.value.message == (
        f"dataset tiny has to be fetched by hand and is not in {own}: "
        "the record lists no files by which it could be recognised"
    )
    assert caught.value.hint == "Unpack it."


def test_a_folder_that_is_none(tmp_path: Path, own: Path) -> None:
    for path, reason in ((tmp_path / "gone", "does not exist"), (own / "z/b.csv", "is a file")):
        with pytest.raises(ArtifactError, match=f"the folder {path} {reason}"):
            offline(tmp_path, path).fetch(record())


def test_the_search_is_bounded(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = own.joinpath(*"12345678", "9")
    deep.mkdir(parents=True)
    (own / "z/b.csv").rename(deep / "b.csv")
    (own / ".hidden").mkdir()
    (own / ".hidden" / "b.csv").write_bytes(FILES["deep/b.csv"])
    with pytest.raises(ArtifactError, match=r"it has no deep/b\.csv"):
        offline(tmp_path, own).fetch(record())
    monkeypatch.setattr(local, "MAX_ENTRIES", 5)
    with pytest.raises(ArtifactError, match="more than 5 files under"):
        offline(tmp_path, own).fetch(record())
