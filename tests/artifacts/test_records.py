"""Records are checked as they are read, with the line of every problem."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dynmm_framework.artifacts.record_types import UrlSource, layout_id
from dynmm_framework.artifacts.records import ComponentRecord, DatasetRecord, Registry
from dynmm_framework.errors import ArtifactError, ConfigError

SHA = "0123456789abcdef" * 4
DATASET = f"""\
version: 1
kind: dataset
name: tiny
summary: A tiny dataset
homepage: https://example.org/tiny
paper: {{title: T, authors: [A, B], venue: V, year: 2020}}
files:
  a.csv: {{sha256: {SHA}, bytes: 3}}
sources:
  - url: https://example.org/tiny.zip
    archive: {{format: zip, folder: in/side, sha256: {SHA}, bytes: 9}}
    files:
      b.csv: {{sha256: {SHA}, bytes: 4}}
  - pypi: {{wheel: tiny==1.0, folder: tiny/data}}
  - hub: {{repo: owner/tiny, revision: abc}}
  - url: s3://bucket/a.csv
"""
COMPONENT = """\
version: 1
kind: component
name: sasrec
summary: Self-attention
provides: backbone
distribution: acme-recsys
extra: torch
metrics:
  - pipeline: beauty
    dataset: amazon_beauty
    protocol: full
    metric: ndcg@10
    value: 0.0318
    tolerance: 0.05
    source: somebody 2020
"""


def _write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Registry.load([_write(tmp_path, bad=text)])
    assert "Correct the record" in caught.value.hint
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_records_are_found_in_any_subfolder_by_kind_and_name(tmp_path: Path) -> None:
    _write(tmp_path / "deep" / "er", a=DATASET)
    registry = Registry.load([_write(tmp_path, b=COMPONENT)])
    assert [record.name for record in registry.records()] == ["tiny", "sasrec"]
    assert [record.name for record in registry.records("component")] == ["sasrec"]
    assert registry.get("dataset", "Tiny") is registry.find("tiny")
    assert registry.get("model", "tiny") is None
    assert registry.path(registry.find("tiny")) == tmp_path / "deep" / "er" / "a.yaml"
    component = registry.find("component/SASRec")
    assert isinstance(component, ComponentRecord)
    assert component.metrics[0].value == 0.0318
    assert registry.install_hint("SASRec") == "pip install 'acme-recsys[torch]'"
    assert registry.install_hint("tiny") is None


def test_sources_keep_their_order_and_may_deliver_other_files(tmp_path: Path) -> None:
    record = Registry.load([_write(tmp_path, a=DATASET)]).find_files("tiny")
    assert isinstance(record, DatasetRecord)
    assert [source.label for source in record.sources] == [
        "https://example.org/tiny.zip",
        "wheel tiny==1.0",
        "hub owner/tiny@abc",
        "s3://bucket/a.csv",
    ]
    assert isinstance(record.sources[0], UrlSource)
    assert [list(record.files_of(source)) for source in record.sources] == [
        ["b.csv"],
        ["a.csv"],
        ["a.csv"],
        ["a.csv"],
    ]
    first, second = record.layouts
    assert layout_id(first) != layout_id(second)


def test_all_problems_of_all_records_at_once_with_their_lines(tmp_path: Path) -> None:
    bad = DATASET.replace("summary", "sumary").replace("year: 2020", "year: x")
    bad = bad.replace("tiny==1.0", "tiny>=1.0").replace("  a.csv:", "  ../a.csv:")
    bad = bad.replace("hub: {repo: owner/tiny, revision: abc}", "hub: {repo: owner/tiny}")
    bad = bad.replace("s3://bucket/a.csv", "/etc/passwd")
    with pytest.raises(ConfigError) as caught:
        Registry.load([_write(tmp_path, a=bad, b="kind: [", c="name: x\n", d="kind: modle\n")])
    found = [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]
    assert found == [
        "a.yaml:1: summary: is missing",
        "a.yaml:4: sumary: unknown field; did you mean summary?",
        "a.yaml:6: paper.year: Input should be a valid integer, "
        "unable to parse string as an integer",
        "a.yaml:8: files.../a.csv: '../a.csv' must be a relative path with forward slashes "
        "and no '..'",
        "a.yaml:14: sources.1.pypi.wheel: 'tiny>=1.0' must be of the form name==1.0",
        "a.yaml:15: sources.2.hub.revision: is missing",
        "a.yaml:16: sources.3.url: write it as scheme://host/path",
        "b.yaml:1: not valid YAML: expected the node content, but found '<stream end>', "
        "while parsing a flow node",
        "c.yaml:1: kind: is missing; it must be one of: dataset, model, component, pipeline",
        "d.yaml:1: kind: must be one of: dataset, model, component, pipeline; it is 'modle'",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("name: tiny", "name: Tiny-1"), "bad.yaml:3: name: write it as 'tiny_1'"),
        (("version: 1", "version: 2"), "bad.yaml:1: version: is 2, and this installation reads 1"),
        (("https://example.org/tiny\n", "https://me:pw@example.org/\n"), "no user name and no"),
        (("  - url: s3://bucket/a.csv\n", "  - {}\n"), "bad.yaml:16: sources.3: a source has exac"),
        (
            ("s3://bucket/a.csv", "s3://b\n    pypi: {wheel: a==1}"),
            "exactly one of: url, pypi",
        ),
        (("  a.csv: ", "  /a.csv: "), "'/a.csv' must be a relative path"),
        (("bytes: 3", "bytes: -1"), "bad.yaml:8: files.a.csv.bytes: "),
        ((f"a.csv: {{sha256: {SHA}", "a.csv: {sha256: ABC"), "files.a.csv.sha256: "),
        (("tiny==1.0", "--index-url=x==1"), "must be of the form name==1.0"),
    ],
)
def test_one_problem(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    assert change[0] in DATASET
    (found,) = _problems(tmp_path, DATASET.replace(*change))
    assert problem in found
    assert found.startswith("bad.yaml:")


def test_sources_must_say_what_they_deliver(tmp_path: Path) -> None:
    head = "version: 1\nkind: model\nname: m\nsummary: s\n"
    (found,) = _problems(tmp_path, head)
    assert "name at least one source, or say under 'manual'" in found
    (found,) = _problems(tmp_path, head + "sources: [{url: https://x.org/a}]\n")
    assert "source 1 (https://x.org/a) has no files" in found
    files = f"files: {{a: {{sha256: {SHA}, bytes: 1}}, b: {{sha256: {SHA}, bytes: 1}}}}\n"
    (found,) = _problems(tmp_path, head + files + "sources: [{url: https://x.org/a}]\n")
    assert "is one file, and 2 are listed" in found
    _write(tmp_path, bad=head + files + "sources: [{url: https://x.org/a/}]\n")
    assert Registry.load([tmp_path]).find("m").name == "m"
    _write(tmp_path, bad=head + "manual: ask the authors\n")
    assert Registry.load([tmp_path]).find_files("m").layouts == ()


PIPELINE = """\
version: 1
kind: pipeline
name: tiny
summary: A tiny pipeline
file: tiny.pipeline.yaml
"""


def test_pipelines_lie_beside_their_records(tmp_path: Path) -> None:
    (tmp_path / "tiny.pipeline.yaml").write_text("version: 1\n")
    (tmp_path / "other.pipeline.yml").write_text("no record at all\n")
    registry = Registry.load([_write(tmp_path, a=PIPELINE)])
    assert [record.name for record in registry.records()] == ["tiny"]
    assert registry.pipeline_file("tiny") == tmp_path / "tiny.pipeline.yaml"
    with pytest.raises(ArtifactError, match=r"no pipeline 'tinny'; did you mean tiny\?"):
        registry.pipeline_file("tinny")


def test_a_pipeline_that_is_not_there_is_a_problem_of_its_record(tmp_path: Path) -> None:
    (tmp_path / "tinny.pipeline.yaml").write_text("version: 1\n")
    (found,) = _problems(tmp_path, PIPELINE)
    assert found == (
        "bad.yaml:5: file: there is no tiny.pipeline.yaml beside it; "
        "did you mean tinny.pipeline.yaml?"
    )
    (found,) = _problems(tmp_path, PIPELINE.replace("tiny.pipeline.yaml", "tiny.yaml"))
    assert found == (
        "bad.yaml:5: file: 'tiny.yaml' must be a file whose name ends with .pipeline.yaml"
    )


def test_files_without_sources_are_a_layout_of_their_own(tmp_path: Path) -> None:
    text = "version: 1\nkind: model\nname: m\nsummary: s\nmanual: ask\n"
    text += f"files: {{a: {{sha256: {SHA}, bytes: 1}}}}\n"
    record = Registry.load([_write(tmp_path, a=text)]).find_files("m")
    assert record.layouts == (record.files,)


def test_duplicates_name_both_files(tmp_path: Path) -> None:
    _write(tmp_path, a=DATASET, b=DATASET)
    with pytest.raises(ConfigError) as caught:
        Registry.load([tmp_path])
    assert str(caught.value.problems[0]) == (
        f"{tmp_path}/b.yaml: name: dataset 'tiny' is already defined in {tmp_path}/a.yaml"
    )


def test_one_folder_given_twice_is_no_duplicate(tmp_path: Path) -> None:
    _write(tmp_path / "sub", a=DATASET)
    assert len(Registry.load([tmp_path, tmp_path / "sub"]).records()) == 1


def test_lenient_load_keeps_the_good_records(tmp_path: Path) -> None:
    registry = Registry.load([_write(tmp_path, a=DATASET, b="kind: x\n")], strict=False)
    assert [record.name for record in registry.records()] == ["tiny"]
    assert len(registry.problems) == 1
    with pytest.raises(ArtifactError) as caught:
        registry.find("other")
    assert "A record was left out:" in caught.value.hint
    assert "b.yaml:1: kind: must be one of" in caught.value.hint


def test_unknown_name_gets_the_closest_match_and_the_list(tmp_path: Path) -> None:
    registry = Registry.load([_write(tmp_path, a=DATASET, b=COMPONENT)])
    with pytest.raises(ArtifactError) as caught:
        registry.find("tinny", ("dataset", "model"))
    assert caught.value.message == (
        "the registry has no dataset or model 'tinny'; did you mean tiny?"
    )
    assert caught.value.hint == "It has: tiny."
    with pytest.raises(ArtifactError, match="has no record 'x'"):
        registry.find("x")
    with pytest.raises(ArtifactError, match="No plugin provides such records"):
        Registry.load([]).find("x")


def test_one_name_of_two_kinds_asks_which(tmp_path: Path) -> None:
    other = DATASET.replace("kind: dataset", "kind: model")
    registry = Registry.load([_write(tmp_path, a=DATASET, b=other)])
    with pytest.raises(ArtifactError) as caught:
        registry.find("tiny")
    assert "'tiny' is the name of 2 records" in caught.value.message
    assert caught.value.hint == "Write dataset/tiny or model/tiny."
    assert registry.find("model/tiny").kind == "model"


def test_missing_folder_is_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="dynmm"):
        assert Registry.load([tmp_path / "gone"]).records() == ()
    assert f"{tmp_path / 'gone'} does not exist" in caplog.text
