"""The tables of docs/reference-numbers.md against the records, and how they are written."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from fake_run import write_fake_run
from toy_registry import write_component, write_registry

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.load import load_pipeline

SCRIPT = Path(__file__).parent.parent.parent / "docs" / "reference_table.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(table: str) -> list[list[str]]:
    """Returns the body of a Markdown table."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(("name", "published"), [("published", True), ("own", False)])
def test_the_page_has_a_row_for_each_number_of_the_records(
    script: ModuleType, name: str, published: bool
):
    expected = [
        row[:5] + row[-1:]
        for check in script.checks()
        for is_published, row in script.rows(check, None)
        if is_published is published
    ]
    written = cells(script.written(name))
    assert [tuple(row[:5] + row[-1:]) for row in written] == expected
    for row in written:
        number, ours, difference, minutes = row[4:8]
        assert (ours == "–") == (difference == "–") == (minutes == "–")
        if ours != "–":
            percent = float(difference.removesuffix(" %").replace("−", "-"))
            relative = 100 * (float(ours) / float(number) - 1)
            # Both are rounded: the figure to four places, the difference to one.
            assert percent == pytest.approx(relative, abs=0.0501 + 100 * 0.00005 / float(number))


@pytest.fixture
def page(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty page, a registry with one number, and its run with another one."""
    records = write_registry(tmp_path / "records")
    write_component(records, "popularity", ("full", "hit@10", 0.125))
    monkeypatch.setattr(Catalogue, "record_folders", lambda _: (records,))
    loaded = load_pipeline(records / "toy.pipeline.yaml")
    for number, seed in enumerate((7, 8)):
        folder = write_fake_run(tmp_path / "runs" / f"toy-{number}", skill={"popularity": 0.2})
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["pipeline"] = {**loaded.resolved(), "seed": seed, "compute": {"threads": 3}}
        del manifest["pipeline"]["evaluate"]["significance"]  # as if it had not existed yet
        (folder / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "runs" / "toy-broken").mkdir()
    (tmp_path / "runs" / "toy-broken" / "manifest.json").write_text("{")
    page = tmp_path / "page.md"
    text = "before\n<!-- published:begin -->\nold\n<!-- published:end -->\nafter\n"
    page.write_text(text + text.replace("published", "own"))
    monkeypatch.setattr(script, "PAGE", page)
    return page


def test_the_tables_are_written_between_their_marks(script: ModuleType, page: Path, tmp_path: Path):
    script.main([str(tmp_path / "runs")])
    ((*head, ours, difference, minutes, command),) = cells(script.written("published"))
    assert head == ["popularity", "toy", "full", "hit@10", "0.1250"]
    run = json.loads((tmp_path / "runs" / "toy-0" / "metrics.json").read_text())
    mean = run["recommenders"]["popularity"]["full"]["hit@10"]["mean"]
    assert ours == f"{mean:.4f}"
    assert difference == f"{100 * (mean / 0.125 - 1):+.1f} %"
    assert minutes == f"{76.5 / 60:.1f}"
    assert command == "`dynmm registry verify toy`"
    assert cells(script.written("own")) == []
    text = page.read_text()
    assert text.startswith("before\n<!-- published:begin -->\n| ")
    assert text.count("after\n") == 2
    assert "old" not in text


def test_a_number_without_a_run_has_dashes(script: ModuleType, page: Path, tmp_path: Path):
    script.main([str(tmp_path / "nowhere")])
    ((*_, ours, difference, minutes, _),) = cells(script.written("published"))
    assert (ours, difference, minutes) == ("–", "–", "–")
