"""Documentation that a machine can check against the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from dynmm_framework.engine.metrics import MetricsDocument

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path for pattern in ("*.md", "docs/*.md", "benchmarks/*.md") for path in ROOT.glob(pattern)
)


def test_the_schema_of_metrics_is_the_code_s():
    written = json.loads((ROOT / "docs" / "metrics.schema.json").read_text())
    assert written == MetricsDocument.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(written)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_rooms_of_the_house_are_those_of_the_docs():
    text = (ROOT / "docs" / "README.md").read_text()
    rooms = {
        path.stem
        for path in (ROOT / "dynmm_framework").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert {room for room in rooms if f"`{room}`" not in text} == set()
